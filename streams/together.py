"""Several things awaited together: all of them end, or none goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def all_of(*works: Coroutine[Any, Any, None]) -> None:
    """Await all; when one fails, or this is cancelled, the others are cancelled and waited for.

    Raises:
        BaseException: that of the first that failed, as it is: no group of exceptions, which the
            doors of the dependencies would not know.

    Delivery: on return or raise none of them does anything any more.
    """
    if len(works) == 1:  # without a task: a lane asks this for every batch
        return await works[0]
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
