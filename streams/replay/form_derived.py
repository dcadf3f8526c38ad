"""Tables of what the stages publish: predictions, features, summaries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from headrace.schemas.batch import I64, RecordBatch
from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.prediction import Prediction
from headrace.schemas.summary import SummaryRecord
from headrace.streams.arrow import arrow
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.replay.forms import Columns, Form, stamp, stamps

_PREDICTION = ("id", "rev", "event_id", "device_id", "score", "label", "confidence", "tier")
_TIMES = ("device", "ingest", "served")
_MOMENTS = ("count", "mean", "m2", "min", "max")


def predictions_form() -> Form:
    """The table of predictions: a row each; further outputs of the model in `outputs`."""
    pa = arrow()
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    types = (text, whole, text, text, number, text, number, text)
    decoder = msgspec.json.Decoder(Prediction)

    def rows(raw: RawBatch) -> Columns:
        records = raw.records()
        found, bad = _decoded(decoder, records)
        columns = [
            pa.array([getattr(p, name) for p in found], kind)
            for name, kind in zip(_PREDICTION, types, strict=True)
        ]
        columns.append(pa.array([p.flags for p in found], pa.list_(text)))
        columns.append(pa.array([p.feature_age_ms for p in found], whole))
        columns += [
            pa.array([getattr(p.model, name) for p in found], kind)
            for name, kind in (("name", text), ("version", whole), ("digest", text))
        ]
        columns.append(pa.array([p.source for p in found], text))
        for name in _TIMES:
            times = [getattr(p.times_ms, name) for p in found]
            columns.append(stamps(np.array(times, np.int64)))
        outputs = [list(p.values.items()) for p in found]
        columns.append(pa.array(outputs, pa.map_(text, number)))
        return Columns(columns, _kept(len(records), bad), bad)

    return Form(
        "predictions",
        [
            *zip(_PREDICTION, types, strict=True),
            ("flags", pa.list_(text)),
            ("feature_age_ms", whole),
            ("model", text),
            ("model_version", whole),
            ("model_digest", text),
            ("source", text),
            ("event_time", stamp()),
            ("ingest_time", stamp()),
            ("served_time", stamp()),
            ("outputs", pa.map_(text, number)),
        ],
        rows,
        time="event_time",
        device="device_id",
        prediction="id",
        labels=("device_id", "label", "tier", "model", "model_digest"),
    )


def features_form(names: tuple[str, ...], attributes: tuple[str, ...]) -> Form:
    """The table of features: a row for each event of a block, the newest pipeline's columns.

    A block that was written under another version of the pipeline has null where it lacks a
    column; columns that only it has are said and left out.

    Args:
        names: Feature columns.
        attributes: Attribute columns.
    """
    pa = arrow()
    text = pa.string()

    def rows(raw: RawBatch) -> Columns:
        records = raw.records()
        blocks: list[FeatureBlock] = []
        owners: list[int] = []
        bad: list[int] = []
        for row, value in enumerate(records.values):
            try:
                blocks.append(FeatureBlock.decode(value or b""))
                owners.append(row)
            except ValueError:
                bad.append(row)
        parts = [_block_arrays(pa, block, names, attributes) for block in blocks]
        notes = [_differs(block, names) for block in blocks if set(block.columns) != set(names)]
        columns = [pa.concat_arrays(column) for column in zip(*parts, strict=True)]
        if not parts:
            columns = [pa.array([], kind) for _, kind in fields]
        owned = np.repeat(np.array(owners, np.int64), [len(block) for block in blocks])
        return Columns(columns, owned, bad, tuple(dict.fromkeys(notes)))

    fields = [
        ("event_time", stamp()),
        ("ingest_time", stamp()),
        ("source_offset", pa.int64()),
        ("event_id", text),
        ("device_id", text),
        *((name, pa.float64()) for name in names),
        *((name, text) for name in attributes),
        ("rebuilt", pa.bool_()),
        ("pipeline_digest", text),
        ("numerics", text),
    ]
    labels = ("device_id", *attributes, "pipeline_digest", "numerics")
    return Form("features", fields, rows, time="event_time", device="device_id", labels=labels)


def _block_arrays(
    pa: Any, block: FeatureBlock, names: Iterable[str], attributes: Iterable[str]
) -> list[Any]:
    count, text = len(block), pa.string()
    places = {name: place for place, name in enumerate(block.columns)}
    ids = b'["' + b'","'.join(block.event_ids) + b'"]' if count else b"[]"
    columns = [stamps(block.event_times_ms), stamps(block.log_times_ms), pa.array(block.offsets)]
    columns.append(pa.array(msgspec.json.decode(ids, type=list[str]), text))
    columns.append(_labels(pa, block.entities))
    for name in names:
        if name in places:
            column = np.ascontiguousarray(block.features[:, places[name]])
            columns.append(pa.array(column, pa.float64(), from_pandas=True))
        else:
            columns.append(pa.nulls(count, pa.float64()))
    for name in attributes:
        held = block.attributes.get(name)
        columns.append(pa.nulls(count, text) if held is None else _labels(pa, held))
    columns.append(pa.array(np.full(count, block.rebuilt)))
    columns += [pa.repeat(pa.scalar(fact, text), count) for fact in _facts(block)]
    return columns


def _facts(block: FeatureBlock) -> tuple[str, str]:
    return block.pipeline_digest, block.numerics


def _labels(pa: Any, labels: Labels) -> Any:
    return pa.array(labels.names, pa.string()).take(pa.array(labels.codes))


def _differs(block: FeatureBlock, names: tuple[str, ...]) -> str:
    lacks = [name for name in names if name not in block.columns]
    more = [name for name in block.columns if name not in names]
    said = [f"lacks {', '.join(lacks)} (null)"] * bool(lacks)
    said += [f"has {', '.join(more)}, which are left out"] * bool(more)
    return f"pipeline version {block.pipeline_digest} {' and '.join(said)}"


def summaries_form() -> Form:
    """The table of summaries: counts and the score's moments; what else there is as JSON text."""
    pa = arrow()
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    decoder = msgspec.json.Decoder(SummaryRecord)
    counts = ("rows", "anomalies", "devices")

    def rows(raw: RawBatch) -> Columns:
        records = raw.records()
        found, bad = _decoded(decoder, records)
        starts = stamps(np.array([s.window_start_ms for s in found], np.int64))
        ends = stamps(np.array([s.window_end_ms for s in found], np.int64))
        columns = [starts, ends, pa.array([s.group for s in found], text)]
        columns.append(pa.array([s.rev for s in found], whole))
        columns += [pa.array([getattr(s, name) for s in found], whole) for name in counts]
        columns.append(pa.array([s.suppressed for s in found], pa.bool_()))
        for name in _MOMENTS:
            kind = whole if name == "count" else number
            columns.append(pa.array([getattr(s.score, name) for s in found], kind))
        for name in ("metrics", "top", "models"):
            texts = [msgspec.json.encode(getattr(s, name)).decode() for s in found]
            columns.append(pa.array(texts, text))
        return Columns(columns, _kept(len(records), bad), bad)

    return Form(
        "summaries",
        [
            ("window_start", stamp()),
            ("window_end", stamp()),
            ("group", text),
            ("rev", whole),
            *((name, whole) for name in counts),
            ("suppressed", pa.bool_()),
            *((f"score_{name}", whole if name == "count" else number) for name in _MOMENTS),
            ("metrics", text),
            ("top", text),
            ("models", text),
        ],
        rows,
        time="window_start",
        labels=("group",),
    )


def _decoded(decoder: Any, records: RecordBatch) -> tuple[list[Any], list[int]]:
    """Records as structs, and the rows of those that are none."""
    decode, found, bad = decoder.decode, [], []
    for row, value in enumerate(records.values):
        try:
            found.append(decode(value or b""))
        except (msgspec.DecodeError, UnicodeDecodeError):
            bad.append(row)
    return found, bad


def _kept(count: int, bad: list[int]) -> I64 | None:
    return np.delete(np.arange(count), bad) if bad else None
