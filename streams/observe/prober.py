"""Sends probe events through a running pipeline, and looks for their predictions at its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import orjson

from headrace.schemas.batch import RecordBatch
from headrace.schemas.canary import Canary, probe_device
from headrace.schemas.errors import HeadraceError
from headrace.schemas.input import Input
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prediction import Prediction
from headrace.schemas.topics import topics_of
from headrace.streams.bus.tail import Tail, tail_of
from headrace.streams.client.bus import BusWriter
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.client.partition import Partitioner
from headrace.streams.observe.attributes import Told
from headrace.streams.observe.canary_book import CanaryBook, outcome_of
from headrace.streams.producers.event_text import EventText

log = logging.getLogger("headrace.canary")


class ProbeEvents:
    """Writes probes as the pipeline's own devices write events.

    Args:
        spec: The pipeline's input.
        canary: What probes report.
        life: Tells the event ids of this `up` from those of any other.
    """

    def __init__(self, spec: Input, canary: Canary, life: str) -> None:
        self._spec, self._life = spec, life
        self._text = EventText(spec, "urn:headrace:canary")
        absent = float("nan")
        self._metrics = np.array([[canary.metrics.get(name, absent) for name in spec.metrics]])
        self._labels = [
            [orjson.dumps(one.values[0] if one.values else one.default)]
            for one in spec.attributes.values()
        ]

    def one(self, number: int, device: str, time_ms: int) -> bytes:
        """The value of one probe's record.

        Args:
            number: Of the probe, from 0.
            device: Whose it is.
            time_ms: Its event time, milliseconds since 1970.
        """
        (value,) = self._text.write(
            ids=[orjson.dumps(f"canary-{self._life}-{number}")],
            devices=[orjson.dumps(device)],
            times_ms=np.array([time_ms]),
            seqs=np.array([number]),
            labels=self._labels,
            metrics=self._metrics,
            raw=[b'""'],
            personal=[b'""'],
        )
        return value


class Prober:
    """One probe after another, each through another partition.

    A probe is known again by its device and its event time, whatever the input has for an id.

    Args:
        pipeline: The pipeline.
        canary: Its probes.
        options: Client options of the bus.
        book: Is told what became of each.
        life: Tells the probes of this `up` from those of any other.
        wall: Wall clock, seconds since 1970.

    Delivery: a probe is sent once; what becomes of it is counted once.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        canary: Canary,
        options: Mapping[str, Any],
        book: CanaryBook,
        *,
        life: str,
        wall: Callable[[], float] = wall_clock,
    ) -> None:
        self._canary, self._book, self._wall = canary, book, wall
        self._options, self._topics = dict(options), topics_of(pipeline)
        self._rekeyed = pipeline.input.rekey
        self._committed = pipeline.delivery.mode == "exactly-once"
        self._events = ProbeEvents(pipeline.input, canary, life)
        self._number = 0

    async def run(self) -> None:
        """Probe until cancelled; while the bus is away, probes count as unsent."""
        while True:
            try:
                async with self._connected() as (tail, writer, partitions):
                    while True:
                        next_s = time.monotonic() + self._canary.interval_s
                        await self._probe(tail, writer, partitions, next_s)
                        await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            except HeadraceError as error:
                log.info("a probe was not sent, or not looked for: %s", error)
                self._book.add("unsent")
                await asyncio.sleep(self._canary.interval_s)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Tail, BusWriter, int]]:
        """Reader of predictions, writer of telemetry, and how many partitions that has."""
        topic = self._topics.predictions.name
        async with tail_of(self._options, topic, read_committed=self._committed) as tail:
            writer = KafkaBus(self._options).writer(self._topics.telemetry.name)
            try:
                yield tail, writer, await writer.start()
            finally:
                await writer.stop()

    async def _probe(self, tail: Tail, writer: BusWriter, partitions: int, next_s: float) -> None:
        """Send one and wait for its prediction, until the next is due."""
        number, self._number = self._number, self._number + 1
        place = number % tail.count
        key = probe_device(place).encode()
        to = place
        if self._rekeyed:
            to, place = Partitioner(partitions).of(key), Partitioner(tail.count).of(key)
        await tail.begin(place)
        began, time_ms = time.monotonic(), round(self._wall() * 1000)
        await writer.write(to, [key], [self._events.one(number, key.decode(), time_ms)], [()])
        found = await _answer(tail, key, time_ms, next_s)
        took_ms = (time.monotonic() - began) * 1000
        outcome = outcome_of(self._canary, found, took_ms)
        self._book.add(outcome, None if found is None else took_ms)
        if outcome != "right":
            log.info("a probe of %s[%d] was %s", tail.topic, place, Told(outcome))


async def _answer(tail: Tail, key: bytes, time_ms: int, until_s: float) -> Prediction | None:
    """The prediction of the probe of this device and time; None where none came in time."""
    while time.monotonic() < until_s:
        batch = await tail.more()
        for value in () if batch is None else _of_key(batch, key):
            try:
                found = msgspec.json.decode(value or b"", type=Prediction)
            except (msgspec.DecodeError, RecursionError):
                continue  # somebody else writes to this topic, too
            if found.times_ms.device == time_ms:
                return found
    return None


def _of_key(batch: RecordBatch, key: bytes) -> list[bytes | None]:
    return [value for found, value in zip(batch.keys, batch.values, strict=True) if found == key]
