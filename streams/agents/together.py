"""What the lanes of a stage ask in one turn of the event loop, answered by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Given = TypeVar("Given")

SMALL_ROWS = 512
"""A batch of more rows is computed by itself: what several small ones share is the fixed cost of
some hundred calls into NumPy, which is the most of theirs and little of a large one's."""


class Together(Generic[Asked, Given]):
    """Joins what is asked in one turn of the event loop: lanes of a round begin in the same one.

    Where the call for all of them fails, each is asked for alone, so that nobody gets another one's
    error. Cancelling one caller changes nothing for the others.

    Args:
        work: Answers to all that is asked, in the same order.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Awaitable[Sequence[Given]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Asked, asyncio.Future[Given]]] = []
        self._open: set[asyncio.Task[None]] = set()

    async def ask(self, asked: Asked) -> Given:
        """The answer to one of them.

        Raises:
            Exception: what the call for it alone raised.
        """
        answer: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            task = asyncio.create_task(self._answer_all(), name="together")
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        self._waiting.append((asked, answer))
        return await answer

    async def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            await self._answer(waiting)
        finally:
            for _, answer in waiting:  # only where this task itself was cancelled is any left
                answer.cancel()

    async def _answer(self, waiting: Sequence[tuple[Asked, asyncio.Future[Given]]]) -> None:
        waiting = [one for one in waiting if not one[1].done()]
        try:
            given = await self._work([asked for asked, _ in waiting]) if waiting else ()
        # A task boundary: whatever is raised is an answer, to be told to whom it belongs.
        except Exception as error:  # noqa: BLE001
            if len(waiting) == 1:
                waiting[0][1].set_exception(error)
                return
            for one in waiting:
                await self._answer([one])
            return
        for (_, answer), found in zip(waiting, given, strict=True):
            if not answer.done():
                answer.set_result(found)
