"""The records of a predictions topic."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.canary import RESERVED
from headrace.streams.client.latency import Latency
from headrace.streams.client.marks import Marks, PredictionMarks
from headrace.streams.client.received import Received
from headrace.streams.client.traceparent import TRACEPARENT

RESERVED_KEY = RESERVED.encode()

_set = msgspec.structs.force_setattr


class Predictions:
    """Records of a predictions topic as `Received` (a `Content`).

    Args:
        deadline_ms: Older events are overdue; None: nothing is.
    """

    tail_rows = 10_000
    """Records before the committed offset that hold every repeat a restarted worker can make."""

    def __init__(self, *, deadline_ms: float | None = None) -> None:
        self.latency = Latency()
        self.since_served: Latency | None = None
        """Arrival less the time SERVE made it, where somebody asks for that."""
        self.probed = False
        """Whether any prediction so far was of a probe."""
        self._limit_ms = float("inf") if deadline_ms is None else deadline_ms
        self._decode = msgspec.json.Decoder(Received).decode

    def read(self, records: RecordBatch) -> list[Received | None]:
        """Each record of the batch, None where it is no prediction."""
        rows = [self._one(value) for value in records.values]
        if RESERVED_KEY in b"".join(key or b"" for key in records.keys):
            self._find_probes(rows)
        for row, headers in zip(rows, records.headers or (), strict=False):
            if row is not None and headers:
                _set(row, "traceparent", _traceparent(headers))
        return rows

    def arrive(self, rows: Sequence[tuple[Received, bool]], now_ms: float) -> int:
        """Set what is known on arrival only.

        Args:
            rows: Predictions that will be delivered, and whether each supersedes another.
            now_ms: Wall clock, milliseconds since 1970.

        Returns:
            How many of them are overdue.
        """
        if self.probed:
            rows = [(row, supersedes) for row, supersedes in rows if not row.probe]
        ages = [now_ms - row.times_ms.device for row, _ in rows]
        for (row, supersedes), age_ms in zip(rows, ages, strict=True):
            _set(row, "supersedes", supersedes)
            _set(row, "overdue", age_ms > self._limit_ms)
            _set(row, "latency_ms", age_ms)
        self.latency.record(np.array(ages, np.float64))
        if self.since_served is not None:
            since = [now_ms - row.times_ms.served for row, _ in rows]
            self.since_served.record(np.array(since, np.float64))
        return sum(age_ms > self._limit_ms for age_ms in ages)

    def _find_probes(self, rows: Sequence[Received | None]) -> None:
        """Mark what probes brought: it is for nobody."""
        self.probed = True
        for row in rows:
            if row is not None and row.device_id.startswith(RESERVED):
                _set(row, "probe", True)

    def marks(self) -> Marks[Received]:
        """See `reading.Content.marks`."""
        return PredictionMarks()

    def _one(self, value: bytes | None) -> Received | None:
        try:
            row = self._decode(value or b"")
            _ = row.source_offset
        except (msgspec.DecodeError, RecursionError, ValueError):
            return None
        return row


def _traceparent(headers: Headers) -> str | None:
    found = [value for name, value in headers if name == TRACEPARENT and value is not None]
    return found[-1].decode("latin-1") if found else None
