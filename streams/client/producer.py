"""Producer: telemetry from other people's programs into a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from headrace.schemas.batch import Headers
from headrace.schemas.errors import BusUnavailableError, FatalError, HeadraceError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.connect import bus_of
from headrace.streams.client.contract import Composer, Contract
from headrace.streams.client.outbox import Outbox, Posted, Receipt
from headrace.streams.client.partition import Partitioner
from headrace.streams.client.traceparent import TRACEPARENT, is_traceparent, new_traceparent

HURRIED_S = 5.0
"""Longest flush of a producer whose body raised or was cancelled, seconds."""


class Record(NamedTuple):
    """One record as `Producer.send_many` takes it.

    Attributes:
        value: Its bytes.
        key: Its key; None takes the entity where the producer has a pipeline.
    """

    value: bytes
    key: bytes | None = None


class Producer:
    """Sends events into a pipeline's telemetry topic.

    .. code-block:: python

        async with Producer(bus, pipeline) as producer:
            receipt = await producer.emit("press-07", {"temperature_c": 71.2})
            [source] = await receipt

    Every event is judged by the pipeline's own decoder before anything is sent. `send` and
    `send_many` take records whole, for devices with a form of their own; `emit` writes one event
    in the form the pipeline reads. All return as soon as the records are accepted, waiting while
    the buffer is full; the receipt they return says what became of them.

    The key is the entity and its partition Kafka's default for that key, so the events of one
    device stay in order.

    Args:
        bus: Connection settings, aiokafka client options, or a `Bus`.
        pipeline: The pipeline; or a topic name, and then nothing is judged.
        validate: False sends records as they are.
        trace: Give every record a W3C ``traceparent`` header.
        max_pending: Records that may wait for the bus.
        batch_bytes: Most bytes of one request.
        linger_ms: Time the first record of a batch waits for company, milliseconds.
        give_up_s: Records not acknowledged this long after their first try have failed, seconds.
        now: Wall clock, seconds since 1970.

    Raises:
        SettingsError, PipelineFileError: fatal.

    Delivery: at-least-once, acknowledged by all replicas; idempotent where the bus can (Kafka
    can, the embedded bus cannot). The pipeline drops repeats by event id.
    """

    def __init__(
        self,
        bus: BusSettings | Mapping[str, Any] | Bus,
        pipeline: Pipeline | str,
        *,
        validate: bool = True,
        trace: bool = True,
        max_pending: int = 10_000,
        batch_bytes: int = 256 << 10,
        linger_ms: float = 5.0,
        give_up_s: float = 120.0,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        self.topic = pipeline if isinstance(pipeline, str) else topics_of(pipeline).telemetry.name
        self._pipeline = None if isinstance(pipeline, str) else pipeline
        self._contract = Contract(pipeline) if validate and not isinstance(pipeline, str) else None
        self._composer: Composer | None = None
        self._trace, self._now, self._give_up_s = trace, now, give_up_s
        self._writer = bus_of(bus).writer(self.topic)
        self._outbox = Outbox(
            self._writer,
            self.topic,
            max_rows=max_pending,
            batch_bytes=batch_bytes,
            linger_s=linger_ms / 1000,
            give_up_s=give_up_s,
        )
        self._partitioner: Partitioner | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
        """
        self._partitioner = Partitioner(await self._writer.start())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Flush and disconnect; bounded by `give_up_s`, and by 5 s where the body raised.

        Raises:
            BusUnavailableError: retryable; records are not acknowledged. Only where the body
                raised nothing itself.
        """
        self._partitioner = None
        wait_s = self._give_up_s + 1 if error is None else min(self._give_up_s, HURRIED_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._outbox.flush()
        except TimeoutError:
            if error is None:
                raise BusUnavailableError(
                    f"closing the producer of {self.topic!r} left {self._outbox.rows} records "
                    f"unacknowledged after {wait_s:g} s; send them again"
                ) from None
        except HeadraceError:
            if error is None:
                raise
        finally:
            await self._outbox.close()
            await self._writer.stop()

    @property
    def pending(self) -> int:
        """Records accepted and not acknowledged yet."""
        return self._outbox.rows

    @property
    def idempotent(self) -> bool:
        """Whether the bus drops repeats that a lost acknowledgement causes."""
        return self._writer.idempotent

    async def send(
        self, key: bytes | None, value: bytes, *, traceparent: str | None = None
    ) -> Receipt:
        """Accept one record whole. This is also the sink of `streams.producers.produce`.

        Args:
            key: Record key; None takes the entity.
            value: The record's bytes.
            traceparent: W3C trace header; None begins a trace where the producer traces.

        Raises:
            EventRefusedError: poison; the pipeline would refuse it. Nothing was sent.
        """
        return await self.send_many([Record(value, key)], traceparent=traceparent)

    async def send_many(
        self, records: Iterable[Record], *, traceparent: str | None = None
    ) -> Receipt:
        """Accept several records, all of them or none; one receipt for all.

        Raises:
            EventRefusedError: poison; one of them would be refused. Nothing was sent.
        """
        rows = list(records)
        keys = [row.key for row in rows]
        values = [row.value for row in rows]
        headers: list[Headers] = [self._headers(traceparent)] * len(rows)
        if self._contract is not None:
            keys = [*self._contract.keys(keys, values, headers, self._now() * 1000)]
        return await self._post(keys, values, headers)

    async def emit(
        self,
        entity: str,
        metrics: Mapping[str, float],
        *,
        time: float | None = None,
        event_id: str | None = None,
        seq: int | None = None,
        attributes: Mapping[str, str] | None = None,
        payload: Any = None,
        traceparent: str | None = None,
    ) -> Receipt:
        """Accept one event in the form the pipeline reads.

        Args:
            entity: Device id.
            metrics: Metric name to number.
            time: Device time, seconds since 1970; None is now.
            event_id: None draws a random one. Give your own where you may send an event twice.
            seq: Counter per device.
            attributes: Attribute name to label.
            payload: Raw content of any kind; it stays at the site.
            traceparent: W3C trace header.

        Raises:
            EventRefusedError: poison. PipelineFileError: fatal; see `Composer`.
        """
        value = self._compose().value(
            entity,
            metrics,
            time_s=self._now() if time is None else time,
            event_id=event_id,
            seq=seq,
            attributes=attributes or {},
            payload=payload,
        )
        return await self.send(entity.encode(), value, traceparent=traceparent)

    async def flush(self) -> None:
        """Wait until every accepted record is acknowledged.

        Raises:
            HeadraceError: some failed whose receipts nobody awaited.
        """
        await self._outbox.flush()

    def _compose(self) -> Composer:
        if self._composer is None:
            if self._pipeline is None:
                raise FatalError(
                    f"composing an event for {self.topic!r} needs its pipeline; "
                    f"give the producer a pipeline instead of a topic"
                )
            self._composer = Composer(self._pipeline)
        return self._composer

    def _headers(self, traceparent: str | None) -> Headers:
        if traceparent is None:
            return [(TRACEPARENT, new_traceparent().encode())] if self._trace else ()
        if not is_traceparent(traceparent):
            raise FatalError(
                "the traceparent given is none of W3C Trace Context version 00; "
                "pass 00-<32 hex>-<16 hex>-<2 hex>"
            )
        return [(TRACEPARENT, traceparent.encode())]

    async def _post(
        self, keys: list[bytes | None], values: list[bytes], headers: list[Headers]
    ) -> Receipt:
        if self._partitioner is None:
            raise FatalError(f"sending to {self.topic!r} without `async with`; enter it first")
        receipt = Receipt(len(values))
        place = self._partitioner.of
        await self._outbox.post(
            [
                (place(key), Posted(key, value, headers[row], receipt, row))
                for row, (key, value) in enumerate(zip(keys, values, strict=True))
            ]
        )
        return receipt
