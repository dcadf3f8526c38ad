"""Telemetry as a table: a row for each record, decoded as ENRICH decodes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.enrichers.decode import Decoder
from headrace.enrichers.registry import NO_REGISTRY, Registry
from headrace.schemas.batch import I64, RecordBatch
from headrace.schemas.pipeline import Pipeline
from headrace.streams.arrow import arrow
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.replay.forms import Columns, Form, spread, stamp, stamps
from headrace.streams.replay.uniform import Uniform

_ROWS = 1 << 14
"""Decoded at a time: their bytes and columns stay in the processor's cache."""


def events_form(role: str, pipeline: Pipeline, registry: Registry = NO_REGISTRY) -> Form:
    """The table of telemetry, late events or what the intake stage made of them.

    An event that the pipeline refuses has its dead letter code in `code` and nothing else of its
    content. A missing metric is null.

    Args:
        role: Which of them.
        pipeline: Says how a record becomes an event.
        registry: Device registry whose columns become attributes.
    """
    pa = arrow()
    decode = Decoder(pipeline.input, registry)
    metrics = pipeline.input.metric_names
    uniform = Uniform(pipeline.input, registry, decode)
    attributes = list(decode(_nothing()).events.attributes)
    text = pa.string()

    def rows(records: RawBatch) -> Columns:
        parts = [
            arrays(records.at(slice(a, a + _ROWS))) for a in range(0, len(records) or 1, _ROWS)
        ]
        if len(parts) == 1:
            return Columns(parts[0])
        return Columns([pa.concat_arrays(columns) for columns in zip(*parts, strict=True)])

    def arrays(records: RawBatch) -> list[Any]:
        alike = uniform.columns(records)
        parts = [[*columns, pa.nulls(len(own), text)] for own, columns in alike]
        places = [own for own, _ in alike]
        left = np.ones(len(records), np.bool_)
        for own in places:
            left[own] = False
        if left.any() or not parts:
            places.append(np.flatnonzero(left))
            parts.append(exact(records.at(left).records()))
        return parts[0] if len(parts) == 1 else _in_order(parts, np.concatenate(places))

    def exact(records: RecordBatch) -> list[Any]:
        done = decode(records)
        events, count = done.events, len(records)
        columns = [stamps(events.event_times_ms), pa.array(events.ids, text)]
        columns.append(pa.array(events.entities, text))
        # Row by row the numbers lie beside each other; a column wants its own.
        columns += [pa.array(column, from_pandas=True) for column in events.metrics.T.copy()]
        columns += [pa.array(events.attributes[name], text) for name in attributes]
        codes = pa.nulls(count, text)
        if done.dead:
            codes = pa.array([done.dead.get(row) for row in range(count)], text)
        return [*(spread(column, done.rows, count) for column in columns), codes]

    return Form(
        role,
        [
            ("event_time", stamp()),
            ("event_id", text),
            ("device_id", text),
            *((name, pa.float64()) for name in metrics),
            *((name, text) for name in attributes),
            ("code", text),
        ],
        rows,
        time="event_time",
        device="device_id",
        labels=("device_id", *attributes, "code"),
    )


def _in_order(parts: list[list[Any]], places: I64) -> list[Any]:
    """Columns of parts as columns of the whole; `places` is the row of each of theirs."""
    back = np.empty_like(places)
    back[places] = np.arange(len(places))
    order = arrow().array(back)
    return [arrow().concat_arrays(columns).take(order) for columns in zip(*parts, strict=True)]


def _nothing() -> RecordBatch:
    empty = np.empty(0, np.int64)
    return RecordBatch("", 0, empty, empty, [], [])
