"""`headrace produce file` on a bus: whole, stopped and resumed, at a speed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.cli.context import pipeline_file

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
DEADLINE_S = 60.0


class Site:
    """A pipeline of its own name on the running bus."""

    def __init__(self, folder: Path, bus_url: str, name: str) -> None:
        text = pipeline_file("press").read_text().replace('name = "press"', f'name = "{name}"', 1)
        self.file = folder / "pipeline.toml"
        self.file.write_text(text)
        self.folder, self.pipeline = folder, load_pipeline(self.file)
        self.options = client_options(BusSettings(url=bus_url))
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self.environ = {**own, "HEADRACE_BUS": bus_url}

    def start(self, *args: str) -> subprocess.Popen[str]:
        """`headrace produce file` with these arguments."""
        command = [*HEADRACE, "produce", "file", *args, "--pipeline", str(self.file), "--json"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environ, cwd=self.folder,
        )  # fmt: skip

    def run(self, *args: str) -> tuple[dict, str]:
        """The same to its end: its JSON object, and what it said on standard error."""
        with self.start(*args) as process:
            said, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, errors
        return json.loads(said.splitlines()[-1]), errors

    async def numbers(self) -> list[int]:
        """The ``seq`` of every event on the topic, in each partition's order."""
        topic, found = topics_of(self.pipeline).telemetry.name, []
        for partition, (begin, end) in (await log_ranges(self.options, topic)).items():
            async for batch in read_range(self.options, topic, partition, begin, end):
                found += [json.loads(value or b"")["seq"] for value in batch.values]
        return found


@pytest.fixture
async def site(tmp_path: Path, bus_url: str, unique: Callable[[str], str]) -> Site:
    """A site on each bus in turn, its topics made."""
    made = Site(tmp_path, bus_url, unique("replay"))
    await ensure_topics(made.options, topics_of(made.pipeline).all())
    return made


def lines(pipeline: Pipeline, count: int, *, step_ms: int) -> str:
    """Events of one device, that far apart."""
    metrics = json.dumps(dict.fromkeys(pipeline.input.metrics, 1.0))
    return "".join(
        f'{{"device_id":"a","time":"2026-11-21T10:{n * step_ms // 60_000:02}:'
        f'{n * step_ms % 60_000 / 1000:06.3f}Z","id":"e{n}","seq":{n},"metrics":{metrics}}}\n'
        for n in range(count)
    )


async def test_a_csv_arrives_as_events(site: Site) -> None:
    """Rows become events that the pipeline would take; a bad row is named by its number."""
    names = list(site.pipeline.input.metrics)
    (site.folder / "e.csv").write_text(
        ",".join(["device_id", "time", "id", "seq", *names])
        + "\n"
        + "".join(f"a,2026-11-21T10:00:0{n}Z,e{n},{n}{',1.0' * len(names)}\n" for n in range(9))
        + "a,too,few\n"
    )

    done, errors = site.run("e.csv", "--strict", "--shift-to-now")

    assert (done["sent"], done["bad"], done["left_out"]) == (9, 1, 1)
    fault = f"has 3 fields, expected {4 + len(names)}"
    assert done["bad_rows"] == [{"number": 11, "fault": fault}]
    assert f"row 11 {fault}" in errors
    assert sorted(map(int, await site.numbers())) == list(range(9))


async def test_a_signal_stops_it_and_it_goes_on(site: Site) -> None:
    """SIGINT ends it in order with its place kept; the next run sends the rest, nothing twice."""
    (site.folder / "e.ndjson").write_text(lines(site.pipeline, 4000, step_ms=10))
    arguments = ("e.ndjson", "--position", "e.place")
    with site.start(*arguments, "--speed", "10x") as process:
        place, give_up = site.folder / "e.place", time.monotonic() + DEADLINE_S
        while not (place.exists() and json.loads(place.read_text())["number"] >= 500):
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    first = json.loads(said.splitlines()[-1])
    assert first["stopped"]
    assert 500 <= first["sent"] < 4000

    second, _ = site.run(*arguments)
    third, _ = site.run(*arguments)

    assert (first["sent"] + second["sent"], second["last_row"], third["sent"]) == (4000, 4000, 0)
    assert await site.numbers() == list(range(4000))


async def test_a_killed_replay_loses_nothing(site: Site) -> None:
    """After SIGKILL the next run goes on at or before the first row that is not there."""
    (site.folder / "e.ndjson").write_text(lines(site.pipeline, 4000, step_ms=10))
    arguments = ("e.ndjson", "--position", "e.place")
    with site.start(*arguments, "--speed", "10x") as process:
        place, give_up = site.folder / "e.place", time.monotonic() + DEADLINE_S
        while not (place.exists() and json.loads(place.read_text())["number"] >= 500):
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        process.kill()

    site.run(*arguments)

    numbers = await site.numbers()
    assert sorted(set(numbers)) == list(range(4000))
    # What is there twice is one stretch, sent between the last saved place and the kill.
    again = [n for place, n in enumerate(numbers) if place and n <= numbers[place - 1]]
    assert len(again) <= 1
