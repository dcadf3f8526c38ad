"""How often a worker may be started again before somebody has to look."""

from __future__ import annotations

from collections import deque

MOST = 3
WITHIN_S = 600.0


class RestartBudget:
    """At most `MOST` restarts within any `WITHIN_S`."""

    def __init__(self) -> None:
        self._spent: deque[float] = deque()

    def spend(self, now_s: float) -> bool:
        """Whether one more is allowed now; it then counts.

        Args:
            now_s: Monotonic seconds, not before the last call's.

        Delivery: pure.

        Example:
            >>> budget = RestartBudget()
            >>> [budget.spend(now_s) for now_s in (0.0, 120.0, 240.0, 360.0, 600.0)]
            [True, True, True, False, True]
        """
        while self._spent and now_s - self._spent[0] >= WITHIN_S:
            self._spent.popleft()
        if len(self._spent) >= MOST:
            return False
        self._spent.append(now_s)
        return True
