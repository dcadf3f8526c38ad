"""Events to feature rows: groups a batch by entity and runs every operator over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.enrichers.layout import Layout, operators_of
from headrace.enrichers.operators.frame import Frame, Rows
from headrace.enrichers.rows import EntityRows
from headrace.enrichers.runs import Runs
from headrace.schemas.batch import F64, I64, EventBatch
from headrace.schemas.block import I32, Labels
from headrace.schemas.views import Column


@dataclass(slots=True, repr=False)
class Featured:
    """The features of a batch, and what they change.

    Attributes:
        values: float64 (N, F), a row per event, in log order.
        entities: The entity of each event.
        rows: Structured (E,), the row after the batch of each of `entities.names`.
        renewed: int64 (E',), which of them have a newer online row than before.
        places: int64 (E,), where the state keeps the row of each (`EntityRows.places`).
    """

    values: F64
    entities: Labels
    rows: Rows
    renewed: I64
    places: I64


class FeatureSet:
    """Computes the feature columns of a pipeline.

    Features are bit-equal however the log is cut into batches, under one numerics fingerprint:
    see `runs` for how.

    Args:
        columns: Feature columns, by place.
        metrics: Metric names, by column.
        lateness_ms: Allowed lateness, milliseconds.
    """

    def __init__(self, columns: Sequence[Column], metrics: Sequence[str], lateness_ms: int) -> None:
        self.columns = tuple(columns)
        self._operators = operators_of(columns, lateness_ms)
        self.layout = Layout(columns, metrics, lateness_ms, self._operators)

    def apply(self, state: EntityRows, events: EventBatch) -> Featured:
        """Features of `events`, none of them late or repeated; `state` is only read.

        Args:
            state: Rows at the batch's first event.
            events: N events in log order.

        Returns:
            Features and changed rows; hand them to `EntityRows.put` to fold them.
        """
        entities = Labels.encode(events.entities)
        places = state.places(entities.names)
        rows = state.gather(places)
        if not len(events):
            return Featured(np.empty((0, len(self.columns))), entities, rows, places, places)
        order, runs = by_entity(entities.codes, len(entities.names))
        times, log_times = events.event_times_ms[order], events.log_times_ms[order]
        frame = Frame(runs, times, log_times, events.metrics[order])
        sorted_values = np.empty((len(order), len(self.columns)))
        with np.errstate(all="ignore"):  # NaN is missing; what overflows is infinite in every cut
            for operator in self._operators:
                operator.apply(rows, frame, sorted_values)
        renewed = _renew(rows, frame, sorted_values, events.offsets[order])
        values = np.empty_like(sorted_values)
        values[order] = sorted_values
        return Featured(values, entities, rows, renewed, places)


def by_entity(codes: I32, count: int) -> tuple[I64, Runs]:
    """Events entity by entity, each entity's in log order.

    Args:
        codes: int32 (N,), entity of each event, every one of `count` at least once.
        count: E.

    Returns:
        int64 (N,), the event at each position; and the runs.
    """
    narrow = codes.astype(np.uint16) if count <= 1 << 16 else codes  # radix sort up to 16 bits
    order = np.argsort(narrow, kind="stable")
    sizes = np.bincount(codes, minlength=count)
    return order, Runs(np.cumsum(sizes) - sizes, sizes)


def _renew(rows: Rows, frame: Frame, values: F64, offsets: I64) -> I64:
    """Put each entity's newest feature row, by event time and then offset, into `rows`."""
    runs = frame.runs
    newest = np.maximum.reduceat(frame.times, runs.starts)
    at_newest = np.where(frame.times == newest[runs.group], np.arange(len(frame.times)), -1)
    positions = np.maximum.reduceat(at_newest, runs.starts)
    renewed = np.flatnonzero(newest >= rows["row_time"])
    chosen = positions[renewed]
    rows["row_time"][renewed] = newest[renewed]
    rows["row_offset"][renewed] = offsets[chosen]
    rows["row"][renewed] = values[chosen]
    return renewed
