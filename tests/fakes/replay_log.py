"""A log in memory that a replay can read, in batches of any cut; and its rows, one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.enrichers.decode import Decoder
from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import StateError
from headrace.schemas.pipeline import Pipeline
from headrace.streams.bus.raw_batch import RawBatch


class Logged(NamedTuple):
    """A record of the log."""

    offset: int
    log_time_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class MemoryReader:
    """As much of a `LoneReader` as a replay needs.

    Attributes:
        begin: First offset that each log still has.
    """

    def __init__(
        self, topic: str, logs: Sequence[Sequence[Logged]], cut: Callable[[], int] = lambda: 3
    ) -> None:
        self.topic, self.logs, self.cut = topic, logs, cut
        self.partitions = list(range(len(logs)))
        self.begin = dict.fromkeys(self.partitions, 0)

    async def edges(self) -> dict[int, tuple[int, int]]:
        return {
            p: (self.begin[p], log[-1].offset + 1 if log else 0) for p, log in enumerate(self.logs)
        }

    async def at_time(self, time_ms: int) -> dict[int, int]:
        edges = await self.edges()
        return {
            p: next((r.offset for r in log if r.log_time_ms >= time_ms), edges[p][1])
            for p, log in enumerate(self.logs)
        }

    async def read(
        self, partition: int, start: int, stop: int, *, fetch_bytes: int = 0
    ) -> AsyncIterator[RecordBatch]:
        at = start
        while True:
            if at < self.begin[partition]:
                raise StateError(f"{self.topic}[{partition}]@{at} is no longer there")
            rows = [r for r in self.logs[partition] if at <= r.offset < stop][: self.cut()]
            if not rows:
                return
            yield batch_of(self.topic, partition, rows)
            at = rows[-1].offset + 1

    async def read_raw(
        self, partition: int, start: int, stop: int, *, fetch_bytes: int = 0
    ) -> AsyncIterator[RawBatch]:
        async for batch in self.read(partition, start, stop):
            yield RawBatch.of(batch)


def batch_of(topic: str, partition: int, rows: Sequence[Logged]) -> RecordBatch:
    return RecordBatch(
        topic,
        partition,
        np.array([r.offset for r in rows], np.int64),
        np.array([r.log_time_ms for r in rows], np.int64),
        [r.key for r in rows],
        [r.value for r in rows],
        [r.headers for r in rows] if any(r.headers for r in rows) else None,
    )


def plain_rows(pipeline: Pipeline, reader: MemoryReader) -> list[dict[str, Any]]:
    """Every record of telemetry as a row, decoded by itself: what a table must hold.

    The dead letter code is under `dead`, as a metric is called `code`.
    """
    decode, found = Decoder(pipeline.input), []
    for partition, log in enumerate(reader.logs):
        for record in log:
            done = decode(batch_of(reader.topic, partition, [record]))
            row: dict[str, Any] = {
                "partition": partition, "offset": record.offset, "log_time": record.log_time_ms,
                "event_time": None, "event_id": None, "device_id": None,
                **dict.fromkeys(pipeline.input.metrics),
                **dict.fromkeys(pipeline.attribute_names), "dead": done.dead.get(0),
            }  # fmt: skip
            if len(done.events):
                events = done.events
                row |= {"event_time": int(events.event_times_ms[0]), "event_id": events.ids[0]}
                row["device_id"] = events.entities[0]
                for name, value in zip(pipeline.input.metrics, events.metrics[0], strict=True):
                    row[name] = None if np.isnan(value) else float(value)
                row |= {name: column[0] for name, column in events.attributes.items()}
            found.append(row)
    return found


def small_pipeline() -> Pipeline:
    tree = {
        "name": "p",
        "input": {
            "time_unit": "ms",
            "metrics": {"a": {"required": False}, "code": {"min": 0.0}},
            "attributes": {"kind": {}},
            "max_skew_s": 10.0,
        },
        "views": {"v": {"features": [{"op": "raw", "metrics": ["*"]}]}},
        "model": {"file": "m"},
    }
    return msgspec.convert(tree, Pipeline)
