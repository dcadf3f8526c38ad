"""The devices of a fleet as columns: kind, key, partition, labels, clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson

from headrace.schemas.input import Input
from headrace.streams.client.partition import partitions_of
from headrace.streams.producers.arrivals import Arrivals
from headrace.streams.producers.chance import F64, I64, drawn
from headrace.streams.producers.plan import CLOCK_SHARE, HOLD_SHARE, Plan
from headrace.streams.producers.profiles import PROFILES, Profile, counts

LARGEST_BYTES = max(profile.payload_bytes for profile in PROFILES)
DIGITS = 6
SLICE = 100_000
"""Devices whose keys are text at the same time."""
_CLOCK, _LABEL = 300, 400

Fact = Literal["period_s", "offline_share", "offline_s", "delay_ms", "clock_ms", "payload_bytes"]


@dataclass(frozen=True, slots=True)
class Kind:
    """The devices of one profile.

    Attributes:
        profile: What they are like.
        first: Number of the first of them in the fleet.
        arrivals: When they read.
    """

    profile: Profile
    first: int
    arrivals: Arrivals


class Devices:
    """What is known of each device, by its number in the fleet.

    Args:
        plan: Of the run.
        spec: The pipeline's input: no clock error or outage is longer than its lateness allows.
        partitions: Of the telemetry topic.

    Cost: 3 bytes a device, and 8 where there is skew.
    """

    def __init__(self, plan: Plan, spec: Input, partitions: int) -> None:
        held = counts(plan.devices, PROFILES)
        self.kinds = _kinds(plan, held)
        self._seed, self._spec = plan.seed, spec
        self._digits = max(DIGITS, len(str(plan.devices)))
        self._kind = np.repeat(
            np.arange(len(self.kinds), dtype=np.int8), [k.arrivals.devices for k in self.kinds]
        )
        self._firsts = np.array([kind.first for kind in self.kinds])
        self._forms = [
            f"{kind.profile.name}-%0{self._digits}d".encode() for kind in self.kinds
        ]  # fmt: skip
        self._facts = {name: self._fact(name) for name in Fact.__args__}  # type: ignore[attr-defined]  # of Literal
        self.partition = np.concatenate([self._placed(kind, partitions) for kind in self.kinds])
        """uint16 (D,), partition of each device's events."""
        self._labels = [
            [orjson.dumps(v) for v in a.values or [k.profile.name for k in self.kinds]]
            for a in spec.attributes.values()
        ]

    def table(self, fact: Fact, devices: I64) -> F64:
        """A fact of the kind of each device, float64 (N,)."""
        return np.asarray(self._facts[fact][self._kind[devices]])

    def clock_ms(self, devices: I64) -> F64:
        """How far each device's clock is ahead, milliseconds."""
        return self.table("clock_ms", devices) * (2 * drawn(devices, self._seed, _CLOCK) - 1)

    def keys(self, devices: I64) -> list[bytes]:
        """The id of each device, which is its events' key."""
        kinds = self._kind[devices]
        local = devices - self._firsts[kinds]
        forms = self._forms
        return [
            forms[kind] % number
            for kind, number in zip(kinds.tolist(), local.tolist(), strict=True)
        ]

    def labels(self, devices: I64) -> list[list[bytes]]:
        """A column of each attribute, as JSON: of listed values each device has its own."""
        columns = []
        for place, (a, texts) in enumerate(
            zip(self._spec.attributes.values(), self._labels, strict=True)
        ):
            chosen = drawn(devices, self._seed, _LABEL + place) * len(texts)
            rows = chosen.astype(np.int64) if a.values else self._kind[devices]
            columns.append([texts[row] for row in rows.tolist()])
        return columns

    def _fact(self, fact: Fact) -> F64:
        if fact == "period_s":
            return np.array([kind.arrivals.period_s for kind in self.kinds])
        found = np.array([getattr(kind.profile, fact) for kind in self.kinds], np.float64)
        lateness_s = self._spec.allowed_lateness_s
        most = {
            "offline_s": lateness_s * HOLD_SHARE,
            # Half of the skew that the pipeline allows, so that no clock is of the future.
            "clock_ms": 1000 * min(lateness_s * CLOCK_SHARE, self._spec.max_skew_s / 2),
        }
        return np.minimum(found, most.get(fact, np.inf))

    def _placed(self, kind: Kind, partitions: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """Partition of every device of a kind, from its key."""
        found = np.empty(kind.arrivals.devices, np.uint16)
        name = np.frombuffer(f"{kind.profile.name}-".encode(), np.uint8)
        places = 10 ** np.arange(self._digits - 1, -1, -1)
        for begin in range(0, len(found), SLICE):
            local = np.arange(begin, min(begin + SLICE, len(found)))
            digits = (local[:, None] // places % 10 + ord("0")).astype(np.uint8)
            keys = np.hstack((np.broadcast_to(name, (len(local), len(name))), digits))
            found[local] = partitions_of(keys, partitions)
        return found


def _kinds(plan: Plan, held: list[int]) -> list[Kind]:
    """The kinds there are devices of, with their shares of the rate."""
    weights = [count * p.weight for count, p in zip(held, PROFILES, strict=True)]
    return [
        Kind(
            profile,
            sum(held[:number]),
            Arrivals(profile, count, plan.rate_per_s * weights[number] / sum(weights), plan.skew),
        )
        for number, (profile, count) in enumerate(zip(PROFILES, held, strict=True))
        if count
    ]
