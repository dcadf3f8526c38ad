"""Rows of files: NDJSON as it is, CSV and Parquet as events, faults without a word of content."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.services import without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import SettingsError
from headrace.schemas.input import Attribute, Input, Metric
from headrace.streams.producers.file_facts import Row
from headrace.streams.producers.file_rows import open_rows

SPEC = Input(
    entity="device_id",
    metrics={"heat": Metric(path="r.heat"), "load": Metric()},
    attributes={"line": Attribute()},
)
NUMERIC = msgspec.structs.replace(SPEC, time="at", time_unit="ms", sequence="n")
SECRET = "tr0ub4dor"


def rows(file: Path, spec: Input = SPEC, time_field: str | None = None, **place: int) -> list[Row]:
    opened = open_rows(file, spec, time_field)
    try:
        return list(opened.read(**place))
    finally:
        opened.close()


def events(found: list[Row]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(row.value) for row in found]


def parquet(file: Path, columns: dict[str, Any]) -> Path:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        without("pyarrow is not installed; install the extra `tables`")
    pq.write_table(pa.table(columns), file, row_group_size=7)
    return file


def test_lines_are_unchanged_keyed_and_numbered(tmp_path: Path) -> None:
    """The value is the line's own bytes; blank lines count as lines and are no rows."""
    file = tmp_path / "e.ndjson"
    lines = [b'{"device_id":"a%d",  "time":"2026-11-21T10:00:00Z"}' % n for n in range(3)]
    file.write_bytes(b"\n" + lines[0] + b"\r\n  \n" + lines[1] + b"\n" + lines[2])

    found = rows(file)

    assert [row.value for row in found] == lines
    assert [row.key for row in found] == [b"a0", b"a1", b"a2"]
    assert [row.number for row in found] == [2, 4, 5]
    assert found[-1].end == file.stat().st_size
    assert {row.at_ms for row in found} == {1_795_255_200_000}


def test_a_device_may_be_an_integer(tmp_path: Path) -> None:
    """Its key is the text that ENRICH makes of it, so its events stay in one partition."""
    file = tmp_path / "e.ndjson"
    file.write_bytes(b'{"device_id":211234567,"time":"2026-11-21T10:00:00Z"}')

    [row] = rows(file)

    assert (row.key, row.fault) == (b"211234567", "")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"no json", "is no JSON object"),
        (b"[1]", "is no JSON object"),
        (b"\xff\xfe", "is no JSON object"),
        (b"[" * 20_000, "is no JSON object"),
        (b'{"device_id":7.0,"time":"2026-11-21T10:00:00Z"}', "names no device"),
        (b'{"device_id":true,"time":"2026-11-21T10:00:00Z"}', "names no device"),
        (b'{"device_id":"","time":"2026-11-21T10:00:00Z"}', "names no device"),
        (b'{"time":"2026-11-21T10:00:00Z"}', "names no device"),
        (b'{"device_id":"a"}', "has no time"),
        (b'{"device_id":"a","time":"yesterday"}', "has no time"),
        (b'{"device_id":"a","time":5}', "has no time"),
    ],
)
def test_a_bad_line_is_kept_and_named(tmp_path: Path, line: bytes, fault: str) -> None:
    """Its bytes are there to be sent, and the lines around it are as ever."""
    file = tmp_path / "e.ndjson"
    good = b'{"device_id":"a","time":"2026-11-21T10:00:00Z"}'
    file.write_bytes(good + b"\n" + line + b"\n" + good)

    found = rows(file)

    assert [row.fault for row in found] == ["", fault, ""]
    assert found[1].value == line


@pytest.mark.parametrize(
    ("unit", "at", "ms"),
    [("s", 1.5, 1500.0), ("ms", 2, 2.0), ("us", 3000, 3.0), ("ns", 4_000_000, 4.0)],
)
def test_times_of_every_unit(tmp_path: Path, unit: Any, at: float, ms: float) -> None:
    """A time is read, and written again, in the input's own unit."""
    file = tmp_path / "e.ndjson"
    file.write_bytes(msgspec.json.encode({"device_id": "a", "x": {"t": at}, "keep": 1}))
    opened = open_rows(file, msgspec.structs.replace(SPEC, time="x.t", time_unit=unit))
    [row] = opened.read()

    assert row.at_ms == ms
    moved = msgspec.json.decode(opened.facts.moved(row, 2 * ms))
    assert moved == {"device_id": "a", "x": {"t": 2 * at}, "keep": 1}
    opened.close()


def test_columns_find_their_places(tmp_path: Path) -> None:
    """Metrics and attributes by name, the rest by path; empty fields are left out."""
    file = tmp_path / "e.csv"
    file.write_text(
        "\ufeffdevice_id,when,heat,load,line,extra.note\n"
        'a,2026-11-21T10:00:00Z,1.5,,north,"one, ""two""\nthree"\n'
        "b,2026-11-21T10:00:01Z,2,3e1,,\n",
        "utf-8",
    )

    found = rows(file, time_field="when")

    assert events(found) == [
        {
            "device_id": "a", "time": "2026-11-21T10:00:00Z", "r": {"heat": 1.5},
            "line": "north", "extra": {"note": 'one, "two"\nthree'},
        },
        {
            "device_id": "b", "time": "2026-11-21T10:00:01Z", "r": {"heat": 2},
            "metrics": {"load": 30.0},
        },
    ]  # fmt: skip
    assert [row.number for row in found] == [3, 4]
    assert [row.fault for row in found] == ["", ""]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f"{SECRET},1", "has 2 fields, expected 4"),
        (f"a,{SECRET},1,5", "has no number in column 'r.heat'"),
        (f"a,1,1,{SECRET}", "has no number in column 'at'"),
    ],
)
def test_a_bad_row_is_no_event_and_quotes_nothing(tmp_path: Path, line: str, fault: str) -> None:
    """A row of a table that cannot be made an event says why, by number and column."""
    file = tmp_path / "e.csv"
    file.write_text(f"device_id,heat,n,at\n{line}\na,1,2,3\n", "utf-8")

    bad, good = rows(file, NUMERIC)

    assert (bad.number, bad.value, bad.fault) == (2, b"", fault)
    assert events([good]) == [{"device_id": "a", "r": {"heat": 1}, "n": 2, "at": 3}]
    assert good.at_ms == 3


def test_two_columns_for_one_place_are_refused(tmp_path: Path) -> None:
    """Nothing is overwritten in silence."""
    file = tmp_path / "e.csv"
    for names in ("heat,r.heat", "r,heat", "a.b,a.b.c"):
        file.write_text(f"{names}\n1,2\n", "utf-8")
        with pytest.raises(SettingsError, match="in each other's place"):
            rows(file)


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.tuples(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False)), max_size=8
    ),
    data=st.data(),
)
def test_a_csv_resumes_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[str, float]],
    data: st.DataObject,
) -> None:
    """From the end of any row on, the same rows come: whatever is quoted, and however numbered."""
    file = tmp_path_factory.mktemp("csv") / "e.csv"
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerows([("device_id", "heat"), *((name.replace("\x00", ""), x) for name, x in table)])
    file.write_bytes(text.getvalue().encode("utf-8", "replace"))
    whole = rows(file)
    if whole:
        cut = data.draw(st.integers(0, len(whole) - 1))

        assert rows(file, begin=whole[cut].end, number=whole[cut].number) == whole[cut + 1 :]


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.binary().filter(lambda b: b"\n" not in b), max_size=8), data=st.data())
def test_lines_resume_anywhere(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject
) -> None:
    """From the end of any line on, the same lines come."""
    file = tmp_path_factory.mktemp("lines") / "e.ndjson"
    file.write_bytes(b"\n".join(lines))
    whole = rows(file)
    if whole:
        cut = data.draw(st.integers(0, len(whole) - 1))

        assert rows(file, begin=whole[cut].end, number=whole[cut].number) == whole[cut + 1 :]


def test_a_parquet_file_is_read_and_resumed(tmp_path: Path) -> None:
    """Times, numbers and text arrive as an event has them; a place is a row."""
    at = [datetime(2026, 11, 21, 10, 0, n, tzinfo=UTC) for n in range(20)]
    file = parquet(
        tmp_path / "e.parquet",
        {"device_id": ["a"] * 20, "time": at, "heat": [*range(19), None], "line": ["x"] * 20},
    )

    found = rows(file)

    assert events(found)[3] == {
        "device_id": "a", "time": "2026-11-21T10:00:03Z", "r": {"heat": 3}, "line": "x",
    }  # fmt: skip
    assert "r" not in events(found)[19]
    assert [row.number for row in found] == list(range(1, 21))
    assert [row.at_ms for row in found] == [1_795_255_200_000 + 1000 * n for n in range(20)]
    assert rows(file, begin=found[8].end, number=found[8].number) == found[9:]


@pytest.mark.parametrize("name", ["none.ndjson", "none.csv", "none.parquet"])
def test_a_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    """The error names the file and what to do."""
    if name.endswith("parquet"):
        parquet(tmp_path / "there.parquet", {"a": [1]})
    with pytest.raises(SettingsError, match=r"opening '.*none"):
        rows(tmp_path / name)
