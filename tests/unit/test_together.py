"""Several things awaited together: when it is over, none of them goes on."""

from __future__ import annotations

import asyncio

import pytest

from headrace.schemas.errors import StateError
from headrace.streams.together import all_of


class Work:
    """Turns through the loop until told, slow to be cancelled; says whether it still goes on."""

    def __init__(self) -> None:
        self.goes_on = False
        self.begun = asyncio.Event()

    async def run(self) -> None:
        self.goes_on = True
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # lets go of something
            self.goes_on = False


async def fail(after: Work) -> None:
    await after.begun.wait()
    raise StateError("gone")


async def test_the_first_failure_is_raised_as_it_is_and_the_others_have_ended() -> None:
    work = Work()

    with pytest.raises(StateError, match="gone"):
        await all_of(work.run(), fail(work))

    assert not work.goes_on


async def test_who_is_cancelled_leaves_none_behind() -> None:
    works = [Work(), Work()]
    whole = asyncio.create_task(all_of(*(work.run() for work in works)))
    await asyncio.gather(*(work.begun.wait() for work in works))

    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole

    assert not any(work.goes_on for work in works)


async def test_all_have_ended_when_it_returns() -> None:
    done: list[int] = []

    async def turn(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
        done.append(count)

    await all_of(turn(3), turn(1), turn(2))
    assert done == [1, 2, 3]
    await all_of()


async def test_one_alone_ends_and_fails_as_itself() -> None:
    work = Work()
    alone = asyncio.create_task(all_of(work.run()))
    await work.begun.wait()
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone

    assert not work.goes_on
