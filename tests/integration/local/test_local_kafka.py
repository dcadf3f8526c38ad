"""A local Apache Kafka: quick to start, durable where kept, shared by one user's processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer

from headrace.schemas.errors import LocalServiceError, MissingExtraError
from headrace.schemas.settings import BusSettings, Settings, WorkerSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus import admin, reads
from headrace.streams.bus.options import client_options
from headrace.streams.local import kafka_jars
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.kafka_install import install_kafka
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.local.probes import GROUP, TRANSACTION, coordinator_answers
from headrace.streams.local.services import open_bus

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

TOPIC = TopicSpec("kept", "telemetry", 1, 3_600_000, "raw", ours=True)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not LocalKafka.installed():
        pytest.skip("Apache Kafka is not installed; run `headrace kafka`")


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    """A running Kafka whose data stays in ``tmp_path/kafka``."""
    broker = LocalKafka(tmp_path / "kafka")
    await broker.start()
    yield broker
    await broker.stop()


async def put(url: str, value: bytes) -> None:
    options = client_options(BusSettings(url=url))
    await admin.ensure_topics(options, [TOPIC])
    async with AIOKafkaProducer(**options, acks="all") as producer:
        await producer.send_and_wait(TOPIC.name, value, partition=0)


async def got(url: str) -> list[bytes | None]:
    options = client_options(BusSettings(url=url))
    _, end = await reads.log_range(options, TOPIC.name, 0)
    batches = reads.read_range(options, TOPIC.name, 0, 0, end)
    return [value async for batch in batches for value in batch.values]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_data_outlives_the_broker(kept: LocalKafka, tmp_path: Path, how: str) -> None:
    """Acknowledged records are there after a stop and after a crash, on the same port."""
    await put(kept.url, b"before")
    if how == "stop":
        await kept.stop()
    else:
        kept.service.kill()
        await kept.stop()
    again = LocalKafka(tmp_path / "kafka")
    try:
        assert await again.start() == kept.url
        assert await got(again.url) == [b"before"]
    finally:
        await again.stop()


async def test_a_second_user_shares_the_broker(kept: LocalKafka, tmp_path: Path) -> None:
    """The same folder twice is one broker, which the second user's stop leaves running."""
    second = LocalKafka(tmp_path / "kafka")
    assert (await second.start(), second.shared) == (kept.url, True)
    second.check()
    await second.stop()
    kept.check()
    settings = Settings(
        bus=BusSettings(kind="kafka"), worker=WorkerSettings(data_dir=str(tmp_path))
    )
    opened = await open_bus(settings)
    assert (opened.url, opened.kind) == (kept.url, "kafka")
    await opened.stop()
    await kept.stop()
    with pytest.raises(LocalServiceError, match=r"shared Kafka on port .* ended"):
        second.check()


async def test_coordinators_are_there_from_the_start(kept: LocalKafka) -> None:
    """Prepared storage holds the internal topics: the first group waits for nothing."""
    assert await coordinator_answers(kept.port, GROUP)
    assert await coordinator_answers(kept.port, TRANSACTION)


async def test_two_new_brokers_are_two_clusters(kept: LocalKafka, tmp_path: Path) -> None:
    """Storage that is copied gets an id of its own: nobody takes one broker for another."""
    other = LocalKafka(base=tmp_path)
    await other.start()
    try:
        note = json.loads((tmp_path / "kafka" / "service.json").read_text())
        path = next((tmp_path / "run").glob("kafka-*/service.json"))
        assert json.loads(path.read_text())["cluster"] != note["cluster"]
        assert other.port != kept.port
    finally:
        await other.stop()


async def test_a_broker_that_cannot_start_tells_why(tmp_path: Path) -> None:
    """A property that Kafka refuses ends in one line with Kafka's own reason."""
    broken = LocalKafka(
        base=tmp_path, options=KafkaOptions(properties={"num.network.threads": "none"})
    )
    with pytest.raises(LocalServiceError, match=r"local Kafka ended with code 1; .*none") as caught:
        await broken.start()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").glob("kafka-*")) == []


async def test_start_is_quick(tmp_path: Path) -> None:
    """An installed Kafka answers after little work: two cores have 3 s for the first prediction."""
    broker = LocalKafka(base=tmp_path)
    await broker.start()
    used = psutil.Process(broker.service.pid).cpu_times()
    await broker.stop()
    assert used.user + used.system < 3.5  # 1.6 s on an idle machine, 2.2 s on a busy one


async def test_installing_again_changes_nothing() -> None:
    """What is installed is left as it is, and said."""
    said: list[str] = []
    await install_kafka(said.append)
    assert len(said) == 1
    assert "Apache Kafka is in" in said[0]


async def test_without_jars_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Kafka that is not installed names the command that fetches it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(LocalServiceError, match="fetch it with `headrace kafka`"):
        await LocalKafka(tmp_path / "kafka").start()


async def test_without_maven_and_jgo_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to fetch jars with names the extra; nothing is left behind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kafka_jars.shutil, "which", lambda _: None)
    monkeypatch.setattr(kafka_jars.importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingExtraError, match=r"headrace\[kafka\]"):
        await install_kafka(lambda _: None)
    with pytest.raises(MissingExtraError, match="Java 17 or newer"):
        kafka_jars.find_java()
    assert not (tmp_path / "headrace").exists()


async def test_a_fetch_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maven's complaint is passed on in one line; no half-fetched jars remain."""
    fake = tmp_path / "mvn"
    fake.write_text("#!/bin/sh\necho '[ERROR] no route to the mirror'\necho more\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kafka_jars.shutil, "which", lambda _: str(fake))
    with pytest.raises(LocalServiceError, match="no route to the mirror") as caught:
        await install_kafka(lambda _: None)
    assert "\n" not in str(caught.value)
    assert list(kafka_jars.home().iterdir()) == []


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "17.0.15"),
        ('openjdk version "25" 2026-09-15', "25"),
        ('java version "1.8.0_202"', "1.8.0"),
        ("no java here", None),
    ],
)
def test_java_versions_are_read(tmp_path: Path, said: str, version: str | None) -> None:
    """Old and new ways to write a version are understood; anything else is no Java."""
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    assert kafka_jars._java_version(java) == version


async def test_starting_at_once_is_one_broker(tmp_path: Path) -> None:
    """Two that start in one folder at the same moment end with one broker."""
    pair = [LocalKafka(tmp_path / "kafka") for _ in range(2)]
    urls = await asyncio.gather(*(broker.start() for broker in pair))
    try:
        assert urls[0] == urls[1]
        assert sorted(broker.shared for broker in pair) == [False, True]
    finally:
        await asyncio.gather(*(broker.stop() for broker in pair))


@pytest.mark.slow
async def test_installing_prepares_quick_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the jars alone an installation makes a class archive, and storage with its topics."""
    fetched = kafka_jars.home() / "jars"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kafka_jars.home().mkdir(parents=True)
    (kafka_jars.home() / "jars").symlink_to(fetched)
    said: list[str] = []
    await install_kafka(said.append)
    assert len(said) == 2
    (archive,) = kafka_jars.home().glob("classes-*.jsa")
    assert archive.stat().st_size > 1 << 20
    names = {path.name for path in (kafka_jars.home() / "template").iterdir()}
    assert {"__consumer_offsets-0", "__transaction_state-0", "meta.properties"} <= names
    assert ".lock" not in names
    assert list((kafka_jars.home() / "run").glob("prepare-*")) == []
    await install_kafka(said.append)
    assert len(said) == 3  # nothing was done again
