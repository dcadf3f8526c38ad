"""Watches one stage's batches become durable, and tells of them in the worker's status lines."""

from __future__ import annotations

from collections.abc import Callable

from headrace.schemas.batch import RecordBatch
from headrace.schemas.protocols import Effects
from headrace.streams.client.clock import wall_clock
from headrace.streams.jobs import Seen
from headrace.streams.observe.hops import HopRecorder


class StageObserver:
    """An `Observer`: a few array operations for each batch, nothing for each event.

    Args:
        now: Wall clock, seconds since 1970.
    """

    def __init__(self, *, now: Callable[[], float] = wall_clock) -> None:
        self._now = now
        self._hops = HopRecorder()

    def now_ms(self) -> float:
        """Wall clock, milliseconds since 1970."""
        return self._now() * 1000

    def observe(
        self, part: RecordBatch, effects: Effects, *, begun_ms: float, readable_ms: float
    ) -> None:
        """See `Observer.observe`."""
        if effects.timed is not None:
            self._hops.record(effects.timed, begun_ms=begun_ms, readable_ms=readable_ms)

    def seen(self) -> Seen:
        """Everything that was seen so far."""
        return Seen(latencies=self._hops.counted())
