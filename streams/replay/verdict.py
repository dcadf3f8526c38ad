"""What a reproduction found: counts, models, numerics, and every difference to the bit."""

from __future__ import annotations

import msgspec

from headrace.schemas.numerics import numerics_fingerprint
from headrace.streams.replay.difference import Differences
from headrace.streams.replay.history import Begun
from headrace.streams.replay.ranges import Missing


class PartitionFacts(msgspec.Struct, kw_only=True):
    """One partition's stretch.

    Attributes:
        partition: Partition number.
        start: First offset.
        stop: Offset after the last.
        records: Telemetry records read in it.
        begun: Where the state before it comes from; one for each definition of the features.
    """

    partition: int
    start: int
    stop: int
    records: int = 0
    begun: list[Begun] = msgspec.field(default_factory=list)


class Tally(msgspec.Struct, kw_only=True):
    """Events of one kind of record.

    Attributes:
        computed: Events that must have one.
        compared: Recorded rows that were compared, repeats included.
        again: Rows that came again, as after a restart.
        uncompared: Rows that came again too far behind to be compared.
        missing: Events of which nothing is recorded, though something later is.
        pending: Events after the last that is recorded: not served yet.
        unexpected: Recorded rows of events that give none now.
        unreadable: Records that are not what their topic should hold.
        first_missing: The first of them, ``topic[partition]@offset``.
        first_unexpected: The first of them.
        differences: What differs.
    """

    computed: int = 0
    compared: int = 0
    again: int = 0
    uncompared: int = 0
    missing: int = 0
    pending: int = 0
    unexpected: int = 0
    unreadable: int = 0
    first_missing: str | None = None
    first_unexpected: str | None = None
    differences: Differences = msgspec.field(default_factory=Differences)


class Verdict(msgspec.Struct, kw_only=True):
    """What became of a reproduction.

    Attributes:
        pipeline: Pipeline name.
        topic: Source topic.
        partitions: Stretches.
        features: Feature rows.
        predictions: Predictions.
        numerics: Numerics fingerprint here.
        recorded_numerics: Fingerprint that blocks record, to rows.
        serving_numerics: Model digest to the fingerprints it was served under, as far as kept.
        models: Model digest to predictions by it.
        tiers: Who answered, to predictions; followed, not compared.
        refused: Events that the model refuses now as it did then.
        unknown_models: Digest of models that are kept nowhere, to predictions not compared.
        unknown_pipelines: Digest of pipeline files kept nowhere, to rows compared with the given.
        rebuilt: Rows served from a truncated history, as they were flagged.
        tolerated: Predictions with a number that differs within the tolerance of their model.
        expired: Offsets that went while they were to be read.
        missing: What was asked for and is not to be had.
        seconds: How long it took.
    """

    pipeline: str
    topic: str
    partitions: list[PartitionFacts] = msgspec.field(default_factory=list)
    features: Tally = msgspec.field(default_factory=Tally)
    predictions: Tally = msgspec.field(default_factory=Tally)
    numerics: str = msgspec.field(default_factory=numerics_fingerprint)
    recorded_numerics: dict[str, int] = msgspec.field(default_factory=dict)
    serving_numerics: dict[str, list[str]] = msgspec.field(default_factory=dict)
    models: dict[str, int] = msgspec.field(default_factory=dict)
    tiers: dict[str, int] = msgspec.field(default_factory=dict)
    refused: int = 0
    unknown_models: dict[str, int] = msgspec.field(default_factory=dict)
    unknown_pipelines: dict[str, int] = msgspec.field(default_factory=dict)
    rebuilt: int = 0
    tolerated: int = 0
    expired: int = 0
    missing: list[Missing] = msgspec.field(default_factory=list)
    seconds: float = 0.0

    @property
    def differing_bits(self) -> int:
        """Of features and scores together."""
        return self.features.differences.bits + self.predictions.differences.bits

    @property
    def reproduced(self) -> bool:
        """Everything that was served came out the same, and all of it was there to compare."""
        tallies = (self.features, self.predictions)
        return (
            not any(
                t.differences.values or t.missing or t.unexpected or t.unreadable or t.uncompared
                for t in tallies
            )
            and not self.unknown_models
            and not self.expired
            and not self.missing
            and self.features.compared > 0
            and (self.predictions.compared > 0 or not self.predictions.pending)
        )

    def reservations(self) -> list[str]:
        """What has to be known to read the numbers rightly, one line each."""
        lines = [
            f"{self.topic}[{facts.partition}]: the state before {facts.start} is "
            f"{begun.said(facts.start)}"
            for facts in self.partitions
            for begun in facts.begun
            if not begun.complete
        ]
        others = {k: n for k, n in self.recorded_numerics.items() if k != self.numerics}
        if others:
            lines.append(
                f"{sum(others.values())} rows were made with other package versions or on another "
                f"CPU ({', '.join(others)}, here {self.numerics}): comparable within tolerance only"
            )
        lines += [
            f"model {digest} was also served under numerics {', '.join(strange)}, here "
            f"{self.numerics}: scores are comparable within tolerance only"
            for digest, known in self.serving_numerics.items()
            if (strange := [one for one in known if one != self.numerics])
        ]
        lines += [
            f"{count} predictions are of model {digest}, which is kept nowhere; name its file "
            f"with --model"
            for digest, count in self.unknown_models.items()
        ]
        lines += [
            f"{count} rows were made by pipeline file {digest}, which is kept nowhere: they were "
            f"compared with the given one"
            for digest, count in self.unknown_pipelines.items()
        ]
        if self.rebuilt:
            lines.append(f"{self.rebuilt} rows were served from a truncated history, and say so")
        if self.tolerated:
            lines.append(f"{self.tolerated} predictions differ within the tolerance of their model")
        if self.expired:
            lines.append(f"{self.expired} offsets of the range have expired and are not compared")
        lines += [one.line for one in self.missing]
        behind = self.features.uncompared + self.predictions.uncompared
        if behind:
            lines.append(f"{behind} rows were published again too far behind to be compared")
        pending = max(self.features.pending, self.predictions.pending)
        if pending:
            lines.append(f"{pending} events were not served yet")
        return lines
