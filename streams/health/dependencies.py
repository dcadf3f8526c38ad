"""Whether bus and store answer, asked again and again from beside the workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from headrace.feature_store.store import Store
from headrace.schemas.errors import BusUnavailableError, HeadraceError
from headrace.streams.bus.options import client_options
from headrace.streams.workers.jobs import Endpoints

log = logging.getLogger("headrace.health")

EVERY_S = 2.0
ANSWER_S = 3.0
"""Longest wait for one answer; who takes longer is not ready for traffic."""

NOT_ASKED = "not asked yet"


class Dependencies:
    """What the last question to bus and store found.

    Attributes:
        trouble: Why ``bus`` or ``store`` do not answer, one line; None where they do.
    """

    def __init__(self) -> None:
        self.trouble: dict[str, str | None] = {"bus": NOT_ASKED, "store": NOT_ASKED}

    @property
    def away(self) -> frozenset[str]:
        """Those that were asked and did not answer."""
        return frozenset(n for n, why in self.trouble.items() if why not in (None, NOT_ASKED))

    async def watch(self, endpoints: Endpoints, pipeline: str) -> None:
        """Ask both every `EVERY_S`; returns never.

        Args:
            endpoints: Where they are.
            pipeline: Whose rights on the store are used.
        """
        store = _Store(endpoints, pipeline)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask("bus", _bus(endpoints)))
                group.create_task(self._ask("store", store.look))
        finally:
            await store.close()

    async def _ask(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.trouble[name] = await _found(look)
            await asyncio.sleep(EVERY_S)


async def _found(look: Callable[[], Awaitable[None]]) -> str | None:
    """Why one look failed; None where it did not."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await look()
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    except HeadraceError as error:
        return str(error)
    except Exception as error:  # task boundary: a look that fails must not end what it looks at
        log.exception("a look at a dependency failed")
        return f"the question itself failed with {type(error).__name__}; see the log"
    return None


def _bus(endpoints: Endpoints) -> Callable[[], Awaitable[None]]:
    options = client_options(endpoints.bus)
    each = [{**options, "bootstrap_servers": [one]} for one in options["bootstrap_servers"]]

    async def look() -> None:
        """Any of the servers is enough; asked side by side, as a dead one may cost the whole wait.

        Raises:
            BusUnavailableError, with the last refusal or failure.
        """
        # Here and not above, as below: workers start first, and these imports take their time.
        from headrace.streams.bus.connection import check_bus

        asking = [asyncio.create_task(check_bus(one)) for one in each]
        try:
            failed = "no server is named"
            for answer in asyncio.as_completed(asking):
                check = await answer
                if check.state == "answers":
                    return
                failed = check.line
            raise BusUnavailableError(failed)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    return look


class _Store:
    """One connection, opened when first asked; a lost one is opened anew by the store itself."""

    def __init__(self, endpoints: Endpoints, pipeline: str) -> None:
        self._store: Store | None = None
        self._settings = endpoints.store
        self._pipeline = pipeline

    async def look(self) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailableError: retryable. StoreRefusedError, SettingsError: fatal.
        """
        from headrace.feature_store.open import open_store

        if self._store is None:
            self._store = await open_store(self._settings, self._pipeline)
        await self._store.ping()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._store is not None:
            await self._store.close()
