"""What a run of the fleet is asked to be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from headrace.schemas.errors import SettingsError
from headrace.schemas.input import Input
from headrace.streams.producers.arrivals import Pattern

KINDS = ("normal", "repeat", "late", "future", "out_of_order", "delayed", "gap")
"""How an event is delivered; the ledger's `kind` is an index into this.

normal: as read. repeat: the same bytes once more. late: older than the allowed lateness. future:
its device's clock is half a century ahead. out_of_order: after a newer event of its device.
delayed: read without a connection, sent after. gap: read and never sent.
"""

OUTCOMES = ("predicted", "repeated", "late", "dead", "absent")
"""What must become of an event; the ledger's `expected` is an index into this."""

EXPECTED = (0, 1, 2, 3, 0, 0, 4)
"""Outcome of each of `KINDS`."""

HOLD_SHARE, CLOCK_SHARE, MARGIN_SHARE = 0.4, 0.1, 0.05
"""Shares of the allowed lateness: an event waits for a connection at most so long, a clock is
wrong by at most so much, and a repeat is never nearer than this to being late."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A fleet, its load, and the shares of what is planted in it.

    Attributes:
        seed: Everything follows from it, the start and the pipeline's input.
        devices: How many, of all kinds together.
        rate_per_s: Readings per second of all of them, at level 1.
        seconds: Length of the run, seconds.
        pattern: How the rate changes with time.
        skew: Zipf exponent of the devices of one kind; 0 is none.
        repeats: Share of events sent twice; none where the input has no event id.
        late: Share of events that are too late.
        future: Share from the future.
        out_of_order: Share that the next events of the same device overtake.
        gaps: Share of the time in which a device's readings are lost before they are sent.
        anomalies: Share of stretches of 40 readings that hold an anomaly.

    Raises:
        SettingsError: a number that makes no fleet. Fatal.
    """

    seed: int = 1
    devices: int = 1000
    rate_per_s: float = 1000.0
    seconds: float = 60.0
    pattern: Pattern = "steady"
    skew: float = 0.0
    repeats: float = 0.01
    late: float = 0.005
    future: float = 0.001
    out_of_order: float = 0.01
    gaps: float = 0.002
    anomalies: float = 0.02

    def __post_init__(self) -> None:
        if self.devices < 1 or self.rate_per_s <= 0 or self.seconds < 0 or self.skew < 0:
            raise SettingsError(
                f"a fleet of {self.devices} devices at {self.rate_per_s:g} events/s for "
                f"{self.seconds:g} s with skew {self.skew:g} is none; give a device, a rate "
                "above 0 and no negative number"
            )
        shares = (
            self.repeats, self.late, self.future, self.out_of_order, self.gaps, self.anomalies,
        )  # fmt: skip
        if not all(0 <= share <= 0.5 for share in shares):
            raise SettingsError(
                f"the shares planted are {shares}, expected each from 0 to 0.5; give less"
            )

    def run(self, start_ms: int, spec: Input) -> str:
        """Eight characters that begin every event id of the run.

        Args:
            start_ms: When the run begins, milliseconds since 1970.
            spec: The pipeline's input.
        """
        told = f"{self!r} {start_ms} {spec!r}".encode()
        return hashlib.blake2b(told, digest_size=4).hexdigest()
