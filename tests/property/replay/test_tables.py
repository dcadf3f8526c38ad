"""Tables of any range hold the plain reader's rows, in the same bytes however they are made."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from fakes.replay_log import Logged, MemoryReader, plain_rows, small_pipeline
from fakes.services import without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.settings import BusSettings
from headrace.streams.replay import uniform, writing
from headrace.streams.replay.ask import Ask, sheet_of
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import Folder, Report, Sheet
from headrace.streams.replay.form_events import events_form
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.source import BusSource, ExportSource, Source
from headrace.streams.replay.throttle import Throttle

try:
    import pyarrow.csv as pacsv
    import pyarrow.feather as feather
    import pyarrow.parquet as pq
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")

PIPELINE = small_pipeline()
PART = 8
DEVICES = ("d1", "d2", "ü\n")


def event(time_ms: int, device: str, a: float | None, code: float) -> bytes:
    body = {"id": f"e{time_ms}", "device_id": device, "time": time_ms, "kind": "k"}
    return json.dumps(body | {"metrics": {"a": a, "code": code}}).encode()


_VALUES = st.one_of(
    st.none(),
    st.just(b"{}\n{}"),
    st.builds(
        event,
        st.integers(0, 200),
        st.sampled_from(DEVICES),
        st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
        st.integers(-1, 9),
    ),
)
_HEADERS = st.sampled_from([(), (("h", b"1"), ("h", None))])


@st.composite
def logs(draw: Any) -> list[list[Logged]]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        offset, log = 0, []
        for _ in range(draw(st.integers(0, 25))):
            offset += draw(st.sampled_from([1, 1, 1, 2, 9]))
            time_ms = draw(st.integers(0, 200))
            log.append(Logged(offset, time_ms, b"k", draw(_VALUES), draw(_HEADERS)))
        found.append(log)
    return found


@st.composite
def ranges(draw: Any) -> Wanted:
    edges = sorted(draw(st.lists(st.integers(0, 201), min_size=2, max_size=2, unique=True)))
    return Wanted(
        by=draw(st.sampled_from(["event", "broker"])),
        start_ms=draw(st.sampled_from([None, edges[0]])),
        stop_ms=draw(st.sampled_from([None, edges[1]])),
        devices=draw(st.sampled_from([(), ("d1",), ("d2", "ü\n")])),
        offsets=draw(st.sampled_from([None, {0: (3, 17)}, {0: (None, 20)}])),
    )


def chosen(rows: list[dict[str, Any]], wanted: Wanted) -> list[dict[str, Any]]:
    """The plain way."""

    def is_wanted(row: dict[str, Any]) -> bool:
        time_ms = row["event_time"] if wanted.by == "event" else row["log_time"]
        if wanted.start_ms is not None and (time_ms is None or time_ms < wanted.start_ms):
            return False
        if wanted.stop_ms is not None and (time_ms is None or time_ms >= wanted.stop_ms):
            return False
        if wanted.devices and row["device_id"] not in wanted.devices:
            return False
        if wanted.offsets is not None:
            first, last = wanted.offsets.get(row["partition"], (0, 0))
            return (first or 0) <= row["offset"] < (10**9 if last is None else last)
        return True

    return [row for row in rows if is_wanted(row)]


def source_of(reader: MemoryReader, *, raw: bool = False) -> BusSource:
    form = events_form("telemetry", PIPELINE)
    form.raw = raw
    # Whose times the broker sets is asked of the bus where it matters: not with the present at 0.
    return BusSource({}, reader, form, skew_ms=10_000)  # type: ignore[arg-type]


async def export(
    source: Source,
    wanted: Wanted,
    path: Path,
    *,
    form: Any = "parquet",
    order: Callable[[list[Any]], list[Any]] = list,
) -> tuple[Sheet, Report]:
    ask = Ask(bus=BusSettings())
    sheet = await sheet_of(ask, source, wanted, form=form, now_ms=0, part_offsets=PART)
    folder = Folder(path)
    sheet = folder.begin(sheet)
    exporter = Exporter(source, folder, sheet, throttle=Throttle())
    for span in order(sheet.parts):
        await exporter.part(span)
    report = folder.finish(sheet)
    assert report is not None
    return sheet, report


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [row for f in sorted(path.rglob("*.parquet")) for row in pq.read_table(f).to_pylist()]
    for row in rows:
        for name in ("log_time", "event_time"):
            row[name] = None if row[name] is None else round(row[name].timestamp() * 1000)
        row["dead"] = row.pop("code_2")
    return rows


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_ROWS", 5)
    monkeypatch.setattr(writing, "GROUP_BYTES", 150)
    monkeypatch.setattr(uniform, "LEAST_ROWS", 1)


@settings(deadline=None, max_examples=25)
@given(logs(), ranges())
def test_a_table_holds_the_plain_readers_rows(found: list[list[Logged]], wanted: Wanted) -> None:
    """Any log, any range: each row, in order, with every value; dead events keep their code."""
    reader = MemoryReader("t", found)
    if wanted.offsets and wanted.offsets.keys() - set(reader.partitions):
        return
    expected = chosen(plain_rows(PIPELINE, reader), wanted)
    with TemporaryDirectory() as made:
        _, report = asyncio.run(export(source_of(reader), wanted, Path(made) / "x"))
        assert rows_of(Path(made) / "x") == expected
        assert report.rows == len(expected)


@settings(deadline=None, max_examples=12)
@given(logs(), ranges(), st.integers(0, 99), st.booleans(), st.sampled_from(["parquet", "arrow"]))
def test_any_cut_and_order_gives_the_same_bytes(
    found: list[list[Logged]], wanted: Wanted, seed: int, raw: bool, form: str
) -> None:
    """However fetches are cut and in whatever order parts are made, once or twice: equal bytes."""
    chance = random.Random(seed)
    one = MemoryReader("t", found, lambda: 100)
    two = MemoryReader("t", found, lambda: chance.randint(1, 4))

    def mixed(parts: list[Any]) -> list[Any]:
        again = [part for part in parts if chance.random() < 0.3]
        return chance.sample([*parts, *again], len(parts) + len(again))

    async def both(a: Path, b: Path) -> None:
        await export(source_of(one, raw=raw), wanted, a, form=form)
        await export(source_of(two, raw=raw), wanted, b, form=form, order=mixed)

    if wanted.offsets and wanted.offsets.keys() - set(one.partitions):
        return
    with TemporaryDirectory() as made:
        a, b = Path(made) / "a", Path(made) / "b"
        asyncio.run(both(a, b))
        assert files(a) == files(b)


@settings(deadline=None, max_examples=8)
@given(logs(), ranges(), st.booleans())
def test_an_export_is_read_as_its_topic(
    found: list[list[Logged]], wanted: Wanted, raw: bool
) -> None:
    """A range of an export of everything is, to the byte, the same range of the topic."""
    reader = MemoryReader("t", found)
    if wanted.offsets and wanted.offsets.keys() - set(reader.partitions):
        return

    async def both(whole: Path, a: Path, b: Path) -> None:
        await export(source_of(reader, raw=True), Wanted(), whole)
        await export(source_of(reader, raw=raw), wanted, a)
        await export(ExportSource(whole, raw=raw), wanted, b)

    with TemporaryDirectory() as made:
        whole, a, b = (Path(made) / name for name in "wab")
        asyncio.run(both(whole, a, b))
        assert rows_of(a) == rows_of(b)
        tables = [{n: c for n, c in files(p).items() if n.endswith(".parquet")} for p in (a, b)]
        assert tables[0] == tables[1]


_OFFSETS = st.dictionaries(
    st.integers(0, 2), st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(5, 9))
)


@settings(deadline=None, max_examples=40)
@given(st.none() | _OFFSETS.filter(bool), st.none() | _OFFSETS.filter(bool))
def test_offsets_that_were_not_exported_are_missing(held: Any, asked: Any) -> None:
    """An export of any offsets, asked for any: it is short of the topic only where it says so."""
    log = [Logged(i, i, None, event(i, "d1", 0.5, i)) for i in range(9)]
    reader = MemoryReader("t", [log, log])

    def rows(offsets: Any) -> set[tuple[int, int]]:
        whole = {0: (None, None), 1: (None, None)} if offsets is None else offsets
        return {
            (partition, at)
            for partition, (first, last) in whole.items()
            for at in range(first or 0, 9 if last is None else last)
        }

    async def missing(path: Path) -> Any:
        if held is not None and 2 in held:  # refused: the topic has no such partition
            return None
        await export(source_of(reader), Wanted(offsets=held), path)
        return (await ExportSource(path, raw=False).plan(Wanted(offsets=asked), now_ms=0)).missing

    with TemporaryDirectory() as made:
        found = asyncio.run(missing(Path(made) / "x"))
    if found is not None and rows(asked) - rows(held):
        assert "unexported" in {m.why for m in found}
    elif found is not None and held is None:
        assert found == ()


def test_an_export_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    """As a source and in SQL, rather than to be silently shorter."""
    from headrace.schemas.errors import SettingsError
    from headrace.streams.replay.query import Database

    log = [Logged(i, i, None, event(i, "d1", 0.5, i)) for i in range(20)]
    source = source_of(MemoryReader("t", [log]))
    sheet, _ = asyncio.run(export(source, Wanted(), tmp_path / "x"))
    Folder(tmp_path / "x").file_of(sheet.parts[1], sheet).unlink()

    with pytest.raises(SettingsError, match="2 of its 3 files"):
        ExportSource(tmp_path / "x", raw=False)
    try:
        import duckdb as _  # noqa: F401
    except ImportError:
        without("duckdb is not installed; install the extra `sql`")
    with pytest.raises(SettingsError, match="2 of its 3 files"):
        Database(Ask(bus=BusSettings()), {}, {"x": tmp_path / "x"}, Wanted())


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    """Arrow files equal Parquet's tables; CSV has every row, with bytes and lists as text."""
    log = [Logged(i, i, None, event(i, "d1", 0.5, i), (("n", b"x"),)) for i in range(12)]
    source = source_of(MemoryReader("t", [log]), raw=True)
    for form in ("parquet", "arrow", "csv"):
        asyncio.run(export(source, Wanted(), tmp_path / form, form=form))
    parts = [sorted((tmp_path / form).rglob(f"*.{form}")) for form in ("parquet", "arrow", "csv")]
    assert [len(found) for found in parts] == [2, 2, 2]
    for parquet, ipc, csv in zip(*parts, strict=True):
        table = pq.read_table(parquet)
        assert feather.read_table(ipc).equals(table)
        text = pacsv.read_csv(csv).to_pylist()
        assert [row["offset"] for row in text] == table["offset"].to_pylist()
        assert text[0]["headers"] == '[{"name":"n","value":"eA=="}]'


def test_what_expires_while_it_is_read_is_said(tmp_path: Path) -> None:
    """Retention that overtakes a replay leaves a hole that the report names."""
    log = [Logged(i, i, None, event(i, "d1", 0.5, i)) for i in range(20)]
    reader = MemoryReader("t", [log])

    reads = iter(range(100))

    def expiring() -> int:
        if next(reads) > 1:  # the first two are of the plan
            reader.begin[0] = 11
        return 2

    reader.cut = expiring
    _, report = asyncio.run(export(source_of(reader), Wanted(), tmp_path / "x"))

    assert [(m.why, m.start, m.stop) for m in report.missing] == [
        ("expired", 2, 8),
        ("expired", 8, 11),
    ]
    assert report.rows == 2 + 9
    assert not report.is_whole


def test_marks_of_another_export_are_not_taken(tmp_path: Path) -> None:
    """A folder goes on with its own export only."""
    from headrace.schemas.errors import SettingsError

    source = source_of(MemoryReader("t", [[Logged(0, 5, None, b"{}")]]))
    sheet, _ = asyncio.run(export(source, Wanted(), tmp_path / "x"))
    other = msgspec.structs.replace(sheet, format="csv")

    assert Folder(tmp_path / "x").begin(sheet) == sheet
    with pytest.raises(SettingsError, match="another range, table or format"):
        Folder(tmp_path / "x").begin(other)
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "mine.txt").touch()
    with pytest.raises(SettingsError, match="not empty"):
        Folder(tmp_path / "y").begin(sheet)


def test_a_part_that_the_disk_lost_is_made_again(tmp_path: Path) -> None:
    """After a loss of power a mark may outlive its file's bytes; going on makes the part anew."""
    log = [Logged(i, i, None, event(i, "d1", 0.5, i)) for i in range(20)]
    source = source_of(MemoryReader("t", [log]))
    sheet, _ = asyncio.run(export(source, Wanted(), tmp_path / "x"))
    whole = files(tmp_path / "x")
    folder = Folder(tmp_path / "x")
    first, second, third = (folder.file_of(span, sheet) for span in sheet.parts)
    first.write_bytes(first.read_bytes()[:-9])
    third.unlink()

    assert list(folder.sweep(sheet.parts)) == [sheet.parts[1]]
    asyncio.run(export(source, Wanted(), tmp_path / "x"))
    assert files(tmp_path / "x") == whole
    assert second.exists()
