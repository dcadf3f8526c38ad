"""Records to features on one page: decode, set apart dead, late and repeated, compute, remember."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.decode import Decoded, Decoder
from headrace.enrichers.dedupe import NewIds
from headrace.enrichers.features import Featured, FeatureSet, by_entity
from headrace.enrichers.late import BEGINNING, behind_own, split_late
from headrace.enrichers.registry import NO_REGISTRY, Registry
from headrace.enrichers.state import EnrichDelta, EnrichState, view_slices
from headrace.schemas.batch import I64, EventBatch, RecordBatch
from headrace.schemas.block import Labels
from headrace.schemas.canary import probes_of
from headrace.schemas.pipeline import Pipeline


@dataclass(slots=True, repr=False)
class Enriched:
    """What became of a record batch; every record is exactly one of out, dead, late, repeated.

    Attributes:
        events: The events that got features, in log order.
        featured: Their features.
        dead: Record row to dead letter code.
        late: Record row and entity of each late event.
        repeated: Number of repeats.
        delta: Change of the state.
    """

    events: EventBatch
    featured: Featured
    dead: dict[int, str]
    late: dict[int, str]
    repeated: int
    delta: EnrichDelta


@dataclass(slots=True, repr=False)
class _Timely:
    """The events of a batch that get features, what became of the others, and what to remember."""

    events: EventBatch
    dead: dict[int, str]
    late: dict[int, str]
    repeated: int
    ids: NewIds | None
    watermark: int

    def enriched(self, state: EnrichState, featured: Featured) -> Enriched:
        """The whole, with the features."""
        names, places = featured.entities.names, featured.places
        delta = EnrichDelta(state, names, places, featured.rows, self.ids, self.watermark)
        return Enriched(self.events, featured, self.dead, self.late, self.repeated, delta)


class Enricher:
    """The pure part of the enrich stage.

    Any cut of the same log into batches gives the same features bit for bit, the same verdict on
    every record and the same state (property-tested against an event-by-event reference).

    Args:
        pipeline: Pipeline file.
        registry: Device registry, read by the caller.

    Raises:
        PipelineFileError: `[input]` contradicts itself. Fatal.
    """

    def __init__(self, pipeline: Pipeline, registry: Registry = NO_REGISTRY) -> None:
        spec = pipeline.input
        self._decode = Decoder(spec, registry)
        self._lateness_ms = round(spec.allowed_lateness_s * 1000)
        self._follows = spec.follows_broker
        self._probed = pipeline.canary is not None
        self._dedupe = spec.id is not None or spec.rekey
        self.features = FeatureSet(pipeline.columns(), spec.metric_names, self._lateness_ms)
        self.views = view_slices(self.features.columns)

    def new_state(self) -> EnrichState:
        """The state before the first record."""
        return EnrichState(self.features.layout, self.views, self._lateness_ms)

    def apply(self, state: EnrichState, records: RecordBatch) -> Enriched:
        """Enrich one batch; `state` is only read.

        Args:
            state: State at the batch's first record.
            records: Records in log order, not empty.
        """
        return self.apply_all([(state, records)])[0]

    def apply_all(self, parts: Sequence[tuple[EnrichState, RecordBatch]]) -> list[Enriched]:
        """Enrich a batch of each of several partitions at once, each as it would be alone."""
        decoded = self._decode.all([records for _, records in parts])
        timely = [
            self._timely(state, records, found)
            for (state, records), found in zip(parts, decoded, strict=True)
        ]
        featured = self.features.apply_all(
            [(state.rows, found.events) for (state, _), found in zip(parts, timely, strict=True)]
        )
        return [
            found.enriched(state, own)
            for (state, _), found, own in zip(parts, timely, featured, strict=True)
        ]

    def _timely(self, state: EnrichState, records: RecordBatch, decoded: Decoded) -> _Timely:
        """Which of the events get features."""
        events, before, watermark, late = self._on_time(state, decoded)
        on_time, ids = len(events), None
        if self._dedupe:
            events = self._without_repeats(state, events, before)
            ids = state.seen.new(
                events.ids, events.event_times_ms, name=records.first, watermark=watermark
            )
        repeated = on_time - len(events)
        behind = self._behind(state, events)
        if behind is not None:
            marked = np.searchsorted(records.offsets, events.offsets[behind]).tolist()
            late |= zip(marked, events.take(behind).entities, strict=True)
            late, events = dict(sorted(late.items())), events.take(~behind)
        return _Timely(events, decoded.dead, late, repeated, ids, watermark)

    def _on_time(
        self, state: EnrichState, decoded: Decoded
    ) -> tuple[EventBatch, I64, int, dict[int, str]]:
        """Events not late by the watermark, it before each and after all; the others' entities."""
        events = decoded.events
        times = events.event_times_ms
        latest = events.log_times_ms if self._follows else times
        if self._probed and (probes := probes_of(events.entities)):
            # They say nothing of the time of devices, whose log may be of another year.
            latest = latest.copy()
            latest[probes] = BEGINNING
        is_late, before, watermark = split_late(times, latest, state.watermark, self._lateness_ms)
        if not is_late.any():
            return events, before, watermark, {}
        marked = np.flatnonzero(is_late).tolist()
        late = {int(decoded.rows[place]): events.entities[place] for place in marked}
        return events.take(~is_late), before[~is_late], watermark, late

    def _behind(self, state: EnrichState, events: EventBatch) -> NDArray[np.bool_] | None:
        """Which events are late by their own device's newest; None where none can be."""
        times = events.event_times_ms
        if not len(times) or max(state.newest, times.max()) - self._lateness_ms <= times.min():
            return None
        entities = Labels.encode(events.entities)
        order, runs = by_entity(entities.codes, len(entities.names))
        newest = state.rows.gather(state.rows.places(entities.names))["row_time"]
        behind = np.empty(len(times), np.bool_)
        behind[order] = behind_own(times[order], runs, newest, self._lateness_ms)
        return behind if behind.any() else None

    def _without_repeats(self, state: EnrichState, events: EventBatch, before: I64) -> EventBatch:
        repeats = state.seen.find(events.ids, events.event_times_ms, before)
        return events.take(~repeats) if repeats.any() else events
