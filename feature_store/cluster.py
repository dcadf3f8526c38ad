"""Requests to a Redis cluster: one per node that is concerned, all at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from headrace.feature_store.buckets import SLOTS, slot_of
from headrace.feature_store.redis_store import Command, Server, moved_to, raise_refusals
from headrace.feature_store.wire import ask_server, key_of, with_text
from headrace.schemas.errors import StoreUnavailableError

Node: TypeAlias = tuple[str, int]

_ROUNDS = 4
"""Times a command is sent on to where its slot has moved before the caller hears of it."""


class ClusterWire:
    """A cluster: learns which node serves which slot, and learns anew when one moves or dies.

    Args:
        place: What messages call it.
        seeds: Host and port of nodes to ask first.
        connect: Makes the server at a node.
    """

    spans = False

    def __init__(
        self, place: str, seeds: Sequence[Node], connect: Callable[[Node], Server]
    ) -> None:
        self.place = place
        self._seeds = list(seeds)
        self._connect = connect
        self._servers: dict[Node, Server] = {}
        self._slots: list[Server] = []

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """See `Wire`; commands of one node go in one request, in order, nodes side by side."""
        answers: list[Any] = [None] * len(commands)
        open_: list[int] = list(range(len(commands)))
        for _ in range(_ROUNDS):
            if not self._slots:
                await self._learn()
            await self._ask_nodes(commands, open_, answers)
            await self._follow(commands, open_, answers)
            open_ = [at for at in open_ if moved_to(answers[at]) is not None]
            if not open_:
                break
        raise_refusals(self.place, answers)
        return answers

    async def ask_each(self, command: Command) -> list[Any]:
        """See `Wire`."""
        if not self._slots:
            await self._learn()
        answers = [(await server.ask([command]))[0] for server in dict.fromkeys(self._slots)]
        raise_refusals(self.place, answers)
        return answers

    async def close(self) -> None:
        """See `Wire`."""
        self._slots = []
        for server in self._servers.values():
            await server.close()

    async def _ask_nodes(
        self, commands: Sequence[Command], which: Iterable[int], answers: list[Any]
    ) -> None:
        groups: dict[Server, list[int]] = {}
        for at in which:
            groups.setdefault(self._slots[slot_of(key_of(commands[at]))], []).append(at)
        results = await asyncio.gather(
            *[ask_server(server, [commands[at] for at in ats]) for server, ats in groups.items()],
            return_exceptions=True,
        )
        for ats, result in zip(groups.values(), results, strict=True):
            if isinstance(result, BaseException):
                self._slots = []  # the node may be gone and another serve its slots
                raise result
            for at, answer in zip(ats, result, strict=True):
                answers[at] = answer

    async def _follow(
        self, commands: Sequence[Command], which: Iterable[int], answers: list[Any]
    ) -> None:
        """Do as the nodes say: the slot is served elsewhere from now on, or for this command only.

        The table is not learnt anew: other nodes may hear of a move later than the one that told.
        """
        for at in which:
            target = moved_to(answers[at])
            if target is None:
                continue
            node, once = target
            if once:
                asked = await self._server(node).ask([(b"ASKING",), with_text(commands[at])])
                answers[at] = asked[1]
            elif node[0] and self._slots:
                self._slots[slot_of(key_of(commands[at]))] = self._server(node)
            else:
                self._slots = []  # the node does not know its own name: learn it

    async def _learn(self) -> None:
        """Ask the nodes in turn which of them serves which slot.

        Raises:
            StoreUnavailableError: none answers, or a slot has no node. Retryable.
            StoreRefusedError, FatalError: a node refused us. Fatal.
        """
        failure: StoreUnavailableError | None = None
        for node in dict.fromkeys([*self._seeds, *self._servers]):
            try:
                answer = await self._server(node).ask([(b"CLUSTER", b"SLOTS")])
            except StoreUnavailableError as error:
                failure = error
                continue
            raise_refusals(self.place, answer)
            self._slots = self._table(answer[0], node)
            return
        raise failure or StoreUnavailableError(f"the cluster at {self.place} has no nodes")

    def _table(self, ranges: Iterable[list[Any]], asked: Node) -> list[Server]:
        table: list[Server | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            # A node that does not know its name (none, or "?") is reached as the one we asked.
            name = asked[0] if host in (None, b"", b"?") else host.decode()
            table[first : last + 1] = [self._server((name, int(port)))] * (last + 1 - first)
        served = [server for server in table if server is not None]
        if len(served) < SLOTS:
            raise StoreUnavailableError(
                f"the cluster at {self.place} serves {len(served)} of {SLOTS} slots; "
                f"assign the missing ones or wait for a node to come back"
            )
        return served

    def _server(self, node: Node) -> Server:
        server = self._servers.get(node)
        if server is None:
            server = self._servers[node] = self._connect(node)
        return server
