"""Micro-batches: rows of concurrent callers joined in one call, results split back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from headrace.schemas.errors import ModelError
from headrace.serving.signature import F32, Rows
from headrace.serving.timing import BatchTime

_QUEUED_BATCHES = 4
"""Callers wait once this many full batches are queued."""

_AT_ONCE_S = 0.001
"""A call expected to be shorter runs where it is asked for: the way to a thread and back takes
about as long, and several times as long while other threads want the interpreter."""


@dataclass(slots=True)
class _Caller:
    rows: Rows
    since: float
    answer: asyncio.Future[F32]


class Batcher:
    """Joins callers' rows, one call at a time, off the event loop unless it is over at once.

    A cancelled caller leaves the others untouched. A call that fails is repeated for each of its
    callers alone, so that one caller's rows fail nobody else's.

    Args:
        run: Rows (N, F) to outputs float32 (N, K); never called twice at once.
        executor: One thread.
        max_batch_rows: Most rows joined; a single caller's longer rows are passed on as they are.
        max_queue_delay_s: Longest wait for company, seconds; 0 takes what is queued.
    """

    def __init__(
        self,
        run: Callable[[Rows], F32],
        executor: ThreadPoolExecutor,
        *,
        max_batch_rows: int,
        max_queue_delay_s: float = 0.0,
    ) -> None:
        self.time = BatchTime()
        self.rows = 0
        """Rows the model has scored."""
        self.cpu_s = 0.0
        """CPU time of its calls, seconds: that of the calling thread."""
        self._run = run
        self._executor = executor
        self._max_rows = max_batch_rows
        self._max_delay_s = max_queue_delay_s
        self._queue: deque[_Caller] = deque()
        self._queued_rows = 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._full = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, rows: Rows) -> F32:
        """Outputs of `rows`; waits while too many rows are queued (backpressure).

        Raises:
            Exception: what `run` raised for these rows alone.
            ModelError: the batcher is closed. Fatal.
        """
        if self._over_at_once(len(rows)):
            return self._timed(rows)
        async with self._turn:
            while self._queued_rows and self._queued_rows + len(rows) > self._bound:
                self._changed.clear()
                await self._changed.wait()
        if self._closed:
            raise ModelError("scoring rows failed: the scorer is closed; load it again")
        caller = _Caller(rows, time.monotonic(), asyncio.get_running_loop().create_future())
        self._queue.append(caller)
        self._queued_rows += len(rows)
        if self._queued_rows >= self._max_rows:
            self._full.set()
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._work(), name="batcher")
        return await caller.answer

    async def close(self) -> None:
        """Answer whoever waits, then refuse."""
        self._closed = True
        self._full.set()
        if self._drain is not None:
            await asyncio.wait([self._drain])

    def _over_at_once(self, rows: int) -> bool:
        """Whether nobody waits, nobody may come, and the call is known to be short."""
        idle = self._drain is None or self._drain.done()
        alone = idle and not self._queue and not self._max_delay_s and not self._closed
        return alone and self.time.calls > 0 and self.time.seconds(rows) < _AT_ONCE_S

    @property
    def _bound(self) -> int:
        return _QUEUED_BATCHES * self._max_rows

    async def _work(self) -> None:
        """Call after call until nobody waits."""
        joined: list[_Caller] = []
        try:
            while self._queue:
                await self._wait_for_company()
                joined = self._join()
                if joined:
                    await self._answer(joined)
        finally:
            # Only when this task itself is cancelled, as the event loop ends, is anyone left.
            for caller in (*joined, *self._queue):
                caller.answer.cancel()

    async def _wait_for_company(self) -> None:
        wait_s = self._queue[0].since + self._max_delay_s - time.monotonic()
        if wait_s <= 0 or self._queued_rows >= self._max_rows or self._closed:
            return
        self._full.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._full.wait()
        except TimeoutError:
            return

    def _join(self) -> list[_Caller]:
        """The next callers that fit one call; at least one, of those not cancelled meanwhile."""
        joined: list[_Caller] = []
        rows = 0
        while self._queue:
            caller = self._queue[0]
            if joined and rows + len(caller.rows) > self._max_rows:
                break
            self._queue.popleft()
            self._queued_rows -= len(caller.rows)
            if not caller.answer.done():
                joined.append(caller)
                rows += len(caller.rows)
        self._changed.set()
        return joined

    async def _answer(self, joined: list[_Caller]) -> None:
        """One call for all of them; if it fails, one for each."""
        try:
            outputs = await self._call([caller.rows for caller in joined])
        # A task boundary: whatever the model raises is an answer, to be told to its callers.
        except Exception as error:  # noqa: BLE001
            if len(joined) == 1:
                if not joined[0].answer.done():
                    joined[0].answer.set_exception(error)
                return
            for caller in joined:
                if not caller.answer.done():
                    await self._answer([caller])
            return
        start = 0
        for caller in joined:
            stop = start + len(caller.rows)
            if not caller.answer.done():
                caller.answer.set_result(outputs[start:stop])
            start = stop

    async def _call(self, parts: list[Rows]) -> F32:
        rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._timed, rows)

    def _timed(self, rows: Rows) -> F32:
        """One call, and what it teaches; the way to the thread is none of the model's time."""
        began, began_cpu = time.monotonic(), time.thread_time()
        outputs = self._run(rows)
        if len(rows):
            self.time.observe(len(rows), time.monotonic() - began)
            self.cpu_s += time.thread_time() - began_cpu
            self.rows += len(rows)
        return outputs
