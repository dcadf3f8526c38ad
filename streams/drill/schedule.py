"""What is done to a run, and when: the same seed gives the same faults."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from headrace.streams.drill.crash_points import STEPS, CrashPoint
from headrace.streams.jobs import STAGES

Kind = Literal["kill", "pause", "store-lost", "rebalance", "bus-restart", "store-restart"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ON_SERVICES: frozenset[Kind] = frozenset({"store-lost", "bus-restart", "store-restart"})
"""Faults of bus and store themselves, so only for services of the drill's own."""

When = Literal["surge", "back", "any"]
SESSION_S = 8.0
"""After so long without a sign of life a member's partitions go to others."""

DEEPEST = {"takeover": 2, "process": 12, "publish": 12, "online rows": 12, "checkpoint": 12}
"""Largest n of a crash point: a new worker is sure to come so far, as it takes two partitions
over at least and the load does not end before."""


@dataclass(frozen=True)
class Fault:
    """One blow.

    Attributes:
        kind: What is done. ``kill``: SIGKILL of the victims. ``pause``: they are stopped and go on.
            ``rebalance``: they leave in order. ``store-lost``: the store is emptied while the
            victims, if any, are down. ``bus-restart``, ``store-restart``: SIGKILL of the service.
        due_s: Not before this, seconds from the begin of the load.
        when: ``surge``: after all are ready, in a surge. ``back``: just after all are ready, in
            the backlog that waits for them. ``any``: at any time, ready or not.
        after_s: Time from then to the blow, seconds.
        victims: Workers it strikes together: ``serve``, ``serve-2`` for the second of a stage.
        down_s: Time until they, or the service, are there again, seconds.
        point: Where the first victim's next life ends as well; None lets it live.
    """

    kind: Kind
    due_s: float
    when: When
    after_s: float
    victims: tuple[str, ...]
    down_s: float
    point: str | None = None

    def kills(self) -> Counter[str]:
        """Workers of each stage that it ends without notice."""
        if self.kind in ("bus-restart", "store-restart", "rebalance", "pause"):
            return Counter()
        struck = [*self.victims, *self.victims[:1]] if self.point else self.victims
        return Counter(victim.partition("-")[0] for victim in struck)

    def repeats(self) -> Counter[str]:
        """Stretches of each stage that it may cause to be published again, in each partition."""
        if self.kind == "pause":
            return Counter(victim.partition("-")[0] for victim in self.victims)
        everywhere = self.kind in ON_SERVICES
        return self.kills() + Counter(dict.fromkeys(STAGES, int(everywhere)))


@dataclass(frozen=True)
class Plan:
    """What happens to one run.

    Attributes:
        seed: Gives everything below, and the load.
        workers: Workers that run.
        faults: In the order in which they come.
    """

    seed: int
    workers: tuple[str, ...]
    faults: tuple[Fault, ...]

    def kills(self) -> Counter[str]:
        """Workers of each stage that are ended without notice."""
        return sum((fault.kills() for fault in self.faults), Counter[str]())

    def repeats(self) -> Counter[str]:
        """Repeated stretches that are no breach, per partition and stage."""
        return sum((fault.repeats() for fault in self.faults), Counter[str]())

    def has(self, kind: Kind) -> bool:
        """Whether there is a fault of this kind."""
        return any(fault.kind == kind for fault in self.faults)


def make_plan(
    seed: int, kinds: Sequence[Kind], *, kills: int, others: int = 1, seconds: float = 0.0
) -> Plan:
    """The faults of one run, in a seeded order at seeded times.

    Kills come in pairs: one at a random time, and one of the life after it at a crash point. The
    points of both stages take turns, in a seeded order.

    Args:
        seed: Same seed and arguments, same plan.
        kinds: Kinds of faults; with ``pause`` or ``rebalance`` one stage has two workers.
        kills: Workers killed in all, where ``kill`` is among the kinds.
        others: Faults of every other kind.
        seconds: Time over which the faults are spread.

    Delivery: pure.

    Example:
        >>> plan = make_plan(7, ["kill", "bus-restart"], kills=5)
        >>> plan.kills().total(), len(plan.faults), plan == make_plan(
        ...     7, ["kill", "bus-restart"], kills=5)
        (5, 4, True)
    """
    kinds = sorted(set(kinds))
    rng = random.Random(f"{seed}/{','.join(kinds)}")  # noqa: S311 - a schedule, no secret
    workers: tuple[str, ...] = STAGES
    if {"pause", "rebalance"}.intersection(kinds):
        workers = (*STAGES, f"{rng.choice(STAGES)}-2")
    wanted: list[tuple[Kind, str | None]] = list(_kills(rng, kills if "kill" in kinds else 0))
    wanted += [(kind, None) for kind in kinds if kind != "kill" for _ in range(others)]
    rng.shuffle(wanted)
    step_s = seconds / max(1, len(wanted))
    faults = (
        _fault(rng, kind, point, workers, step_s * (number + rng.random() / 2))
        for number, (kind, point) in enumerate(wanted)
    )
    return Plan(seed, workers, tuple(faults))


def _kills(rng: random.Random, count: int) -> Iterator[tuple[Kind, str | None]]:
    points = [(stage, step) for stage, steps in STEPS.items() for step in steps]
    rng.shuffle(points)
    for stage, step in itertools.islice(itertools.cycle(points), count // 2):
        yield "kill", str(CrashPoint(stage, step, rng.randint(1, DEEPEST[step])))
    if count % 2:
        yield "kill", None


def _fault(
    rng: random.Random, kind: Kind, point: str | None, workers: tuple[str, ...], due_s: float
) -> Fault:
    down_s = rng.uniform(0, 1)
    victims: tuple[str, ...] = (rng.choice(workers),)
    if kind in ("bus-restart", "store-restart") or (kind == "store-lost" and rng.random() < 0.4):
        victims = ()
    elif kind == "pause":
        down_s = rng.uniform(0.5, 1.5) * SESSION_S
    elif kind == "rebalance":
        # Of the stage with two workers, so that the other one takes over.
        victims = (rng.choice([workers[-1], workers[-1].partition("-")[0]]),)
    if point is not None:
        victims = (point.partition(":")[0],)
    when: When = rng.choice(["surge", "surge", "back", "any"])
    span_s = {"surge": 0.3, "back": 0.15, "any": SESSION_S}[when]
    return Fault(kind, due_s, when, rng.uniform(0, span_s), victims, down_s, point)
