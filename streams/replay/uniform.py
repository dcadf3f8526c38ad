"""Telemetry that is laid out alike, from bytes to columns without an object for each event.

A stream's records mostly differ in their values only, and those have few lengths. So records of one
length are tried by the layouts that were met (`layout.py`). What fits none, or holds anything that
could make an event dead, is left to `enrichers.decode.Decoder`, record by record: the columns are
its columns, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from headrace.enrichers.decode import LONGEST_TEXT, Decoder, clean_labels
from headrace.enrichers.registry import Registry
from headrace.enrichers.times import parse_iso_bytes, parse_numbers
from headrace.schemas.batch import F64, I64
from headrace.schemas.input import Input
from headrace.streams.arrow import arrow
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.replay.forms import stamps
from headrace.streams.replay.layout import Bools, Layout, Matrix

LEAST_ROWS = 16
"""Of a layout: fewer are not worth its calls."""

_MOST_LAYOUTS, _MOST_LENGTHS, _MOST_PASSED = 12, 64, 64
"""Tried for one length; lengths tried in one batch; batches that are passed over."""


class Alike(NamedTuple):
    """Columns of those records of a batch that were read by layouts.

    Attributes:
        rows: int64 (M,), their rows in the batch, in any order.
        columns: Arrow (M,): event time, id, entity, metrics, attributes.
    """

    rows: I64
    columns: list[Any]


class Uniform:
    """Columns of telemetry tables, of records that are laid out alike.

    Args:
        spec: Says how a record becomes an event.
        registry: Device registry whose columns become attributes.
        decode: The exact decoder of both.

    Cost: a third of the exact decoder's. Where most records fit no layout, more and more batches
        are not tried.
    """

    def __init__(self, spec: Input, registry: Registry, decode: Decoder) -> None:
        self._spec, self._registry, self._decode = spec, registry, decode
        self._layouts: dict[int, list[Layout]] = {}
        self._pass = self._passed = 0

    def columns(self, records: RawBatch) -> list[Alike]:
        """What could be read of a batch, each row at most once."""
        # By place: a header may say where an event came in.
        unplaced = self._spec.rekey and not self._spec.id
        if self._spec.format != "json" or unplaced or self._passed < self._pass:
            self._passed += 1
            return []
        found = [alike for alike in self._found(records) if len(alike.rows)]
        if 2 * sum(len(alike.rows) for alike in found) >= len(records):
            self._pass = 0
        else:
            self._pass, self._passed = min(2 * self._pass + 1, _MOST_PASSED), 0
        return found

    def _found(self, records: RawBatch) -> Iterator[Alike]:
        for length, rows in _by_length(records.values.size, self._spec.max_event_bytes):
            left = records.matrix(records.values.at(rows), length)
            yield from self._laid_out(records, rows, left)

    def _laid_out(self, records: RawBatch, rows: I64, left: Matrix) -> Iterator[Alike]:
        """Of records of one length each layout's, the ones met before first."""
        known, at = self._layouts.setdefault(left.shape[1], []), 0
        while len(left) >= LEAST_ROWS and at < _MOST_LAYOUTS:
            if at == len(known):
                made = Layout.of(left[0].tobytes())
                if made is None:
                    return
                known.append(made)
            layout, fit = known[at], known[at].fits(left)
            if 2 * np.count_nonzero(fit) > len(rows):
                known.insert(0, known.pop(at))
            at += 1
            if fit.all():
                yield self._read(layout, left, records, rows)
                return
            if fit.any():
                yield self._read(layout, left[fit], records, rows[fit])
                left, rows = left[~fit], rows[~fit]

    def _read(self, layout: Layout, matrix: Matrix, records: RawBatch, rows: I64) -> Alike:
        """The columns of those that are events."""
        if not self._can_read(layout):
            return Alike(rows[:0], [])
        spec, decode = self._spec, self._decode
        times, good = self._times(layout, matrix)
        good &= ~decode.ahead(times, records.log_times_ms[rows])
        entities = layout.texts(matrix, spec.entity)
        if spec.key == "entity":
            good &= _equal(records, rows, layout.raw(matrix, spec.entity))
        metrics = [self._metric(layout, matrix, name) for name in spec.metrics]
        for row, numbers in enumerate(metrics):
            if numbers is not None:
                good &= (numbers >= decode.low[row]) & (numbers <= decode.high[row])
        none = arrow().nulls(len(rows), arrow().float64())
        columns = [stamps(times), self._ids(layout, matrix, records, rows), entities]
        columns += [none if numbers is None else arrow().array(numbers) for numbers in metrics]
        columns += self._labels(layout, matrix, entities)
        if good.all():
            return Alike(rows, columns)
        keep = arrow().array(good)
        return Alike(rows[good], [column.filter(keep) for column in columns])

    def _can_read(self, layout: Layout) -> bool:
        """Whether everything that an event needs is where this reads it."""
        spec = self._spec
        names = [spec.entity, *([spec.id] if spec.id else [])]
        named = all(1 <= layout.width(path) <= LONGEST_TEXT for path in names)
        is_iso = spec.time_unit == "iso"
        timed = layout.width(spec.time) > 0 if is_iso else layout.decimals(spec.time) == 0
        measured = all(
            layout.decimals(path) >= 0 or (layout.outline.lacks(path) and not metric.required)
            for name, metric in spec.metrics.items()
            for path in (spec.metric_path(name),)
        )
        labels = (layout.width(spec.attribute_path(name)) for name in spec.attributes)
        return named and timed and measured and all(width >= 0 for width in labels)

    def _ids(self, layout: Layout, matrix: Matrix, records: RawBatch, rows: I64) -> Any:
        if self._spec.id:
            return layout.texts(matrix, self._spec.id)
        places = arrow().array(records.offsets[rows]).cast(arrow().string())
        head = arrow().scalar(f"{records.topic}/{records.partition}/")
        return arrow("compute").binary_join_element_wise(head, places, arrow().scalar(""))

    def _times(self, layout: Layout, matrix: Matrix) -> tuple[I64, Bools]:
        spec = self._spec
        if spec.time_unit == "iso":
            return parse_iso_bytes(layout.raw(matrix, spec.time))
        return parse_numbers(layout.integers(matrix, spec.time).tolist(), spec.time_unit)

    def _metric(self, layout: Layout, matrix: Matrix, name: str) -> F64 | None:
        path = self._spec.metric_path(name)
        return layout.numbers(matrix, path) if layout.decimals(path) >= 0 else None

    def _labels(self, layout: Layout, matrix: Matrix, entities: Any) -> list[Any]:
        spec, registry = self._spec, self._registry
        sent = [
            (layout.texts(matrix, spec.attribute_path(name)), partial(clean_labels, spec=own))
            for name, own in spec.attributes.items()
        ]
        known = [(entities, partial(_registered, registry, name)) for name in registry.tables]
        return [_mapped(texts, by) for texts, by in [*sent, *known]]


def _by_length(lengths: I64, longest: int) -> Iterator[tuple[int, I64]]:
    """Lengths up to `longest` that enough records have, and which have them."""
    for length in np.unique(lengths).tolist()[:_MOST_LENGTHS]:
        rows = np.flatnonzero(lengths == length)
        if len(rows) >= LEAST_ROWS and 0 < length <= longest:
            yield length, rows


def _equal(records: RawBatch, rows: I64, entities: Matrix) -> Bools:
    """Whether the keys are the entities; uint8 (N, width) to bool (N,)."""
    keys, width = records.keys.at(rows), entities.shape[1]
    found: Bools = keys.size == width
    if not found.all():
        keys, entities = keys.at(found), entities[found]
    differ = records.matrix(keys, width) != entities
    if differ.any():
        found[found] = ~differ.any(axis=1)
    return found


def _registered(registry: Registry, name: str, entities: list[str]) -> list[str]:
    return registry.attributes(entities)[name]


def _mapped(texts: Any, by: Callable[[list[str]], list[str]]) -> Any:
    """Texts that depend on others, made once for each of these."""
    coded = texts.dictionary_encode()
    return arrow().array(by(coded.dictionary.to_pylist()), arrow().string()).take(coded.indices)
