"""Reader of the summaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.summary import SummaryRecord
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.marks import Marks, SummaryMarks
from headrace.streams.client.topic_reader import TopicReader


class Summaries:
    """Records of a summaries topic (a `Content`)."""

    tail_rows = 4096

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(SummaryRecord).decode

    def read(self, records: RecordBatch) -> list[SummaryRecord | None]:
        """Each record, None where it is no summary."""
        return [self._one(value) for value in records.values]

    def arrive(self, rows: Sequence[tuple[SummaryRecord, bool]], now_ms: float) -> int:
        """Nothing is overdue."""
        return 0

    def marks(self) -> Marks[SummaryRecord]:
        """See `reading.Content.marks`."""
        return SummaryMarks()

    def _one(self, value: bytes | None) -> SummaryRecord | None:
        try:
            return self._decode(value or b"")
        except (msgspec.DecodeError, RecursionError):
            return None


def summaries(
    bus: BusSettings | Mapping[str, Any] | Bus,
    pipeline: Pipeline | str,
    *,
    group: str | None = None,
    start: str = "latest",
    follow: bool = True,
    now: Callable[[], float] = wall_clock,
) -> TopicReader[SummaryRecord]:
    """Summaries of a pipeline, one per window, group and revision; repeats are dropped.

    A higher revision replaces those below. A repeat is equal to the letter to one of the last 4096.
    """
    topic = pipeline if isinstance(pipeline, str) else topics_of(pipeline).summaries.name
    return TopicReader(bus, topic, Summaries(), group=group, start=start, follow=follow, now=now)
