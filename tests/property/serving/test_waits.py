"""Whoever asks the batcher waits no longer than its limit, whatever the others do.

On a loop whose clock stands still while there is work and then jumps to the next timer, so that a
wait is measured to the microsecond and no machine is too slow for it.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.serving import batcher as module
from headrace.serving.batcher import Batcher

NOISE_S = 1e-6
arrivals = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=25
)  # milliseconds after the one before, rows


class Jumping(selectors.DefaultSelector):
    """Nothing is waited for: the time until the next timer is over at once."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; without it the clock goes on by `timeout`."""
        found = super().select(0)
        if not found and timeout:
            self.now_s += timeout
        return found


class Inline(ThreadPoolExecutor):
    """Runs what it is given before it returns: a call takes none of the loop's time."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """A future that is done."""
        done: Future[Any] = Future()
        done.set_result(work(*args, **named))
        return done


def waits(
    sent: list[tuple[int, int]], *, most_rows: int, delay_s: float, kind: type[Batcher] = Batcher
) -> tuple[list[float], list[int]]:
    """How long each caller waited, and how many rows each call had."""
    selector, calls = Jumping(), list[int]()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s  # type: ignore[method-assign]

    def double(rows: Any) -> Any:
        calls.append(len(rows))
        return rows * 2

    async def ask(batcher: Batcher, number: int, at_s: float, rows: int) -> float:
        await asyncio.sleep(at_s)
        mine = np.full((rows, 1), number, np.float32)
        answer = await batcher.run(mine)
        assert np.array_equal(answer, mine * 2)
        return selector.now_s - at_s

    async def all_of_them() -> list[float]:
        batcher = kind(double, Inline(1), max_batch_rows=most_rows, max_queue_delay_s=delay_s)
        times = itertools.accumulate(gap / 1000 for gap, _ in sent)
        return await asyncio.gather(
            *(
                ask(batcher, number, at_s, rows)
                for number, (at_s, (_, rows)) in enumerate(zip(times, sent, strict=True))
            )
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "monotonic", lambda: selector.now_s)
        try:
            return loop.run_until_complete(all_of_them()), calls
        finally:
            loop.close()


@settings(max_examples=200, deadline=None)
@given(sent=arrivals, most_rows=st.integers(5, 12), delay_ms=st.integers(0, 20))
def test_nobody_waits_longer_than_the_limit(
    sent: list[tuple[int, int]], most_rows: int, delay_ms: int
) -> None:
    """For any callers at any times; no call is larger than asked, and each row is in one."""
    waited, calls = waits(sent, most_rows=most_rows, delay_s=delay_ms / 1000)

    assert max(waited) <= delay_ms / 1000 + NOISE_S
    assert max(calls) <= most_rows
    assert sum(calls) == sum(rows for _, rows in sent)


class Prolonging(Batcher):
    """Wrong: with whoever comes last the wait begins anew."""

    async def _wait_for_company(self) -> None:
        await super()._wait_for_company()
        self._queue[0].since = self._queue[-1].since
        await super()._wait_for_company()


def test_a_batcher_that_begins_to_wait_anew_is_found() -> None:
    """The check above can fail: the first caller would wait for two delays."""
    sent = [(0, 1), (9, 1)]

    assert max(waits(sent, most_rows=5, delay_s=0.01)[0]) <= 0.01 + NOISE_S
    assert max(waits(sent, most_rows=5, delay_s=0.01, kind=Prolonging)[0]) > 0.01 + NOISE_S
