"""Every transaction that is open in a pipeline's topics, and what can be done about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from headrace.streams.bus.connection import mapped_errors, started
from headrace.streams.bus.lost_markers import OFFSETS, Hanging, described, ids_of, open_in
from headrace.streams.transport.mending import Mending

Fate = Literal["open", "committed", "aborted", "mended", "forgotten"]


class Undecided(NamedTuple):
    """One transaction.

    Attributes:
        transactional_id: Whose; "" where the bus does not know any more.
        fate: ``open``: its owner or the bus ends it. ``committed`` and ``aborted``: the bus decided
            so and lost the end in `places`. ``mended``: that end was written just now.
            ``forgotten``: nobody will end it, and nobody knows what was decided.
        places: Where it is open, ``topic[partition]@offset`` of its first record.
    """

    transactional_id: str
    fate: Fate
    places: tuple[str, ...]


async def undecided(
    options: Mapping[str, Any], groups: Sequence[str], topics: Sequence[str], *, mend: bool
) -> list[Undecided]:
    """Look at the transactions of these groups' workers.

    Args:
        options: Client options.
        groups: Consumer groups; their workers' transactional ids begin with their names.
        topics: What these may write to.
        mend: Write the ends that are missing.

    Raises:
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    tried = "looking for open transactions"
    async with started(AIOKafkaAdminClient(**options), options, tried) as admin:
        with mapped_errors(tried):
            client = admin._client
            seen = [await open_in(client, topics, group) for group in groups]
            found = {one for each in seen for one in each.hanging}
            by_producer: dict[int, list[Hanging]] = defaultdict(list)
            for one in sorted(found):
                by_producer[one.producer_id].append(one)
            names = await ids_of(client, by_producer) if by_producer else {}
            rows = []
            for producer, hanging in by_producer.items():
                name = names.get(producer, "")
                if _ours(name, hanging, groups):
                    mending = Mending(options, name.rpartition(".")[0], topics)
                    fate = await _fate(client, mending, name, mend=mend)
                    rows.append(Undecided(name, fate, tuple(map(str, hanging))))
            return rows


def _ours(name: str, hanging: Sequence[Hanging], groups: Sequence[str]) -> bool:
    """Not one of another group whose offsets lie in the same partition."""
    if name:
        return name.rpartition(".")[0] in groups
    return any(one.part.topic != OFFSETS for one in hanging)


async def _fate(client: Any, mending: Mending, name: str, *, mend: bool) -> Fate:
    last = await described(client, name) if name else None
    if last is None or (last.committed is None and not last.running):
        return "forgotten"
    lost = await mending.lost(client, name)
    if lost is None:
        return "open"
    if mend and await mending.mend(client, name) is not None:
        return "mended"
    return "committed" if lost.committed else "aborted"
