"""Dependencies that are away, told once for all steps that wait for them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from headrace.schemas.errors import RetryableError

log = logging.getLogger("headrace.delivery")


@dataclass(slots=True)
class Outage:
    """One dependency that is away: from the first step that failed to the last that succeeds.

    Attributes:
        name: The dependency: ``bus`` or ``store``.
        began_s: Monotonic seconds.
        waiting: Steps that failed and did not succeed yet.
        steps: Steps that failed in all.
        tries: How often they failed.
        turned: Set when one of them succeeds: the others need not wait their pause out.
    """

    name: str
    began_s: float
    waiting: set[object] = field(default_factory=set)
    steps: int = 0
    tries: int = 0
    turned: asyncio.Event = field(default_factory=asyncio.Event)


class Outages:
    """What is away just now, as the steps of one event loop find it.

    Every step goes on trying by itself, so a dependency that fails one partition only (a leader
    that is missing, a write too large for the memory left) holds up no other. What is shared is the
    line when it begins and the one when it is over, and the news that it is: a partition whose
    pause has grown to its longest goes on as soon as another one's step succeeds.
    """

    def __init__(self) -> None:
        self._away: dict[str, Outage] = {}

    async def wait(self, step: object, what: str, error: RetryableError, pause_s: float) -> None:
        """After a failure: wait out the pause, or until the dependency is seen to be back.

        Args:
            step: Stands for the step, the same at each of its tries.
            what: For the log: the step and its partition.
            error: What it raised.
            pause_s: Longest wait, seconds.
        """
        name = error.code.partition(".")[0]
        for other in [o for o in self._away.values() if o.name != name]:
            self._leave(other, step, succeeded=True)  # it got as far as the next dependency
        outage = self._away.get(name)
        if outage is None:
            outage = self._away[name] = Outage(name, time.monotonic())
            log.warning("the %s is away, noticed at %s: %s", name, what, error)
        if step not in outage.waiting:
            outage.waiting.add(step)
            outage.steps += 1
        outage.tries += 1
        try:
            async with asyncio.timeout(pause_s):
                await outage.turned.wait()
        except TimeoutError:
            return

    def succeeded(self, step: object) -> None:
        """A step came through: others that wait for the same may try at once."""
        for outage in list(self._away.values()):
            self._leave(outage, step, succeeded=True)

    def given_up(self, step: object) -> None:
        """A step is not tried any more, and nothing is known of its dependency."""
        for outage in list(self._away.values()):
            self._leave(outage, step, succeeded=False)

    def _leave(self, outage: Outage, step: object, *, succeeded: bool) -> None:
        if step not in outage.waiting:
            return
        outage.waiting.discard(step)
        if succeeded:
            outage.turned.set()
            outage.turned = asyncio.Event()
        if outage.waiting:
            return
        del self._away[outage.name]
        if succeeded:
            log.warning(
                "the %s is back after %.1f s; %d steps waited for it and failed %d times",
                outage.name, time.monotonic() - outage.began_s, outage.steps, outage.tries,
            )  # fmt: skip


_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, Outages] = WeakKeyDictionary()


def outages() -> Outages:
    """Those of the running event loop: all stages and lanes in it share their dependencies."""
    loop = asyncio.get_running_loop()
    found = _LOOPS.get(loop)
    if found is None:
        found = _LOOPS[loop] = Outages()
    return found
