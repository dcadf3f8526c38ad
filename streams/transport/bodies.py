"""The agent's bodies: each batch goes to the handler, and comes back when the handler raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from headrace.schemas.errors import FatalError, RetryableError
from headrace.streams.transport.options import log

if TYPE_CHECKING:
    from headrace.streams.transport.flow import Delivered
    from headrace.streams.transport.stage import StageHandler

_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 5.0


class Bodies:
    """Runs `handler.batch` for each batch that the agent gets, and knows which are running.

    Delivery: a body that raises leaves its batch unacknowledged; the batch is offered again, in
    its place, after a back-off that doubles from 0.1 s to 5 s (a RetryableError names its own).
    A FatalError ends the stage.
    """

    def __init__(self, handler: StageHandler, fail: Callable[[BaseException], None]) -> None:
        self._handler = handler
        self._fail = fail
        self._running: set[asyncio.Task[None]] = set()
        self._cut_off: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, delivered: Delivered) -> None:
        """Hand one batch over; called by the agent, one at a time for each of its bodies."""
        if delivered.flow.closing:
            return
        if delivered.flow.must_wait(delivered):
            delivered.flow.give_back(delivered)
            return
        task = asyncio.current_task()
        if task is None:
            raise FatalError("a batch came outside any task; give it out by the agent")
        self._running.add(task)
        self._idle.clear()
        try:
            await self._handler.batch(delivered)
        except asyncio.CancelledError:
            if task not in self._cut_off:
                raise
            task.uncancel()  # ours, for a batch whose partition is gone; the agent goes on
        except FatalError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  # agent boundary: never acked, offered again
            self._offer_again(delivered, error)
        finally:
            self._running.discard(task)
            self._cut_off.discard(task)
            if not self._running:
                self._idle.set()

    def _offer_again(self, delivered: Delivered, error: Exception) -> None:
        delivered.attempts += 1
        wait = min(_FIRST_BACKOFF_S * 2 ** (delivered.attempts - 1), _LAST_BACKOFF_S)
        if isinstance(error, RetryableError):
            wait = error.retry_after_s
        topic, partition = delivered.flow.partition
        log.warning(
            "batch %s[%d]@%d..%d raised %s; offered again in %.1f s",
            topic,
            partition,
            delivered.first,
            delivered.next - 1,
            type(error).__name__,
            wait,
        )
        delivered.flow.give_back(delivered, not_before=time.monotonic() + wait)

    async def finished(self) -> None:
        """Wait until no body is running."""
        await self._idle.wait()

    def cut_off(self) -> int:
        """Cancel the bodies that are still running; how many."""
        late = list(self._running)
        for task in late:
            self._cut_off.add(task)
            task.cancel()
        return len(late)
