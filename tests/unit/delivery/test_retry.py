"""Steps whose dependency is away are repeated; nothing else is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from headrace.schemas.errors import (
    BusUnavailableError,
    FatalError,
    OwnershipLostError,
    RetryableError,
    StoreUnavailableError,
)
from headrace.streams.delivery import retry
from headrace.streams.delivery.outages import Outages

AWAY = StoreUnavailableError("no answer", retry_after_s=0.0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are recorded, not slept."""
    slept: list[float] = []

    async def wait(
        self: Outages, step: object, what: str, error: RetryableError, pause_s: float
    ) -> None:
        slept.append(pause_s)

    monkeypatch.setattr(Outages, "wait", wait)
    return slept


def failing(*errors: Exception) -> Callable[[], Awaitable[int]]:
    """A step that raises these errors in turn, then returns how often it was tried."""
    left, tries = list(errors), [0]

    async def step() -> int:
        tries[0] += 1
        if left:
            raise left.pop(0)
        return tries[0]

    return step


async def run(step: Callable[[], Awaitable[int]], what: str = "checkpoint of a/0") -> int:
    """The step, retried."""
    return await retry.retried(step, what=what, on_retry=lambda code: None)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, up to the first number."""
    return [record.getMessage().split(" after ")[0] for record in caplog.records]


async def test_a_retryable_error_is_repeated_and_counted() -> None:
    """Two failures, then the answer; each failure is told by its code."""
    codes: list[str] = []

    assert await retry.retried(failing(AWAY, AWAY), what="x", on_retry=codes.append) == 3
    assert codes == ["store.unavailable"] * 2


@pytest.mark.parametrize("error", [FatalError("no"), OwnershipLostError("gone"), ValueError("bug")])
async def test_other_errors_pass_at_once(error: Exception) -> None:
    """Fatal errors, lost ownership and bugs are not repeated."""
    with pytest.raises(type(error)):
        await run(failing(error))


async def test_pauses_grow_to_a_limit(pauses: list[float]) -> None:
    """Pauses double up to the longest, jittered downwards only, never below the error's wish."""
    await run(failing(*[AWAY] * 12))

    assert max(pauses) <= retry.LONGEST_PAUSE_S
    assert pauses[-1] >= retry.LONGEST_PAUSE_S / 2
    assert pauses[0] <= retry.FIRST_PAUSE_S


async def test_one_line_when_it_goes_and_one_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Many steps that fail many times are two lines, with the first step and its reason."""
    caplog.set_level(logging.INFO)
    await asyncio.gather(*[run(failing(*[AWAY] * 3), f"step {n}") for n in range(5)])

    assert lines(caplog) == [
        "the store is away, noticed at step 0: no answer",
        "the store is back",
    ]
    assert caplog.messages[1].endswith("; 5 steps waited for it and failed 15 times")


async def test_the_first_that_comes_through_wakes_the_others() -> None:
    """A step in a pause of an hour goes on when another one of the same dependency succeeds."""
    back = asyncio.Event()

    async def step() -> int:
        if not back.is_set():
            raise StoreUnavailableError("no answer", retry_after_s=3600.0 if first else 0.0)
        return 1

    first = True
    patient = asyncio.create_task(run(step))
    await asyncio.sleep(0)
    first = False
    eager = asyncio.create_task(run(step))
    await asyncio.sleep(0)
    back.set()

    assert await asyncio.wait_for(asyncio.gather(patient, eager), 30) == [1, 1]


async def test_it_is_not_back_while_one_step_still_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A dependency that fails one partition alone holds up no other, and is told as away."""
    stop = asyncio.Event()

    async def stuck() -> int:
        if not stop.is_set():
            raise AWAY
        return 1

    one = asyncio.create_task(run(stuck))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(run(failing(AWAY)), 30) == 2
    assert lines(caplog) == ["the store is away, noticed at checkpoint of a/0: no answer"]
    stop.set()
    await one
    assert lines(caplog)[1:] == ["the store is back"]


async def test_bus_and_store_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    """A step that gets past the store and then finds the bus away has seen the store back."""
    await run(failing(AWAY, BusUnavailableError("gone", retry_after_s=0.0)))

    assert lines(caplog) == [
        "the store is away, noticed at checkpoint of a/0: no answer",
        "the store is back",
        "the bus is away, noticed at checkpoint of a/0: gone",
        "the bus is back",
    ]


@pytest.mark.parametrize("end", [FatalError("no"), asyncio.CancelledError()])
async def test_a_step_that_is_given_up_says_nothing_of_the_dependency(
    end: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """No line says that it is back, and the next failure is a new line."""

    async def step() -> int:
        raise errors.pop(0)

    errors: list[BaseException] = [AWAY, end]
    with pytest.raises(type(end)):
        await run(step)
    assert len(caplog.messages) == 1
    await run(failing(AWAY))
    assert len(caplog.messages) == 3
