"""A worker that is told to hold connects, and joins its group at the next line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.cli.context import pipeline_file
from headrace.streams.sites.positions import settle_positions
from headrace.streams.workers.jobs import Endpoints, Status

ENDS_S = 20.0
LOOKS = 8
"""Status lines of a worker that holds: 0.4 s, in which it would have joined."""


@pytest.fixture
async def told(
    tmp_path: Path, tansu_url: str, store_url: str, unique: Callable[[str], str]
) -> tuple[Path, bytes]:
    """A pipeline file whose topics are there, and the line that says where."""
    example = pipeline_file("hosts")
    file = tmp_path / "hosts.toml"
    text = example.read_text("utf-8")
    file.write_text(text.replace('name = "hosts"', f'name = "{unique("hosts")}"', 1), "utf-8")
    shutil.copy(example.parent / "model.onnx", tmp_path)
    bus = BusSettings(url=tansu_url)
    pipeline, options = load_pipeline(file), client_options(bus)
    topics = topics_of(pipeline)
    await ensure_topics(options, topics.all())
    await settle_positions(pipeline, topics, ["enrich"], options, None, start=None)
    where = Endpoints(bus=bus, store=StoreSettings(url=store_url), embedded=True, hold=True)
    return file, msgspec.json.encode(where) + b"\n"


@contextmanager
def worker(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """ENRICH of a pipeline; killed at the end."""
    command = [sys.executable, "-m", "headrace.streams.workers.worker", "enrich", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[bytes]) -> Status:
    assert process.stdout is not None
    return msgspec.json.decode(process.stdout.readline(), type=Status)


def joins_and_ends(process: subprocess.Popen[bytes]) -> None:
    """It gets ready, and leaves in order at its input's end."""
    assert process.stdin is not None
    while not says(process).ready:
        pass
    process.stdin.close()
    assert process.wait(ENDS_S) == 0


def test_it_joins_at_the_next_line(told: tuple[Path, bytes]) -> None:
    file, where = told
    with worker(file) as process:
        assert process.stdin is not None
        process.stdin.write(where)
        process.stdin.flush()
        assert [says(process).held_limit_bytes for _ in range(LOOKS)] == [0] * LOOKS

        process.stdin.write(b"\n")
        process.stdin.flush()
        joins_and_ends(process)


def test_it_joins_where_both_lines_come_at_once(told: tuple[Path, bytes]) -> None:
    """It was late: the second line was lost to the buffer in which the first was looked for."""
    file, where = told
    with worker(file) as process:
        assert process.stdin is not None
        process.stdin.write(where + b"\n")
        process.stdin.flush()
        joins_and_ends(process)


def test_it_ends_with_its_supervisor_while_it_holds(told: tuple[Path, bytes]) -> None:
    file, where = told
    with worker(file) as process:
        assert process.stdin is not None
        process.stdin.write(where)
        process.stdin.flush()
        says(process)
        process.stdin.close()
        assert process.wait(ENDS_S) == 0
