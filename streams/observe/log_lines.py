"""Our own log lines as telemetry may tell them: no argument that could be content."""

from __future__ import annotations

import logging
from collections import Counter, deque

import msgspec

from headrace.streams.observe.attributes import log_text
from headrace.streams.observe.traces import active

MOST_KEPT = 512
"""Lines until somebody takes them; of more the newest are kept."""


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One line.

    Attributes:
        time_ns: Wall clock, nanoseconds since 1970.
        level: Level of Python's logging: 10 debug to 50 critical.
        logger: Its logger.
        text: What is told of it.
        traceparent: Of the batch's span that it belongs to; empty for none.
    """

    time_ns: int
    level: int
    logger: str
    text: str
    traceparent: str = ""


class LogKeeper(logging.Handler):
    """Keeps lines of our loggers until they are taken.

    A line with a true attribute ``relayed`` is passed over: whoever wrote it first tells of it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.dropped: Counter[str] = Counter()
        self._lines: deque[LogLine] = deque(maxlen=MOST_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what may be told of a record."""
        if getattr(record, "relayed", False):
            return
        text = log_text(record, self.dropped)
        if text is not None:
            time_ns = int(record.created * 1e9)
            self._lines.append(LogLine(time_ns, record.levelno, record.name, text, active.get()))

    def take(self) -> list[LogLine]:
        """What was kept since it was last taken."""
        taken = list(self._lines)
        self._lines.clear()
        return taken
