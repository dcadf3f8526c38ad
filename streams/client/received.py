"""A prediction as it reached the caller."""

from __future__ import annotations

from headrace.schemas.prediction import Prediction


class Received(Prediction, frozen=True, kw_only=True):
    """A prediction, and what the caller's policy asks of it.

    These fields are set on arrival, whatever the record says.

    Attributes:
        supersedes: It amends an answer that was delivered before, under the same id.
        overdue: On arrival its event was older than the consumer's deadline.
        traceparent: W3C trace header of the event, as SERVE passed it on; None of those whose trace
            is not kept.
        probe: It is of a probe that `headrace up` sent; see `[canary]`.
        latency_ms: Consumer's clock on arrival less the device's time of the event, milliseconds.
    """

    supersedes: bool = False
    overdue: bool = False
    latency_ms: float = 0.0
    probe: bool = False
    traceparent: str | None = None

    @property
    def refused(self) -> bool:
        """There is no score: the model gave no answer in time, or none at all."""
        return self.score is None

    @property
    def rebuilt(self) -> bool:
        """Its features come from a truncated history."""
        return "rebuilt" in self.flags

    @property
    def stale(self) -> bool:
        """It was answered from features or an answer older than the pipeline's policy."""
        return "stale" in self.flags

    @property
    def degraded(self) -> bool:
        """It is less than a full answer: refused, rebuilt or stale."""
        return self.score is None or self.rebuilt or self.stale

    @property
    def source_place(self) -> str:
        """Source partition, ``topic[partition]``."""
        return self.source.rpartition("@")[0]

    @property
    def source_offset(self) -> int:
        """Offset of the event in its source partition."""
        return int(self.source.rpartition("@")[2])
