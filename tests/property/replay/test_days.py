"""An export by day has the rows of one that is not, each once and in its order, in stable bytes."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fakes.replay_log import Logged, MemoryReader, small_pipeline
from fakes.services import without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import BusSettings
from headrace.streams.replay import writing
from headrace.streams.replay.ask import Ask, sheet_of
from headrace.streams.replay.days import UNDATED
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import Folder, Sheet
from headrace.streams.replay.form_events import events_form
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.source import BusSource, ExportSource
from headrace.streams.replay.throttle import Throttle

try:
    import pyarrow.parquet as pq
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")

PIPELINE = small_pipeline()
DAY_MS = 86_400_000
PART = 8


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_ROWS", 5)


def event(time_ms: int, number: int) -> bytes:
    body = {"id": f"e{number}", "device_id": "d", "time": time_ms, "kind": "k"}
    return json.dumps(body | {"metrics": {"a": number, "code": 1.0}}).encode()


@st.composite
def logs(draw: Any) -> list[Logged]:
    found: list[Logged] = []
    for number in range(draw(st.integers(0, 30))):
        offset = (found[-1].offset if found else 0) + draw(st.sampled_from([1, 1, 4]))
        time_ms = draw(st.integers(-1, 2)) * DAY_MS + draw(st.sampled_from([0, 1, DAY_MS - 1]))
        value = draw(st.sampled_from([event(time_ms, number)] * 5 + [b"{}"]))
        logged_ms = draw(st.sampled_from([3 * DAY_MS, 4 * DAY_MS]))
        found.append(Logged(offset, logged_ms, b"d", value))
    return found


def source_of(reader: MemoryReader) -> BusSource:
    return BusSource({}, reader, events_form("telemetry", PIPELINE))  # type: ignore[arg-type]


async def export(
    reader: MemoryReader, path: Path, *, by_day: bool, by: Any = "event", seed: int = 0
) -> Sheet:
    """Parts in any order, some made twice, as of workers that share a folder."""
    source, chance = source_of(reader), random.Random(seed)
    sheet = await sheet_of(
        Ask(bus=BusSettings()), source, Wanted(by=by), form="parquet", now_ms=0,
        part_offsets=PART, by_day=by_day,
    )  # fmt: skip
    folder = Folder(path)
    sheet = folder.begin(sheet)
    exporter = Exporter(source, folder, sheet, throttle=Throttle())
    parts = [*sheet.parts, *(part for part in sheet.parts if chance.random() < 0.5)]
    for span in chance.sample(parts, len(parts)):
        await exporter.part(span)
    folder.sweep(sheet.parts)
    report = folder.finish(sheet)
    assert report is not None
    folder.check_files(sheet, report)
    return sheet


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def tables(path: Path, pattern: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of each folder, by parts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(path.glob(pattern)):
        found.setdefault(file.parent.name, []).extend(pq.ParquetFile(file).read().to_pylist())
    return found


def day_of(time: datetime | None) -> str:
    return "day=" + (UNDATED if time is None else time.astimezone(UTC).date().isoformat())


@settings(deadline=None, max_examples=25)
@given(logs(), st.sampled_from(["event", "broker"]), st.integers(0, 99))
def test_each_day_has_its_rows_in_the_order_of_the_log(
    log: list[Logged], by: str, seed: int
) -> None:
    """Whichever clock: what another export holds, dealt to days, refused events where it has none.

    The same bytes again, however it is read and made.
    """
    chance = random.Random(seed)
    cut = MemoryReader("t", [log], lambda: chance.randint(1, 4))
    whole = MemoryReader("t", [log], lambda: 100)
    with TemporaryDirectory() as made:
        plain, days, again = (Path(made) / name for name in ("plain", "days", "again"))
        asyncio.run(export(whole, plain, by_day=False))
        asyncio.run(export(whole, days, by_day=True, by=by))
        asyncio.run(export(cut, again, by_day=True, by=by, seed=seed))
        expected: dict[str, list[dict[str, Any]]] = {}
        for row in tables(plain, "p*/*.parquet").get("p00000", []):
            time = row["event_time" if by == "event" else "log_time"]
            expected.setdefault(day_of(time), []).append(row)

        assert tables(days, "day=*/*.parquet") == expected
        assert files(days) == files(again)


def test_rows_that_left_the_log_are_in_no_file_of_a_part_that_is_made_again(
    tmp_path: Path,
) -> None:
    """A worker was killed before its mark; retention took a day before the part was made again."""
    log = [Logged(n, 9 * DAY_MS, b"d", event(n * DAY_MS, n)) for n in range(3)]
    reader = MemoryReader("t", [log])
    sheet = asyncio.run(export(reader, tmp_path / "x", by_day=True))
    for mark in (tmp_path / "x" / ".parts").iterdir():
        mark.unlink()
    reader.begin[0] = 1
    exporter = Exporter(source_of(reader), Folder(tmp_path / "x"), sheet, throttle=Throttle())
    mark = asyncio.run(exporter.part(sheet.parts[0]))

    assert list(tables(tmp_path / "x", "day=*/*")) == ["day=1970-01-02", "day=1970-01-03"]
    assert [made.name.partition("/")[0] for made in mark.files] == [
        "day=1970-01-02", "day=1970-01-03"
    ]  # fmt: skip


def test_a_file_that_is_lost_is_made_again_and_such_an_export_is_no_source(tmp_path: Path) -> None:
    log = [Logged(n, 9 * DAY_MS, b"d", event(n * DAY_MS, n)) for n in range(3)]
    reader = MemoryReader("t", [log])
    sheet = asyncio.run(export(reader, tmp_path / "x", by_day=True))
    before = files(tmp_path / "x")
    folder = Folder(tmp_path / "x")
    report = folder.report()
    assert report is not None
    next((tmp_path / "x").glob("day=1970-01-02/*")).unlink()

    with pytest.raises(SettingsError, match="has 2 of its 3 files"):
        folder.check_files(sheet, report)
    assert folder.sweep(sheet.parts) == {}
    asyncio.run(export(reader, tmp_path / "x", by_day=True))
    assert files(tmp_path / "x") == before
    with pytest.raises(SettingsError, match="cut by day"):
        ExportSource(tmp_path / "x", raw=False)


def test_an_unfinished_export_that_is_not_by_day_is_not_gone_on_with_by_day(tmp_path: Path) -> None:
    reader = MemoryReader("t", [[Logged(0, 0, b"d", event(0, 0))]])
    asyncio.run(export(reader, tmp_path / "x", by_day=False))
    with pytest.raises(SettingsError, match="another range, table or format"):
        asyncio.run(export(reader, tmp_path / "x", by_day=True))
