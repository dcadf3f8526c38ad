"""What waits to leave for a collector: spans and log lines, filtered, counted and bounded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from headrace.streams.observe.attributes import allowed
from headrace.streams.observe.log_lines import LogLine
from headrace.streams.observe.traces import SpanRecord

MOST_WAITING = 4096


class Outgoing:
    """Spans and log lines of one pipeline's workers, oldest first; of too many the newest stay.

    Attributes:
        dropped: What did not get through, by reason: ``name`` and ``value`` of an attribute,
            ``argument`` and ``logger`` of a log line, ``span`` and ``line`` for want of room.
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._spans: deque[SpanRecord] = deque(maxlen=MOST_WAITING)
        self._logs: deque[tuple[str, LogLine]] = deque(maxlen=MOST_WAITING)

    def add(self, worker: str, spans: Iterable[SpanRecord], logs: Iterable[LogLine]) -> None:
        """What one worker told."""
        for span in spans:
            facts = allowed({**span.attributes, "headrace.worker": worker}, self.dropped)
            self.dropped["span"] += len(self._spans) == MOST_WAITING
            self._spans.append(msgspec.structs.replace(span, attributes=facts))
        for line in logs:
            self.dropped["line"] += len(self._logs) == MOST_WAITING
            self._logs.append((worker, line))

    def take(self) -> tuple[list[SpanRecord], list[tuple[str, LogLine]]]:
        """What waits, and nothing waits any more."""
        taken = list(self._spans), list(self._logs)
        self._spans.clear()
        self._logs.clear()
        return taken
