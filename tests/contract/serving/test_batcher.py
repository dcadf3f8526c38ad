"""The batcher's contract: joined, bounded, and no caller can hurt another."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headrace.serving.batcher import Batcher

PATIENCE_S = 5.0
BAD = 666.0


class Model:
    """Doubles its first column; waits at a gate while it is closed; refuses `BAD`."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.calls = []
        self.running = 0
        self.most_running = 0

    def __call__(self, rows):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.calls.append(len(rows))
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        self.running -= 1
        if (rows == BAD).any():
            raise ValueError("bad row")
        return rows[:, :1] * 2

    async def until_entered(self):
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, self.entered.wait, PATIENCE_S)


class MLServerLike:
    """Known bad: the fan-out stops at the first caller who has gone (MLServer 1.7.1)."""

    def __init__(self, run, executor, *, max_batch_rows, max_queue_delay_s=0.0):
        self._run, self._executor = run, executor
        self._waiting = {}
        self._task = None

    async def run(self, rows):
        answer = asyncio.get_running_loop().create_future()
        self._waiting[answer] = rows
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    async def _work(self):
        await asyncio.sleep(0)
        callers = list(self._waiting)
        rows = np.concatenate([self._waiting[caller] for caller in callers])
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._executor, self._run, rows)
        start = 0
        try:
            for caller in callers:
                stop = start + len(self._waiting[caller])
                caller.set_result(outputs[start:stop])
                start = stop
        except KeyError:
            return

    async def close(self):
        if self._task is not None:
            await self._task


@pytest.fixture
def model():
    return Model()


@pytest.fixture
async def make(model):
    """A factory of batchers over `model`."""
    made = []
    executor = ThreadPoolExecutor(2)

    def build(kind=Batcher, **options):
        made.append(kind(model, executor, **({"max_batch_rows": 100} | options)))
        return made[-1]

    yield build
    model.gate.set()
    for batcher in made:
        await batcher.close()
    executor.shutdown()


def rows(*values):
    return np.array([[value, 0.0] for value in values], np.float32).reshape(-1, 2)


async def ask(batcher, *values):
    return (await batcher.run(rows(*values)))[:, 0].tolist()


async def cancel_one_of_four(batcher, model):
    """Four callers in one call, the second cancelled while the model runs; what became of each."""
    model.gate.clear()
    callers = [asyncio.create_task(ask(batcher, float(i))) for i in range(4)]
    await model.until_entered()
    callers[1].cancel()
    await asyncio.sleep(0)
    model.gate.set()
    _, waiting = await asyncio.wait(callers, timeout=1.0)
    for caller in waiting:
        caller.cancel()
    return [
        "waits" if c in waiting else "cancelled" if c.cancelled() else c.result() for c in callers
    ]


async def test_cancelling_some_leaves_the_others_answered(make, model):
    """One of four callers is cancelled while the model runs: the other three get their answers."""
    found = await cancel_one_of_four(make(), model)

    assert found == [[0.0], "cancelled", [4.0], [6.0]]
    assert model.calls == [4]


async def test_the_known_bad_batcher_fails_this_contract(make, model):
    """The same question shows the poisoned batch of a batcher that is wrong."""
    found = await cancel_one_of_four(make(MLServerLike), model)

    assert found == [[0.0], "cancelled", "waits", "waits"]


@pytest.mark.parametrize("cancelled", [{0}, {3}, {0, 2}, {1, 2, 3}, {0, 1, 2, 3}])
async def test_any_k_of_n_may_be_cancelled_before_their_call(make, model, cancelled):
    """Callers who leave while they are queued are not run, the rest are answered."""
    batcher = make()
    model.gate.clear()
    first = asyncio.create_task(ask(batcher, 9.0))
    await model.until_entered()
    callers = [asyncio.create_task(ask(batcher, float(i))) for i in range(4)]
    await asyncio.sleep(0)
    for i in cancelled:
        callers[i].cancel()
    model.gate.set()

    found = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), PATIENCE_S)

    assert await first == [18.0]
    for i, answer in enumerate(found):
        assert isinstance(answer, asyncio.CancelledError) if i in cancelled else answer == [2.0 * i]
    assert sum(model.calls) == 1 + 4 - len(cancelled)


async def test_callers_of_one_moment_share_a_call_and_get_their_own_rows(make, model):
    """Rows are joined and split back by length, in order."""
    batcher = make()

    found = await asyncio.gather(ask(batcher, 1, 2), ask(batcher), ask(batcher, 3), ask(batcher, 4))

    assert found == [[2, 4], [], [6], [8]]
    assert model.calls == [4]


async def test_no_call_holds_more_rows_than_allowed(make, model):
    """What does not fit goes into the next call, in order."""
    batcher = make(max_batch_rows=5)

    found = await asyncio.gather(*(ask(batcher, *range(i, i + 3)) for i in range(4)))

    assert found == [[2.0 * v for v in range(i, i + 3)] for i in range(4)]
    assert model.calls == [3, 3, 3, 3]


async def test_one_callers_bad_rows_fail_that_caller_only(make, model):
    """A failed call is repeated for each of its callers."""
    batcher = make()

    found = await asyncio.gather(
        ask(batcher, 1), ask(batcher, BAD), ask(batcher, 3), return_exceptions=True
    )

    assert (found[0], found[2]) == ([2], [6])
    assert isinstance(found[1], ValueError)
    assert model.calls == [3, 1, 1, 1]


async def test_rows_that_cannot_be_joined_fail_nobody(make):
    """Callers of different widths are answered one by one."""
    batcher = make()
    wide = np.full((1, 3), 7, np.float32)

    found = await asyncio.gather(ask(batcher, 1), batcher.run(wide), ask(batcher, 3))

    assert [found[0], found[1].tolist(), found[2]] == [[2], [[14]], [6]]


async def test_a_failure_does_not_end_the_batcher(make):
    """The call after a failed one is served."""
    batcher = make()
    with pytest.raises(ValueError, match="bad row"):
        await ask(batcher, BAD)

    assert await ask(batcher, 1) == [2]


async def test_one_call_at_a_time(make, model):
    """However many callers and threads there are, the session is never entered twice at once."""
    batcher = make(max_batch_rows=2)

    await asyncio.gather(*(ask(batcher, i) for i in range(20)))

    assert model.most_running == 1


async def test_callers_wait_when_the_queue_is_full(make, model):
    """Backpressure: behind a slow model at most four full batches are queued."""
    batcher = make(max_batch_rows=2)
    model.gate.clear()
    callers = [asyncio.create_task(ask(batcher, i)) for i in range(30)]
    await model.until_entered()
    for _ in range(100):
        await asyncio.sleep(0)

    assert batcher._queued_rows <= 8
    model.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*callers), PATIENCE_S) == [
        [2.0 * i] for i in range(30)
    ]


async def test_a_cancelled_caller_at_the_full_queue_blocks_nobody(make, model):
    """Whoever waits for room and leaves gives the turn on."""
    batcher = make(max_batch_rows=2)
    model.gate.clear()
    callers = [asyncio.create_task(ask(batcher, i)) for i in range(30)]
    await model.until_entered()
    for caller in callers[10:20]:
        caller.cancel()
    model.gate.set()

    _, waiting = await asyncio.wait(callers, timeout=PATIENCE_S)

    assert not waiting
    assert [c.cancelled() for c in callers] == [10 <= i < 20 for i in range(30)]


async def test_a_delay_gathers_company(make, model):
    """With a queue delay a first caller waits for a second; a full batch ends the wait."""
    batcher = make(max_batch_rows=2, max_queue_delay_s=PATIENCE_S * 10)
    first = asyncio.create_task(ask(batcher, 1))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not model.calls

    assert await asyncio.wait_for(ask(batcher, 2), PATIENCE_S) == [4]
    assert await first == [2]
    assert model.calls == [2]


async def test_a_delay_ends_without_company(make):
    """Nobody else comes: the caller is answered after the delay."""
    batcher = make(max_queue_delay_s=0.01)

    assert await asyncio.wait_for(ask(batcher, 1), PATIENCE_S) == [2]


async def test_closing_answers_whoever_waits(make, model):
    """Queued callers are served before the end, also those who wait for company."""
    batcher = make(max_queue_delay_s=PATIENCE_S * 10)
    callers = [asyncio.create_task(ask(batcher, i)) for i in range(3)]
    await asyncio.sleep(0)
    await asyncio.wait_for(batcher.close(), PATIENCE_S)

    assert await asyncio.gather(*callers) == [[0], [2], [4]]
