"""What can be done to a run: every kind of fault, what it strikes, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "kill", "stop", "pause", "rebalance",
    "bus-restart", "bus-pause", "bus-cut", "bus-half-open", "bus-slow", "bus-disk-full",
    "store-restart", "store-pause", "store-cut", "store-half-open", "store-slow",
    "store-disk-full", "store-lost", "store-read-only", "store-out-of-memory", "store-stale",
    "group-deleted", "model-slow", "model-raises", "clock-jump",
    "input-repeated", "input-reordered", "input-corrupted",
    "bus-lost", "topic-recreated",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

On = Literal["worker", "bus", "store", "group", "model", "clock", "input", "log"]
Repeats = Literal["none", "struck", "every", "any"]

SESSION_S = 8.0
"""After so long without a sign of life a member's partitions go to others."""


@dataclass(frozen=True, slots=True)
class Trait:
    """What a kind of fault is like.

    Attributes:
        on: What it strikes. A ``log`` begins again: that is done at rest, after everything else,
            and judged by itself.
        down_s: Shortest and longest time until the repair, seconds.
        repeats: What of a partition may be published again, at least once delivered. ``none``;
            ``struck``: one stretch for each victim, of its stage; ``every``: one of either stage;
            ``any``: that is not bounded, as where an acknowledgement gets lost again and again.
        forgets: The store may lose what it has acknowledged: a repeat then reaches back to what
            the group committed last, which is more than a batch.
        two_workers: One stage has two workers, so that the other one takes over.
        needs_disk: The service's data lies on a small disk.
    """

    on: On
    down_s: tuple[float, float] = (0.0, 1.0)
    repeats: Repeats = "every"
    forgets: bool = False
    two_workers: bool = False
    needs_disk: bool = False


LONG = (0.5 * SESSION_S, 1.5 * SESSION_S)
"""Sometimes shorter than a session, sometimes longer."""

WHILE = (1.0, 5.0)

TRAITS: Mapping[Kind, Trait] = {
    "kill": Trait("worker", repeats="struck"),
    "stop": Trait("worker", repeats="none"),
    "pause": Trait("worker", LONG, "struck", two_workers=True),
    "rebalance": Trait("worker", repeats="none", two_workers=True),
    "bus-restart": Trait("bus", repeats="any", forgets=True),
    "bus-pause": Trait("bus", LONG, "any"),
    "bus-cut": Trait("bus", LONG, "any"),
    "bus-half-open": Trait("bus", LONG, "any"),
    "bus-slow": Trait("bus", LONG, "any"),
    "bus-disk-full": Trait("bus", repeats="any", forgets=True, needs_disk=True),
    "store-restart": Trait("store", forgets=True),
    "store-pause": Trait("store", LONG),
    "store-cut": Trait("store", LONG),
    "store-half-open": Trait("store", LONG),
    "store-slow": Trait("store", WHILE),
    "store-disk-full": Trait("store", WHILE, needs_disk=True),
    "store-lost": Trait("store", forgets=True),
    "store-read-only": Trait("store", WHILE),
    "store-out-of-memory": Trait("store", WHILE),
    "store-stale": Trait("store", WHILE, forgets=True),
    "group-deleted": Trait("group", repeats="none"),
    "model-slow": Trait("model", WHILE, "none"),
    "model-raises": Trait("model", WHILE, "none"),
    "clock-jump": Trait("clock", WHILE, "none"),
    "input-repeated": Trait("input", repeats="none"),
    "input-reordered": Trait("input", repeats="none"),
    "input-corrupted": Trait("input", repeats="none"),
    "bus-lost": Trait("log", repeats="none"),
    "topic-recreated": Trait("log", repeats="none"),
}
