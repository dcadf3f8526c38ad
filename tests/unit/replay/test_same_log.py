"""A topic that is made anew under its name while it is replayed is said, never mixed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes.replay_log import Logged, MemoryReader, small_pipeline
from fakes.services import without

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import StateError
from headrace.schemas.settings import BusSettings
from headrace.streams.replay.ask import Ask, sheet_of
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import Folder
from headrace.streams.replay.form_events import events_form
from headrace.streams.replay.ranges import Span, Wanted
from headrace.streams.replay.same_log import check_same_log, last_record
from headrace.streams.replay.source import BusSource
from headrace.streams.replay.throttle import Throttle

try:
    import pyarrow as _  # noqa: F401
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")


def log(count: int, body: bytes = b"{}", gap: int = 0) -> list[Logged]:
    """Records of offsets 0, 1, …, the last `gap` offsets being without one."""
    return [Logged(at, at, None, body) for at in range(count - gap)]


async def begun(reader: MemoryReader, path: Path):
    """An export that is planned and begun, in parts of four offsets."""
    source = BusSource({}, reader, events_form("telemetry", small_pipeline()))
    sheet = await sheet_of(
        Ask(bus=BusSettings()), source, Wanted(), form="parquet", now_ms=0, part_offsets=4
    )
    sheet = Folder(path).begin(sheet)
    return Exporter(source, Folder(path), sheet, throttle=Throttle()), sheet


@pytest.mark.parametrize("other", [log(12, b"[]"), log(40, b"[]"), log(6), log(0)])
async def test_parts_of_another_log_are_refused(tmp_path, other):
    """Whether it is as long, longer, shorter or empty; nothing is left of the part."""
    reader = MemoryReader("t", [log(12)])
    exporter, sheet = await begun(reader, tmp_path / "x")
    await exporter.part(sheet.parts[0])
    reader.logs = [other]

    for span in sheet.parts[1:]:
        with pytest.raises(StateError, match=r"t\[0\] is another log"):
            await exporter.part(span)

    folder = Folder(tmp_path / "x")
    assert list(folder.done(sheet.parts)) == sheet.parts[:1]
    assert folder.finish(sheet) is None
    assert len(list((tmp_path / "x").glob("p*/*"))) == 1


async def test_an_export_that_is_gone_on_with_knows_its_first_log(tmp_path):
    """What was planned then holds, also after a restart."""
    reader = MemoryReader("t", [log(12)])
    exporter, sheet = await begun(reader, tmp_path / "x")
    await exporter.part(sheet.parts[0])
    reader.logs = [log(12, b"[]")]

    exporter, again = await begun(reader, tmp_path / "x")

    assert again == sheet
    with pytest.raises(StateError, match="another log"):
        await exporter.part(sheet.parts[1])


async def test_a_log_that_only_grew_or_lost_its_begin_is_the_same():
    """Retention tells nothing, compaction neither."""
    reader = MemoryReader("t", [log(12)])
    last = await last_record(reader, Span(0, 0, 12))
    assert last is not None
    assert last.offset == 11

    reader.logs = [log(30)]
    await check_same_log(reader, 0, last)
    reader.begin[0] = 20
    await check_same_log(reader, 0, last)
    reader.begin[0] = 0
    reader.logs = [[record for record in log(30) if record.offset != 11]]
    await check_same_log(reader, 0, last)


@pytest.mark.parametrize("gap", [0, 1, 200])
async def test_the_last_record_is_found_behind_markers(gap):
    """However many offsets at the end have none."""
    reader = MemoryReader("t", [log(1000, gap=gap)])
    found = await last_record(reader, Span(0, 0, 1000))
    assert found == RecordBatch(
        "t", 0, np.array([999 - gap]), np.array([999 - gap]), [None], [b"{}"]
    ).last_record()  # fmt: skip


async def test_a_stretch_without_records_has_no_last():
    """Nor has one that expires while it is looked at."""
    reader = MemoryReader("t", [log(10, gap=5)])
    assert await last_record(reader, Span(0, 6, 10)) is None
    reader.begin[0] = 10
    assert await last_record(reader, Span(0, 0, 10)) is None
