"""A topic that is made anew under its name while it is replayed is said, never mixed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes.replay_log import Logged, MemoryReader, small_pipeline
from fakes.replay_world import MemoryLogs, World
from fakes.services import without

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import StateError
from headrace.schemas.settings import BusSettings
from headrace.streams.replay.ask import Ask, sheet_of
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import Folder
from headrace.streams.replay.form_events import events_form
from headrace.streams.replay.labels import LabelRows
from headrace.streams.replay.one_log import one_log
from headrace.streams.replay.otherwise import Change, otherwise
from headrace.streams.replay.ranges import Span, Wanted
from headrace.streams.replay.reproduce import reproduce
from headrace.streams.replay.same_log import check_same_log, last_record
from headrace.streams.replay.source import BusSource
from headrace.streams.replay.throttle import Throttle
from headrace.streams.replay.training import training_set
from headrace.streams.replay.whatif import try_otherwise

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


def past_log(count: int, body: bytes) -> MemoryLogs:
    logs = MemoryLogs()
    for at in range(count):
        logs.log("t", 0).append(None, body, at)
    return logs


@pytest.mark.parametrize("count", [6, 12, 40])
async def test_what_is_computed_of_two_logs_is_refused(count):
    logs = past_log(12, b"{}")
    with pytest.raises(StateError, match=r"t\[0\] is another log"):
        async with one_log(logs, "t", [Span(0, 2, 12)]):
            logs.logs = past_log(count, b"[]").logs


@pytest.mark.parametrize("stop", [12, 1 << 40])
async def test_what_is_computed_of_a_log_that_grew_or_expired_is_not(stop):
    """A stretch may reach beyond the log, and what it begins with may be gone."""
    logs = past_log(12, b"{}")
    logs.log("t", 0).begin = 3
    async with one_log(logs, "t", [Span(0, 2, stop), Span(1, 0, 9)]):
        logs.log("t", 0).append(None, b"[]", 12)
        logs.log("t", 0).begin = 5


@pytest.mark.parametrize(
    ("what", "topic"),
    [
        *((what, "enriched") for what in ("reproduce", "whatif", "training")),
        *((what, "predictions") for what in ("reproduce", "whatif")),
        ("reproduce", "features"),
    ],
)
async def test_the_past_is_computed_of_one_log(tmp_path, what, topic):
    """Each of the three, while a topic that it reads is made anew with as many records."""
    world = World(tmp_path)
    world.send(90)
    await world.live()
    past, span = world.past(), Span(0, 0, 90)
    name = getattr(past.definitions.topics, topic).name

    def anew(count: int) -> None:
        world.logs.log(name, 0).values[-1] = b"[]"

    async def work() -> None:
        if what == "reproduce":
            await reproduce(past, [span], said=anew)
        elif what == "whatif":
            other, _ = await otherwise(past, Change(threshold=0.6))
            await try_otherwise(past, other, [span], said=anew)
        else:
            labels = LabelRows(["d0"], np.array([1 << 45]), {})
            await training_set(past, [span], labels, said=anew)

    with pytest.raises(StateError, match="another log"):
        await work()
    await past.definitions.close()
