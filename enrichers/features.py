"""Events to feature rows: groups a batch by entity and runs every operator over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.layout import Layout, operators_of
from headrace.enrichers.operators.frame import Frame, Rows
from headrace.enrichers.rows import EntityRows, join_rows
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
        return self.apply_all([(state, events)])[0]

    def apply_all(self, parts: Sequence[tuple[EntityRows, EventBatch]]) -> list[Featured]:
        """Features of a batch of each of several partitions at once, each as it would be alone.

        What an entity's events get depends on that entity's row and events alone (`Operator`), so
        entities of several partitions lie side by side as those of one do.
        """
        touched = [Touched.of(state, events) for state, events in parts]
        entities = np.cumsum([0, *(len(each.places) for each in touched)])
        codes = [each.entities.codes + base for each, base in zip(touched, entities, strict=False)]
        rows = join_rows([each.rows for each in touched])
        events = [events for _, events in parts]
        if not (count := sum(map(len, events))):
            values, renewed = np.empty((0, len(self.columns))), np.empty(0, np.int64)
        else:
            order, runs = by_entity(_joined(codes), len(rows))
            frame = Frame(
                runs,
                _joined([each.event_times_ms for each in events])[order],
                _joined([each.log_times_ms for each in events])[order],
                _joined([each.metrics for each in events])[order],
            )
            sorted_values = np.empty((count, len(self.columns)))
            with np.errstate(
                all="ignore"
            ):  # NaN is missing; what overflows is infinite, however cut
                for operator in self._operators:
                    operator.apply(rows, frame, sorted_values)
            offsets = _joined([each.offsets for each in events])[order]
            renewed = _renew(rows, frame, sorted_values, offsets)
            values = np.empty_like(sorted_values)
            values[order] = sorted_values
        return _parted(touched, list(map(len, events)), entities.tolist(), rows, values, renewed)


@dataclass(slots=True, repr=False)
class Touched:
    """The entities of one partition's batch, and a copy of their rows.

    Attributes:
        entities: The entity of each event.
        places: int64 (E,), see `Featured`.
        rows: Structured (E,), before the batch.
    """

    entities: Labels
    places: I64
    rows: Rows

    @classmethod
    def of(cls, state: EntityRows, events: EventBatch) -> Touched:
        """Look them up in `state`, once."""
        entities = Labels.encode(events.entities)
        places = state.places(entities.names)
        return cls(entities, places, state.gather(places))


def _parted(
    touched: Sequence[Touched],
    sizes: Sequence[int],
    bases: Sequence[int],
    rows: Rows,
    values: F64,
    renewed: I64,
) -> list[Featured]:
    """What is each partition's own.

    Args:
        touched: By partition, what it touches.
        sizes: Its events.
        bases: Where its entities begin, and their number.
        rows: Structured (E,), all rows after the batches.
        values: float64 (N, F), all features.
        renewed: int64 (E',), ascending, which rows were renewed.
    """
    found, at = [], 0
    cuts = np.searchsorted(renewed, bases).tolist()
    for k, (each, size) in enumerate(zip(touched, sizes, strict=True)):
        first, last = bases[k], bases[k + 1]
        own = renewed[cuts[k] : cuts[k + 1]] - first
        found.append(
            Featured(values[at : at + size], each.entities, rows[first:last], own, each.places)
        )
        at += size
    return found


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


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
