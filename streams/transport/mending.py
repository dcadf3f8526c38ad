"""Ends that the bus decided and lost are written again, before what it decided is forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from headrace.streams.bus.connection import mapped_errors, started
from headrace.streams.bus.lost_markers import (
    Described,
    Hanging,
    described,
    may_write_markers,
    open_in,
    write_marker,
)
from headrace.streams.transport.transactional_producer import OPEN_S, discard, open_producer

log = logging.getLogger("headrace.transport")

_ENDING_S = 0.02


class Lost(NamedTuple):
    """An end that is missing.

    Attributes:
        committed: What the bus decided; else it was aborted.
        hanging: Where the transaction is open for readers.
        whole: This user sees every place where it may be open.
    """

    committed: bool
    hanging: tuple[Hanging, ...]
    whole: bool

    def __str__(self) -> str:
        where = ", ".join(map(str, self.hanging))
        return f"{'committed' if self.committed else 'aborted'} by the bus, but not in {where}"


class Mending:
    """Looks after transactions of former owners, and of our own former producer.

    The decision is the coordinator's, never ours: where it says that a transaction is ended and a
    partition still has it open, that end is written there. It forgets at the next opening of the
    id; then nobody knows, and nothing is written.

    Args:
        options: Keyword arguments of every bus client.
        group: Whose offsets the transactions move.
        topics: What they may write to.
    """

    def __init__(self, options: Mapping[str, Any], group: str, topics: Sequence[str]) -> None:
        self._options, self._group, self._topics = dict(options), group, tuple(topics)
        self._decided: dict[str, Lost] = {}
        self._looked: dict[str, Described] = {}
        self._one = asyncio.Lock()

    async def lost(self, client: Any, transactional_id: str) -> Lost | None:
        """What is missing of an id's last transaction; None: nothing, or it is not ended.

        Looked at twice: what was open in between belonged to no other transaction.

        Raises:
            KafkaError: what the bus answered.
        """
        before = await described(client, transactional_id)
        if before is None or before.committed is None:
            return None
        seen = await open_in(client, self._topics, self._group)
        hanging = tuple(one for one in seen.hanging if one.producer_id == before.producer_id)
        if not hanging or await described(client, transactional_id) != before:
            return None
        return Lost(before.committed, hanging, seen.whole)

    async def mend(self, client: Any, transactional_id: str) -> Lost | None:
        """Write what is missing; what was written, None where nothing was.

        The id is opened before, so that whoever has it cannot go on with it, and what is open then
        is looked at again. Where this user may not write it, or not see all of it, it is told once,
        and left as it is: opening the id would make the bus forget.

        Raises:
            KafkaError: what the bus answered. What was decided is kept for the next try.
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """
        async with self._one:
            lost = self._decided.get(transactional_id)
            if lost is None:
                last = await described(client, transactional_id)
                if last is None or self._looked.get(transactional_id) == last:
                    return None
                lost = await self.lost(client, transactional_id)
                if lost is None or not await self._permitted(client, transactional_id, lost):
                    self._looked[transactional_id] = last
                    return None
            self._decided[transactional_id] = lost
            await discard(await open_producer(self._options, transactional_id))
            still = await open_in(client, self._topics, self._group)
            for hanging in lost.hanging:
                if hanging in still.hanging:
                    await write_marker(client, hanging, committed=lost.committed)
            del self._decided[transactional_id]
            log.warning("transaction %r was %s; its end is written", transactional_id, lost)
            return lost

    async def _permitted(self, client: Any, transactional_id: str, lost: Lost) -> bool:
        if lost.whole and await may_write_markers(client):
            return True
        log.error(
            "transaction %r was %s, and this user may not write its end: as one with `Alter` on "
            "the cluster, and `Read` of all topics, run `headrace topics undecided --mend`",
            transactional_id, lost,
        )  # fmt: skip
        return False

    async def mend_own(self, transactional_id: str) -> None:
        """As `mend`, for an id of ours whose last transaction ended we do not know how.

        Raises:
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """
        tried = f"looking how transaction {transactional_id!r} ended"
        with mapped_errors(tried):
            async with asyncio.timeout(OPEN_S):  # of a bus that takes the connection and is silent
                await self._mend_own(transactional_id, tried)

    async def _mend_own(self, transactional_id: str, tried: str) -> None:
        client = AIOKafkaAdminClient(**self._options)
        async with started(client, self._options, tried) as admin:
            while (last := await described(admin._client, transactional_id)) is not None:
                if not last.ending:
                    await self.mend(admin._client, transactional_id)
                    return
                await asyncio.sleep(_ENDING_S)
