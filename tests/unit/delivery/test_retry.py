"""Steps whose dependency is away are repeated; nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from headrace.schemas.errors import FatalError, OwnershipLostError, StoreUnavailableError
from headrace.streams.delivery import retry


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are recorded, not slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(retry.asyncio, "sleep", sleep)
    return slept


def failing(*errors: Exception | None):
    """A step that raises these errors in turn, then returns how often it was tried."""
    left, tries = list(errors), [0]

    async def step() -> int:
        tries[0] += 1
        if left:
            error = left.pop(0)
            if error is not None:
                raise error
        return tries[0]

    return step


def test_a_retryable_error_is_repeated_and_counted() -> None:
    """Two failures, then the answer; each failure is told by its code."""
    codes: list[str] = []
    step = failing(StoreUnavailableError("away"), StoreUnavailableError("away"))

    assert asyncio.run(retry.retried(step, what="x", on_retry=codes.append)) == 3
    assert codes == ["store.unavailable"] * 2


@pytest.mark.parametrize("error", [FatalError("no"), OwnershipLostError("gone"), ValueError("bug")])
def test_other_errors_pass_at_once(error: Exception) -> None:
    """Fatal errors, lost ownership and bugs are not repeated."""
    with pytest.raises(type(error)):
        asyncio.run(retry.retried(failing(error), what="x", on_retry=lambda code: None))


def test_pauses_grow_to_a_limit(pauses: list[float]) -> None:
    """Pauses double up to the longest, jittered downwards only, never below the error's wish."""
    step = failing(*[StoreUnavailableError("away", retry_after_s=0.0)] * 12)

    asyncio.run(retry.retried(step, what="x", on_retry=lambda code: None))

    assert max(pauses) <= retry.LONGEST_PAUSE_S
    assert pauses[-1] >= retry.LONGEST_PAUSE_S / 2
    assert pauses[0] <= retry.FIRST_PAUSE_S
