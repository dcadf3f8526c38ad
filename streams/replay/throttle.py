"""Reading no faster than asked, so that what is live does not feel it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

GENTLE_BYTES_PER_S = 4 << 20
"""What a replay reads unless told otherwise: 20,000 events of 200 bytes a second."""

GENTLE_FETCH_BYTES = 128 << 10
"""Of one response of a throttled replay: a larger one would be a burst."""


class Throttle:
    """Spaces what is read by its bytes, its records, or both.

    Args:
        bytes_per_s: Of keys and values; None does not count them.
        rows_per_s: Of records; likewise.
        clock: Seconds, monotonic.
        sleep: Waits.
    """

    def __init__(
        self,
        bytes_per_s: float | None = None,
        rows_per_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._bytes_per_s, self._rows_per_s = bytes_per_s, rows_per_s
        self._clock, self._sleep = clock, sleep
        self._due_s = float("-inf")

    @property
    def fetch_bytes(self) -> int | None:
        """Most bytes of one response; None where nothing is counted."""
        limits = []
        if self._bytes_per_s is not None:
            limits.append(round(self._bytes_per_s / 20))
        if self._rows_per_s is not None:
            limits.append(GENTLE_FETCH_BYTES)
        return max(1 << 10, min(GENTLE_FETCH_BYTES, *limits)) if limits else None

    async def took(self, size: int, rows: int) -> None:
        """Wait until what was just read is paid for."""
        cost_s = max(
            size / self._bytes_per_s if self._bytes_per_s else 0.0,
            rows / self._rows_per_s if self._rows_per_s else 0.0,
        )
        now_s = self._clock()
        # What was not used in time is not saved up: a pause must not end in a burst.
        self._due_s = max(self._due_s, now_s - cost_s) + cost_s
        if self._due_s > now_s:
            await self._sleep(self._due_s - now_s)
