"""How much longer a run takes, said while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

TRUSTED_S = 60.0
"""Of the run must be over before its own pace is believed more than the estimate."""


class Progress:
    """Minutes left, by what each part was to take and by how fast this machine has been so far.

    Args:
        minutes: Each part's, in their order.
        now: Monotonic clock, seconds.
    """

    def __init__(
        self, minutes: Mapping[str, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts_s = {part: 60 * of for part, of in minutes.items()}
        self._now, self._began_s = now, now()

    def left_min(self, part: str, share: float) -> float:
        """Minutes until the end.

        Args:
            part: That is being measured; those before it are over.
            share: Of it that is done.

        Example:
            >>> at = iter([0.0, 30.0, 300.0])
            >>> left = Progress({"sides": 10, "latency": 5}, now=lambda: next(at)).left_min
            >>> left("sides", 0.05), left("sides", 0.25)
            (14.5, 25.0)
        """
        names = list(self._parts_s)
        done_s = sum(self._parts_s[name] for name in names[: names.index(part)])
        done_s += share * self._parts_s.get(part, 0.0)
        spent_s = self._now() - self._began_s
        pace = spent_s / done_s if spent_s > TRUSTED_S and done_s else 1.0
        return round(pace * (sum(self._parts_s.values()) - done_s) / 60, 1)

    def say(self, part: str, share: float) -> None:
        """Print it; of a part that nobody estimated, nothing."""
        if part in self._parts_s:
            print(f"about {self.left_min(part, share):.0f} minutes left", flush=True)
