"""The table of each role holds what its records say; what they are not is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.services import without

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.deadletter import deadletter_headers
from headrace.schemas.errors import Source
from headrace.schemas.prediction import Prediction, PredictionModel, PredictionTimes
from headrace.streams.bus.raw_batch import RawBatch

try:
    import pyarrow as _  # noqa: F401
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")

from headrace.streams.replay.form_derived import features_form, predictions_form
from headrace.streams.replay.form_records import deadletter_form, records_form


def records(values: Sequence[bytes | None], headers: Any = None) -> RecordBatch:
    count = len(values)
    return RecordBatch(
        "t", 3, np.arange(10, 10 + count), np.full(count, 7), [b"k"] * count, list(values), headers
    )


def raw(values: Sequence[bytes | None], headers: Any = None) -> RawBatch:
    return RawBatch.of(records(values, headers))


def ms(value: Any) -> int:
    return round(value.timestamp() * 1000)


def test_predictions_are_rows() -> None:
    """Every field has its column, and a record that is no prediction gives no row."""
    one = Prediction(
        id="a", rev=1, event_id="e", device_id="d", event_time="x", score=None, label="high",
        confidence=0.5, tier="light", flags=("rebuilt",), feature_age_ms=3,
        model=PredictionModel("m", 2, "9f"), source="s[0]@1", times_ms=PredictionTimes(5, 6, 7),
        values={"extra": 0.25},
    )  # fmt: skip
    table, made = predictions_form().table(raw([b"none", msgspec.json.encode(one)]))
    [row] = table.to_pylist()

    assert list(made.unreadable) == [0]
    assert (row["partition"], row["offset"], row["id"], row["rev"]) == (3, 11, "a", 1)
    assert (row["score"], row["flags"], row["model_version"]) == (None, ["rebuilt"], 2)
    assert (ms(row["event_time"]), ms(row["ingest_time"]), ms(row["served_time"])) == (5, 6, 7)
    assert row["outputs"] == [("extra", 0.25)]


def block(names: tuple[str, ...] = ("x", "y")) -> FeatureBlock:
    return FeatureBlock(
        "p", "d1", "n1", "t", 3, names, np.array([4, 6]), np.array([40, 60]), np.array([41, 61]),
        np.array([[1.0, np.nan], [2.0, 3.0]]), Labels(["a", "b"], np.array([1, 0], np.int32)),
        [b"e4", b'e\\"6'], {"kind": Labels(["k"], np.array([0, 0], np.int32))},
    )  # fmt: skip


def test_blocks_are_rows_of_their_events() -> None:
    """Each event of a block is a row under the block's offset; resting blocks give none."""
    resting = replace(block(), offsets=np.empty(0, np.int64)).slice(0, 0)
    found = records([block().encode(), resting.encode(), b"HRB1", block().encode()])
    table, made = features_form(("x", "y"), ("kind",)).table(RawBatch.of(found))

    assert list(made.unreadable) == [2]
    assert table["offset"].to_pylist() == [10, 10, 13, 13]
    assert table["source_offset"].to_pylist() == [4, 6, 4, 6]
    assert table["device_id"].to_pylist() == ["b", "a"] * 2
    assert table["event_id"].to_pylist() == ["e4", 'e"6'] * 2
    assert table["x"].to_pylist() == [1.0, 2.0] * 2
    assert table["y"].to_pylist() == [None, 3.0] * 2
    assert table["kind"].to_pylist() == ["k"] * 4
    assert made.notes == ()


def test_another_version_of_the_pipeline_is_said() -> None:
    """Columns that a block lacks are null; those that only it has are named."""
    table, made = features_form(("x", "z"), ()).table(raw([block().encode()]))

    assert table["z"].to_pylist() == [None, None]
    assert made.notes == ("pipeline version d1 lacks z (null) and has y, which are left out",)


def test_dead_letters_are_rows() -> None:
    """Code, coordinates and times of the original; a record without them gives no row."""
    headers = deadletter_headers(
        "json.invalid", Source("raw", 1, 99), stage="enrich", pipeline="p", pipeline_digest="d",
        first_seen_ms=50, attempt=2,
    )  # fmt: skip
    table, made = deadletter_form().table(raw([b"{", b"{"], [headers, ()]))
    [row] = table.to_pylist()

    assert list(made.unreadable) == [1]
    assert (row["code"], row["attempt"], row["bytes"], row["model"]) == ("json.invalid", 2, 1, None)
    assert (row["source_partition"], row["source_offset"], ms(row["first_seen"])) == (1, 99, 50)


@pytest.mark.parametrize("headers", [None, [[("h", b"1"), ("h", None)], ()]])
def test_any_record_is_a_row(headers: Any) -> None:
    """Of an unknown topic there is the record as it was read."""
    table, _ = records_form().table(raw([b"v", None], headers))

    assert table["value"].to_pylist() == [b"v", None]
    found = table["headers"].to_pylist()
    named = [{"name": "h", "value": b"1"}, {"name": "h", "value": None}]
    assert found == ([None, None] if headers is None else [named, None])
