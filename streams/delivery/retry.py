"""Repeat a step whose dependency is away, with growing, jittered pauses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from headrace.schemas.errors import OwnershipLostError, RetryableError
from headrace.streams.delivery.outages import outages

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
# A dependency that comes back is noticed within this time; long enough that thousands of
# partitions retrying at once are no load on it.
LONGEST_PAUSE_S = 5.0


async def retried(
    step: Callable[[], Awaitable[T]], *, what: str, on_retry: Callable[[str], None]
) -> T:
    """Await `step` until it succeeds or raises something that a repeat cannot mend.

    There is no limit: what the step holds stays with its partition, which is paused, so nothing is
    lost and the backlog is the bus's. The log has one line when a dependency goes away and one when
    it is back, however many steps wait (`Outages`).

    Args:
        step: Makes the awaitable anew for each try; trying twice must be harmless.
        what: For the log: the step and its partition.
        on_retry: Told the code of each error that is retried.

    Raises:
        OwnershipLostError: passed on: only a new assignment mends it.
        Exception: whatever else `step` raises that is no RetryableError.
    """
    pause_s, away, token = FIRST_PAUSE_S, outages(), object()
    try:
        while True:
            try:
                result = await step()
            except OwnershipLostError:
                raise
            except RetryableError as error:
                on_retry(error.code)
                # Jitter only spreads load; it decides nothing and needs no strong randomness.
                jitter = random.uniform(0.5, 1.0)  # noqa: S311
                await away.wait(token, what, error, max(pause_s, error.retry_after_s) * jitter)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                away.succeeded(token)
                return result
    finally:
        away.given_up(token)
