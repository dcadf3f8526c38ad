"""What can be done to a run: every kind of fault, what it strikes, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["kill", "pause", "rebalance", "bus-restart", "store-restart", "store-lost"]
KINDS: tuple[Kind, ...] = get_args(Kind)

On = Literal["worker", "bus", "store"]
Repeats = Literal["none", "struck", "every", "any"]

SESSION_S = 8.0
"""After so long without a sign of life a member's partitions go to others."""


@dataclass(frozen=True, slots=True)
class Trait:
    """What a kind of fault is like.

    Attributes:
        on: What it strikes.
        down_s: Shortest and longest time until the repair, seconds.
        repeats: What of a partition may be published again, at least once delivered. ``none``;
            ``struck``: one stretch for each victim, of its stage; ``every``: one of either stage;
            ``any``: that is not bounded, as where an acknowledgement gets lost again and again.
        forgets: The store may lose what it has acknowledged: a repeat then reaches back to what
            the group committed last, which is more than a batch.
        two_workers: One stage has two workers, so that the other one takes over.
    """

    on: On
    down_s: tuple[float, float] = (0.0, 1.0)
    repeats: Repeats = "every"
    forgets: bool = False
    two_workers: bool = False


LONG = (0.5 * SESSION_S, 1.5 * SESSION_S)
"""Sometimes shorter than a session, sometimes longer."""

TRAITS: Mapping[Kind, Trait] = {
    "kill": Trait("worker", repeats="struck"),
    "pause": Trait("worker", LONG, "struck", two_workers=True),
    "rebalance": Trait("worker", repeats="none", two_workers=True),
    "bus-restart": Trait("bus", repeats="any", forgets=True),
    "store-restart": Trait("store", forgets=True),
    "store-lost": Trait("store", forgets=True),
}
