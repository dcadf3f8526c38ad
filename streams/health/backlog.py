"""Whether a backlog keeps growing, told from the lowest value of each stretch of time."""

from __future__ import annotations

SLOT_S = 10.0
GROWING_SLOTS = 6
"""A backlog that grew in this many slots in a row, a minute, is not a surge any more."""


class Backlog:
    """Lag of one stage over time, in slots of `SLOT_S`.

    The lowest lag of a slot, not its last: between two fetches a healthy stage's lag jumps by whole
    batches, but again and again it is low. One slot whose lowest lag is not above the one before
    ends the growth, so that a lag that goes up and down never counts as growing.
    """

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._lowest = 0
        self._before: int | None = None
        self._slots = 0
        self._done = 0
        self.pace_per_s = 0.0
        """Records finished per second in the slot before."""

    def observe(self, now_s: float, *, lag: int, done: int) -> float:
        """Take a look.

        Args:
            now_s: Monotonic seconds, not before the last look's.
            lag: Records behind now.
            done: Records finished since the last look.

        Returns:
            For how long the backlog has been growing, seconds; 0.0 unless for a minute or more,
            and by more than the stage does in a second.

        Delivery: pure.
        """
        if self._began_s is None:
            self._began_s, self._lowest = now_s, lag
        if now_s - self._began_s >= SLOT_S:
            self._close(now_s - self._began_s)
            self._began_s, self._lowest = now_s, lag
        self._lowest = min(self._lowest, lag)
        self._done += done
        growing = self._slots >= GROWING_SLOTS and lag > self.pace_per_s > 0
        return self._slots * SLOT_S if growing else 0.0

    def _close(self, took_s: float) -> None:
        grew = self._before is not None and self._lowest > self._before
        self._slots = self._slots + 1 if grew else 0
        self._before = self._lowest
        self.pace_per_s, self._done = self._done / took_s, 0
