"""What is done to a run, and when: the same seed gives the same faults."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.streams.drill.crash_points import STEPS, CrashPoint
from headrace.streams.drill.kinds import KINDS, SESSION_S, TRAITS, Kind
from headrace.streams.workers.jobs import STAGES, worker_of

When = Literal["surge", "back", "any"]
TOGETHER = 0.75
"""Share of the kills at crash points that strike both stages at once."""

DEEPEST = {"takeover": 2, "process": 12, "publish": 12, "online rows": 12, "checkpoint": 12}
"""Largest n of a crash point: a new worker is sure to come so far, as it takes two partitions
over at least and the load does not end before. Of a stage beside another's it is 1: it has
one partition, and as few batches as windows end."""


@dataclass(frozen=True)
class Fault:
    """One blow.

    Attributes:
        kind: What is done.
        due_s: Not before this, seconds from the begin of the load.
        when: ``surge``: after all are ready, in a surge. ``back``: just after all are ready, in
            the backlog that waits for them. ``any``: at any time, ready or not.
        after_s: Time from then to the blow, seconds.
        victims: Workers it strikes together: ``serve``, ``serve-2`` for the second of a stage.
        down_s: Time until they, or the service, are there again, seconds.
        points: Where the next lives of the first victims end as well, one each; the others begin
            again after those.
    """

    kind: Kind
    due_s: float
    when: When
    after_s: float
    victims: tuple[str, ...]
    down_s: float
    points: tuple[str, ...] = ()

    def kills(self) -> Counter[str]:
        """Workers of each stage that it ends without notice.

        One that ends at a step of SUMMARIZE is SERVE's: it ends what both have in hand.
        """
        if self.kind not in ("kill", "store-lost"):
            return Counter()
        ended = (*self.victims, *(worker_of(point.partition(":")[0]) for point in self.points))
        return Counter(victim.partition("-")[0] for victim in ended)

    def repeats(self) -> Counter[str]:
        """Stretches of each stage that it may cause to be published again, in each partition."""
        bound = TRAITS[self.kind].repeats
        if bound == "struck" and not self.kills():
            return Counter(victim.partition("-")[0] for victim in self.victims)
        return self.kills() + Counter(dict.fromkeys(STAGES, int(bound == "every")))


@dataclass(frozen=True)
class Plan:
    """What happens to one run.

    Attributes:
        seed: Gives everything below, and the load.
        workers: Workers that run.
        faults: In the order in which they come.
        anew: Faults after which a log begins again, in their order.
    """

    seed: int
    workers: tuple[str, ...]
    faults: tuple[Fault, ...]
    anew: tuple[Kind, ...] = ()

    def kills(self) -> Counter[str]:
        """Workers of each stage that are ended without notice."""
        return sum((fault.kills() for fault in self.faults), Counter[str]())

    def repeats(self) -> Counter[str] | None:
        """Repeated stretches that are no breach, per partition and stage; None: any number."""
        if any(TRAITS[fault.kind].repeats == "any" for fault in self.faults):
            return None
        return sum((fault.repeats() for fault in self.faults), Counter[str]())

    def has(self, kind: Kind) -> bool:
        """Whether there is a fault of this kind."""
        return any(fault.kind == kind for fault in self.faults)

    def forgets(self) -> bool:
        """Whether the store may lose what it has acknowledged."""
        return any(TRAITS[fault.kind].forgets for fault in self.faults)


def make_plan(
    seed: int,
    kinds: Sequence[Kind],
    *,
    kills: int,
    others: int = 1,
    seconds: float = 0.0,
    lasting: bool = False,
) -> Plan:
    """The faults of one run, in a seeded order at seeded times.

    Kills come in pairs: one at a random time, and one of the life after it at a crash point. The
    points of both stages take turns, in a seeded order; most pairs strike both stages together.

    Args:
        seed: Same seed and arguments, same plan.
        kinds: Kinds of faults.
        kills: Workers killed in all, where ``kill`` is among the kinds.
        others: Faults of every other kind.
        seconds: Time over which the faults are spread.
        lasting: Each stage has two workers, of which no fault ends the first: it lives as long as
            the run, so that its memory tells something. Kills are at random times only.

    Delivery: pure.

    Example:
        >>> plan = make_plan(7, ["kill", "bus-restart"], kills=5)
        >>> plan.kills().total(), plan == make_plan(7, ["kill", "bus-restart"], kills=5)
        (5, True)
    """
    anew = tuple(kind for kind in KINDS if kind in kinds and TRAITS[kind].on == "log")
    kinds = sorted(set(kinds).difference(anew))
    rng = random.Random(f"{seed}/{','.join(kinds)}")  # noqa: S311 - a schedule, no secret
    workers: tuple[str, ...] = STAGES
    if lasting:
        workers = (*STAGES, *(f"{stage}-2" for stage in STAGES))
    elif any(TRAITS[kind].two_workers for kind in kinds):
        workers = (*STAGES, f"{rng.choice(STAGES)}-2")
    mortal = workers[len(STAGES) :] if lasting else workers
    wanted: list[tuple[Kind, tuple[str, ...]]] = []
    if "kill" in kinds:
        wanted += [("kill", ())] * kills if lasting else _kills(rng, kills)
    wanted += [(kind, ()) for kind in kinds if kind != "kill" for _ in range(others)]
    rng.shuffle(wanted)
    step_s = seconds / max(1, len(wanted))
    faults = (
        _fault(rng, kind, points, mortal, step_s * (number + rng.random() / 2))
        for number, (kind, points) in enumerate(wanted)
    )
    return Plan(seed, workers, tuple(faults), anew)


def _kills(rng: random.Random, count: int) -> Iterator[tuple[Kind, tuple[str, ...]]]:
    """As many as asked for: pairs at the crash points in turn, and one more where it is odd."""
    places = [(stage, step) for stage, steps in STEPS.items() for step in steps]
    rng.shuffle(places)
    wanted: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for stage, step in itertools.islice(itertools.cycle(places), count // 2):
        deepest = DEEPEST[step] if worker_of(stage) == stage else 1
        wanted[worker_of(stage)].append(str(CrashPoint(stage, step, rng.randint(1, deepest))))
    pairs = min(map(len, wanted.values()))
    for _ in range(sum(rng.random() < TOGETHER for _ in range(pairs))):
        yield "kill", tuple(points.pop() for points in wanted.values())
    for point in itertools.chain(*wanted.values()):
        yield "kill", (point,)
    if count % 2:
        yield "kill", ()


def _of_stage(stage: str, workers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(worker for worker in workers if worker.partition("-")[0] == stage)


def _struck_for(points: Sequence[str], workers: tuple[str, ...]) -> tuple[str, ...]:
    """The workers that are to come to these points, and those that could keep one from it.

    A stage beside another's has one partition: the second worker would take it and hold it.
    """
    stages = [point.partition(":")[0] for point in points]
    first = tuple(map(worker_of, stages))
    shared = [worker_of(stage) for stage in stages if worker_of(stage) != stage]
    return first + tuple(w for stage in shared for w in _of_stage(stage, workers) if w not in first)


def _fault(
    rng: random.Random,
    kind: Kind,
    points: tuple[str, ...],
    workers: tuple[str, ...],
    due_s: float,
) -> Fault:
    victims: tuple[str, ...] = ()
    if points:
        victims = _struck_for(points, workers)
    elif kind == "rebalance":
        # Of the stage with two workers, so that the other one takes over.
        victims = (rng.choice(_of_stage(workers[-1].partition("-")[0], workers)),)
    elif kind == "group-deleted":
        victims = _of_stage(rng.choice(STAGES), workers)
    elif TRAITS[kind].on == "worker" or (kind == "store-lost" and rng.random() < 0.6):
        victims = (rng.choice(workers),)
    down_s = rng.uniform(*TRAITS[kind].down_s)
    when: When = rng.choice(["surge", "surge", "back", "any"])
    span_s = {"surge": 0.3, "back": 0.15, "any": SESSION_S}[when]
    return Fault(kind, due_s, when, rng.uniform(0, span_s), victims, down_s, points)
