"""How a cluster's table of slots is learnt and kept, on nodes made of dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from redis import exceptions as rx

from headrace.feature_store.buckets import slot_of
from headrace.feature_store.cluster import ClusterWire, Node
from headrace.feature_store.redis_store import Command
from headrace.schemas.errors import FatalError, StoreRefusedError, StoreUnavailableError

A, B, C = ("a", 1), ("b", 2), ("c", 3)
HALVES = [[0, 8191, [b"a", 1]], [8192, 16383, [b"b", 2]]]
LOW, HIGH = b"{2}", b"{1}"


class FakeNode:
    """Answers CLUSTER SLOTS, and every other command with its node or with what is set."""

    def __init__(self, node: Node) -> None:
        self.node, self.place = node, f"redis://{node[0]}:{node[1]}"
        self.slots: Any = HALVES
        self.answers: dict[bytes, Any] = {}
        self.dead = self.closed = False
        self.asked: list[Command] = []

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        if self.dead:
            raise StoreUnavailableError(f"{self.place} is dead")
        self.asked += commands
        return [
            self.slots if command[0] == b"CLUSTER" else self.answers.get(command[1], self.node[0])
            if len(command) > 1 else "OK"
            for command in commands
        ]  # fmt: skip

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def nodes() -> dict[Node, FakeNode]:
    return {node: FakeNode(node) for node in (A, B, C)}


@pytest.fixture
def wire(nodes: dict[Node, FakeNode]) -> ClusterWire:
    return ClusterWire("redis+cluster://a:1", [A, B], nodes.__getitem__)  # type: ignore[arg-type]


async def ask(wire: ClusterWire, *keys: bytes) -> list[Any]:
    return await wire.ask([(b"GET", key) for key in keys])


def test_the_keys_of_these_tests_are_in_different_halves() -> None:
    """The two keys used below belong to different nodes."""
    assert slot_of(LOW) < 8192 <= slot_of(HIGH)


async def test_each_node_gets_one_request_in_order(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """Commands are split by node and the answers put together again."""
    assert await ask(wire, HIGH, LOW, HIGH) == ["b", "a", "b"]
    assert nodes[B].asked == [(b"GET", HIGH), (b"GET", HIGH)]


async def test_a_dead_seed_is_passed_over(wire: ClusterWire, nodes: dict[Node, FakeNode]) -> None:
    """The table is learnt from the next node that answers; with none, that is the error."""
    nodes[A].dead = True
    assert await ask(wire, HIGH) == ["b"]
    nodes[B].dead = True
    with pytest.raises(StoreUnavailableError, match="redis://b:2 is dead"):
        await ask(wire, HIGH)
    with pytest.raises(StoreUnavailableError, match="redis://b:2 is dead"):
        await ask(wire, HIGH)
    nodes[B].dead = False
    nodes[B].slots = [[0, 16383, [b"b", 2]]]
    assert await ask(wire, HIGH, LOW) == ["b", "b"], "learnt anew after the failure"


async def test_slots_without_a_node_are_a_retryable_error(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """A table with holes is not used."""
    nodes[A].slots = HALVES[:1]
    with pytest.raises(StoreUnavailableError, match="serves 8192 of 16384 slots"):
        await ask(wire, LOW)


@pytest.mark.parametrize("name", [None, b"", b"?"])
async def test_a_node_without_a_name_is_the_one_asked(
    wire: ClusterWire, nodes: dict[Node, FakeNode], name: bytes | None
) -> None:
    """A node that does not know its own address is reached where it was asked."""
    nodes[A].slots = [[0, 16383, [name, 1]]]
    assert await ask(wire, HIGH) == ["a"]


async def test_a_moved_slot_is_remembered(wire: ClusterWire, nodes: dict[Node, FakeNode]) -> None:
    """After MOVED the new node is asked at once, also where the table would still say otherwise."""
    nodes[A].answers[LOW] = rx.MovedError(f"{slot_of(LOW)} c:3")
    assert await ask(wire, LOW, HIGH) == ["c", "b"]
    asked = len(nodes[A].asked)
    assert await ask(wire, LOW) == ["c"]
    assert len(nodes[A].asked) == asked


async def test_a_slot_moved_to_a_node_without_a_name_is_learnt(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """MOVED without an address makes the table be asked for again."""
    await ask(wire, LOW)
    nodes[A].answers[LOW] = rx.MovedError(f"{slot_of(LOW)} :3")
    nodes[A].slots = [[0, 16383, [b"c", 3]]]
    assert await ask(wire, LOW) == ["c"]


async def test_a_slot_on_its_way_is_asked_for_once(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """ASK sends this command on, announced, and changes nothing for the next one."""
    nodes[A].answers[LOW] = rx.AskError(f"{slot_of(LOW)} c:3")
    assert await ask(wire, LOW) == ["c"]
    assert nodes[C].asked == [(b"ASKING",), (b"GET", LOW)]
    del nodes[A].answers[LOW]
    assert await ask(wire, LOW) == ["a"]


async def test_nodes_that_point_at_each_other_are_a_retryable_error(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """A slot nobody admits to is given up after some rounds."""
    nodes[A].answers[LOW] = rx.MovedError(f"{slot_of(LOW)} b:2")
    nodes[B].answers[LOW] = rx.MovedError(f"{slot_of(LOW)} a:1")
    with pytest.raises(StoreUnavailableError, match="MovedError"):
        await ask(wire, LOW)


async def test_no_rights_and_no_cluster_are_fatal(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """A node that refuses to tell its table, or has none, stops the worker."""
    nodes[A].slots = rx.NoPermissionError("no permissions to run 'cluster|slots'")
    with pytest.raises(StoreRefusedError):
        await ask(wire, LOW)
    nodes[A].slots = rx.ResponseError("This instance has cluster support disabled")
    with pytest.raises(FatalError, match="cluster support disabled"):
        await ask(wire, LOW)


async def test_every_node_is_asked_and_closed(
    wire: ClusterWire, nodes: dict[Node, FakeNode]
) -> None:
    """`ask_each` reaches each node that serves a slot, `close` each one known."""
    assert await wire.ask_each((b"PING",)) == ["OK", "OK"]
    await wire.close()
    assert [nodes[node].closed for node in (A, B, C)] == [True, True, False]
