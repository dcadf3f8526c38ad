"""What happens to a batch whose body raises, waits or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import FatalError, RetryableError
from headrace.streams.transport.bodies import Bodies
from headrace.streams.transport.flow import Delivered, Flow, Piece


class Handler:
    def __init__(self, body: Callable[[Delivered], Awaitable[None]]) -> None:
        self.batch = body

    async def assigned(self, partitions: object) -> None:
        raise NotImplementedError

    async def revoked(self, partitions: object) -> None:
        raise NotImplementedError


def one_batch() -> tuple[Flow, Delivered]:
    flow = Flow(
        ("t", 0),
        0,
        committed=None,
        batch_rows=5,
        max_in_flight=2,
        held_bytes=100,
        changed=lambda: None,
    )
    offsets = np.arange(5)
    flow.offer(Piece(RecordBatch("t", 0, offsets, offsets, [None] * 5, [b"secret"] * 5), 10))
    delivered = flow.take(1.0)
    assert delivered is not None
    return flow, delivered


def bodies(body: Callable[[Delivered], Awaitable[None]], failed: list[BaseException]) -> Bodies:
    return Bodies(Handler(body), failed.append)


@pytest.mark.parametrize("error", [ValueError("secret"), RetryableError("x", retry_after_s=7.0)])
async def test_raised_batch_is_offered_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch goes back unacknowledged, with the error's class but not its text in the log."""

    async def body(delivered: Delivered) -> None:
        raise error

    failed: list[BaseException] = []
    flow, delivered = one_batch()
    await bodies(body, failed).run(delivered)
    assert flow.in_flight == 1
    assert not delivered.finished
    assert delivered.attempts == 1
    assert flow.take(flow.not_before) is delivered
    assert type(error).__name__ in caplog.text
    assert "secret" not in caplog.text
    assert failed == []


async def test_done_before_raising_is_not_offered_again() -> None:
    """What was acknowledged stays so."""

    async def body(delivered: Delivered) -> None:
        delivered.done()
        raise ValueError

    flow, delivered = one_batch()
    await bodies(body, []).run(delivered)
    assert flow.position == 5
    assert flow.take(1e12) is None


async def test_fatal_error_ends_the_stage() -> None:
    """A FatalError is handed to fail, and the batch is not offered again."""

    async def body(delivered: Delivered) -> None:
        raise FatalError("no")

    failed: list[BaseException] = []
    flow, delivered = one_batch()
    await bodies(body, failed).run(delivered)
    assert [str(error) for error in failed] == ["no"]
    assert flow.take(1e12) is None


async def test_cut_off_spares_the_agent_and_cancellation_does_not() -> None:
    """A body cut off ends without ending its task; a real cancellation ends the task."""
    begun = asyncio.Event()

    async def body(delivered: Delivered) -> None:
        begun.set()
        await asyncio.sleep(3600)

    running = bodies(body, [])

    async def agent() -> str:
        await running.run(one_batch()[1])
        begun.clear()
        await running.run(one_batch()[1])
        return "not reached"

    task = asyncio.create_task(agent())
    await begun.wait()
    assert running.cut_off() == 1
    await running.finished()
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(running.finished(), 1)


@pytest.mark.parametrize("state", ["closing", "paused"])
async def test_a_batch_on_the_way_does_not_reach_the_body(state: str) -> None:
    """A batch of a partition that is going, or paused, is not begun; paused, it is kept."""

    async def body(delivered: Delivered) -> None:
        raise AssertionError("begun")

    flow, delivered = one_batch()
    setattr(flow, state, True)
    await bodies(body, []).run(delivered)
    setattr(flow, state, False)
    assert (flow.take(1.0) is delivered) == (state == "paused")
