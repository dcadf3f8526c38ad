"""The comparison of topics with a ledger: right is right, and every kind of wrong is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes.memory_bus import MemoryBus

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.cli.context import pipeline_file
from headrace.streams.producers.fates import Fates
from headrace.streams.producers.ledger_check import check
from headrace.streams.producers.ledger_file import LedgerReader
from headrace.streams.producers.plan import Plan
from headrace.streams.producers.run_fleet import FleetRun

PRESS = load_pipeline(pipeline_file("press"))
START_MS = 1_795_255_200_000
PLAN = Plan(rate_per_s=500, seconds=2, late=0.05, future=0.02, repeats=0.05, gaps=0.1)

Topics = dict[str, list[bytes]]


def outcomes(folder: Path) -> tuple[LedgerReader, Topics]:
    """A ledger, and what a pipeline without fault would leave of it."""
    FleetRun(PLAN, PRESS, START_MS, folder / "l.ndjson").to_file(folder / "e.ndjson")
    rows = [msgspec.json.decode(r) for r in (folder / "l.ndjson").read_bytes().splitlines()[1:]]
    values = iter((folder / "e.ndjson").read_bytes().splitlines())
    found: Topics = {"predicted": [], "late": [], "dead": [], "repeated": []}
    for offset, row in enumerate(rows):
        if row["expected"] == "absent":
            continue
        value = next(values)
        if row["expected"] == "predicted":
            value = prediction(row["id"], offset, row["intended_ms"])
        found[row["expected"]].append(value)
    return LedgerReader(folder / "l.ndjson"), found


def prediction(event_id: str, offset: int, intended_ms: float) -> bytes:
    return msgspec.json.encode({
        "event_id": event_id, "source": f"t[1]@{offset}", "more": [1],
        "times_ms": {"served": round(intended_ms) + 40},
    })  # fmt: skip


def batch(values: list[bytes]) -> RecordBatch:
    rows = len(values)
    return RecordBatch("t", 0, np.arange(rows), np.zeros(rows, np.int64), [None] * rows, values)


def judged(reader: LedgerReader, found: Topics) -> Fates:
    fates = Fates(reader.header, reader)
    fates.predictions(batch(found["predicted"]))
    fates.derived(batch(found["predicted"]))
    fates.originals("late", batch(found["late"]))
    fates.originals("dead", batch(found["dead"]))
    return fates


def test_what_is_right_is_right(tmp_path: Path) -> None:
    """In = predicted + dead + late + repeated, each as many as the ledger says."""
    reader, found = outcomes(tmp_path)
    fates = judged(reader, found)
    report = fates.report()

    assert fates.settled
    assert report["wrong"] == report["doubled"] == report["raw_or_personal_seen"] == 0
    assert all(report[o] == len(found[o]) == report["expected"][o] > 0 for o in found)
    assert report["events"] == sum(map(len, found.values()))
    assert 35 < report["answer_ms"]["p50"] < 45
    assert report["over_1_s"] == 0


def test_answers_are_told_by_the_time_at_which_their_events_were_due(tmp_path: Path) -> None:
    """A slow spell shows in its own ten seconds, and in no other: before, during and after."""
    plan = Plan(rate_per_s=100, seconds=30, late=0, future=0, repeats=0, gaps=0)
    FleetRun(plan, PRESS, START_MS, tmp_path / "l.ndjson").to_file(tmp_path / "e.ndjson")
    reader = LedgerReader(tmp_path / "l.ndjson")
    rows = [msgspec.json.decode(r) for r in (tmp_path / "l.ndjson").read_bytes().splitlines()[1:]]
    due = [row["intended_ms"] for row in rows]
    late = [900 if START_MS + 10_000 <= at < START_MS + 20_000 else 0 for at in due]
    answers = [
        prediction(row["id"], offset, row["intended_ms"] + late[offset])
        for offset, row in enumerate(rows)
    ]

    parts = judged(reader, {"predicted": answers, "late": [], "dead": []}).report()

    slices = parts["answer_ms_by_10_s"]
    assert [part["at_s"] for part in slices[:3]] == [0, 10, 20]
    assert sum(part["events"] for part in slices) == len(rows)
    assert [part["p99"] == pytest.approx(40, abs=2) for part in slices[:3]] == [True, False, True]
    assert slices[1]["p50"] == pytest.approx(940, rel=0.02)
    assert parts["answer_ms"]["max"] == max(part["max"] for part in slices)


def spoiled(found: Topics) -> Iterator[tuple[str, Topics, int]]:
    """Every way in which a pipeline can be wrong, and how many events are."""
    p, late, dead = found["predicted"], found["late"], found["dead"]
    again = p[0].replace(b"t[1]@", b"t[1]@9")
    yield "lost", found | {"predicted": p[3:]}, 3
    yield "a repeat that was served", found | {"predicted": [*p, again]}, 1
    yield "late events lost", found | {"late": late[1:]}, 1
    yield "late instead of dead", found | {"late": [*late, dead[0]], "dead": dead[1:]}, 1
    yield "dead letters lost", found | {"dead": []}, len(dead)


def test_every_wrong_is_found(tmp_path: Path) -> None:
    """Lost, served twice, or in another place: counted, and named by id."""
    reader, found = outcomes(tmp_path)
    for what, changed, count in spoiled(found):
        report = judged(reader, changed).report()
        assert report["wrong"] == count, what
        assert report["first_wrong"][0].startswith(reader.header.run), what


def test_what_is_published_again_is_no_error(tmp_path: Path) -> None:
    """At-least-once: the same prediction of the same source may come twice."""
    reader, found = outcomes(tmp_path)
    report = judged(reader, found | {"predicted": [*found["predicted"], found["predicted"][0]]})

    assert (report.report()["republished"], report.report()["wrong"]) == (1, 0)


def test_a_leak_is_found(tmp_path: Path) -> None:
    """Planted raw and personal content in a derived record is seen."""
    reader, found = outcomes(tmp_path)
    fates = judged(reader, found)
    fates.derived(batch([b"..." + found["late"][0] + b"..."]))

    assert fates.report()["raw_or_personal_seen"] == 1


async def test_topics_are_read_to_the_end(tmp_path: Path) -> None:
    """The check follows a bus until all is there; without patience it says what is missing."""
    reader, found = outcomes(tmp_path)
    bus, topics = MemoryBus(), topics_of(PRESS)
    for spec in topics.all():
        bus.create(spec.name, 2)
    names = {"predicted": topics.predictions, "late": topics.late, "dead": topics.deadletter}
    for outcome, spec in names.items():
        rows = [(None, value, ()) for value in found[outcome]]
        await bus.append(spec.name, 1, rows[1:])
    missing = await check(bus, PRESS, reader, patience_s=0.5)
    for outcome, spec in names.items():
        await bus.append(spec.name, 0, [(None, found[outcome][0], ())])
    whole = await check(bus, PRESS, reader, patience_s=30.0)

    assert len(missing.wrong()) == 3
    assert whole.report()["wrong"] == 0


async def test_another_pipelines_ledger_is_refused(tmp_path: Path) -> None:
    """The topics of a pipeline that was not fed would say that all is lost."""
    reader, _ = outcomes(tmp_path)
    hosts = load_pipeline(pipeline_file("hosts"))
    with pytest.raises(SettingsError, match="name the pipeline that was fed"):
        await check(MemoryBus(), hosts, reader, patience_s=1.0)
    unknown = msgspec.structs.replace(
        PRESS, input=msgspec.structs.replace(PRESS.input, id="")
    )  # fmt: skip
    with pytest.raises(SettingsError, match="no event id"):
        await check(MemoryBus(), unknown, reader, patience_s=1.0)
