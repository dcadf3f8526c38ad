"""Run a command's coroutine: a signal ends it in order, its contexts closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from headrace.streams.cli.context import until_signal

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None where SIGINT or SIGTERM ended it.

    Raises:
        HeadraceError: what `work` raised.
    """
    return asyncio.run(_until(work))


async def _until(work: Coroutine[Any, Any, T]) -> T | None:
    working = asyncio.create_task(work)
    told = asyncio.create_task(until_signal())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait({working})
        # A failure while closing is a failure; the cancellation itself is what was asked for.
        return None if working.cancelled() else working.result()
    finally:
        told.cancel()
