"""What one stage has done so far, counted per batch; metrics and the status line read it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals of one stage in one process.

    Attributes:
        events: Events by outcome: ``in``, ``out``, ``dead``, ``late``, ``repeated``.
        batches: Batches made durable.
        busy_s: Seconds from taking each batch to its commit, added up.
        retries: Repeated steps by error code.
        expired: Events that retention deleted before they were read.
        replayed: Events folded again on assignment.
        rewrites: Checkpoints written whole after a roll-back of the store.
        raw_bytes: Bytes of records read.
        upstream_bytes: Bytes of summaries published.
    """

    events: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    busy_s: float = 0.0
    retries: Counter[str] = field(default_factory=Counter)
    expired: int = 0
    replayed: int = 0
    rewrites: int = 0
    raw_bytes: int = 0
    upstream_bytes: int = 0

    def retry(self, code: str) -> None:
        """Count one repeated step."""
        self.retries[code] += 1
