"""Closing a fetcher whose own tasks it cancels does not cancel whoever closes it."""

from __future__ import annotations

import asyncio

import pytest

from headrace.streams.bus.repairs import _closing


async def cancels_its_own(_: object) -> None:
    """What aiokafka's `Fetcher.close` does: cancel a task and await it."""
    task = asyncio.ensure_future(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_its_own_cancellation_stays_inside() -> None:
    """The closer goes on."""
    await _closing(cancels_its_own)(object())


async def test_a_cancellation_from_outside_still_arrives() -> None:
    """Whoever closes can be cancelled as ever."""

    async def hangs(_: object) -> None:
        await asyncio.sleep(60)

    closing = asyncio.create_task(_closing(hangs)(object()))
    await asyncio.sleep(0)
    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
