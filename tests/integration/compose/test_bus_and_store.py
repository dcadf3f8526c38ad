"""Kafka and Redis take the configuration files of compose/, and Headrace takes them so."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from fakes.ports import free_port
from fakes.services import without
from integration.compose.fetched import COMPOSE
from integration.setup.command import Setup

from headrace.streams.local.kafka_config import java_command
from headrace.streams.local.kafka_jars import jars, known_java
from headrace.streams.local.probes import bus_answers
from headrace.streams.local.programs import store_program

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

WAIT_S = 60.0


@contextmanager
def started(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """A program that runs until the block ends, and is ready before it begins."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent)
        try:
            give_up_s = time.monotonic() + WAIT_S
            while not ready():
                assert process.poll() is None, log.read_text("utf-8")[-2000:]
                assert time.monotonic() < give_up_s, log.read_text("utf-8")[-2000:]
                time.sleep(0.05)
            yield
        finally:
            process.kill()
            process.wait()


def kafka_file(folder: Path, port: int) -> Path:
    """The broker's file; only names and ports of the container's network and its folder differ."""
    inside, controller = free_port(), free_port()
    text = (COMPOSE / "kafka/server.properties").read_text("utf-8")
    for old, new in (
        ("//:9092", f"//127.0.0.1:{port}"),
        ("//127.0.0.1:9092", f"//127.0.0.1:{port}"),
        ("//kafka:19092", f"//127.0.0.1:{inside}"),
        ("//:19092", f"//127.0.0.1:{inside}"),
        ("@kafka:29093", f"@127.0.0.1:{controller}"),
        ("//:29093", f"//127.0.0.1:{controller}"),
        ("/var/lib/kafka/data", str(folder / "kafka")),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "server.properties").write_text(text, "utf-8")
    return folder / "server.properties"


@contextmanager
def kafka(folder: Path, port: int) -> Iterator[None]:
    """Apache Kafka from its jars: storage formatted as the image does it, then the broker."""
    if not jars():
        without("Apache Kafka's jars are missing; fetch them with: headrace kafka --install")
    file, java = kafka_file(folder, port), java_command(known_java(), heap_mb=256)
    cluster = uuid.uuid4().hex[:22]
    tool = [*java, "kafka.tools.StorageTool", "format", "--config", str(file)]
    subprocess.run([*tool, f"--cluster-id={cluster}"], check=True, capture_output=True)

    def ready() -> bool:
        with suppress(OSError, EOFError):
            return asyncio.run(bus_answers(port, cluster))
        return False

    with started([*java, "kafka.Kafka", str(file)], folder / "kafka.log", ready):
        yield


@contextmanager
def redis(folder: Path, port: int) -> Iterator[None]:
    """A Redis-compatible server with the file of compose/, on another port."""
    shutil.copy(COMPOSE / "redis/redis.conf", folder)
    words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command = [str(store_program()), str(folder / "redis.conf"), *words]
    log = folder / "redis.log"
    with started(command, log, lambda: "Ready to accept connections" in log.read_text("utf-8")):
        yield


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    """A set-up whose settings lead to both."""
    made = Setup.of_hosts(tmp_path)
    bus, store = free_port(), free_port()
    with ExitStack() as services:
        services.enter_context(redis(tmp_path, store))
        services.enter_context(kafka(tmp_path, bus))
        made.environ["HEADRACE_BUS"] = f"kafka://127.0.0.1:{bus}"
        made.environ["HEADRACE_STORE"] = f"redis://127.0.0.1:{store}/0"
        yield made


def test_headrace_finds_nothing_wrong_with_them(setup: Setup) -> None:
    """Topics are made with their limits, and `doctor` has no word against bus or store."""
    applied = setup.run("topics", "apply", str(setup.file))
    said = setup.run("doctor", str(setup.file))

    assert applied.code == 0, applied
    assert said.code == 0, said
    assert re.search(r"\b(warn|fail|bad)", said.out, re.IGNORECASE) is None, said.out
    kept = list((setup.root / "appendonlydir").iterdir())
    assert kept, "the store keeps nothing over a restart"
