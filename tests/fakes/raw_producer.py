"""Writes records that aiokafka's producer refuses: header names of any bytes, no key and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from fakes.input_forms import Record

MAX_BYTES = 256 << 20


class RawName(str):
    """A header's name that is written as the bytes which its characters stand for."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:  # type: ignore[override]  # whatever is asked for
        return super().encode("latin-1")


def record_batch(records: Sequence[Record], compression: int = 0) -> _DefaultRecordBatchBuilderPy:
    """A record batch of these records; compression 0 is none, 1 gzip."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=MAX_BYTES,
    )
    for offset, record in enumerate(records):
        builder.append(offset, 0, record.key, record.value, list(record.headers))
    return builder


async def send_raw(
    options: Mapping[str, Any],
    topic: str,
    partition: int,
    records: Sequence[Record],
    compression: int = 0,
) -> None:
    """Write these records as one record batch."""
    producer = AIOKafkaProducer(**options, max_request_size=MAX_BYTES, max_batch_size=MAX_BYTES)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = record_batch(records, compression)
        batch._relative_offset = len(records)
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()
