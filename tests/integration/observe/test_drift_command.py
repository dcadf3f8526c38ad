"""`headrace observe drift` on a log: the same as was told, and a difference is named."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner, Result
from fakes.drift_log import PARTS, WINDOW_S, WINDOWS, flow, lived, log

from headrace.schemas.errors import SettingsError
from headrace.schemas.observe import Observe
from headrace.schemas.observed import Finding, ObservedRecord
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.cli import observe_drift
from headrace.streams.client.kafka_bus import KafkaBus

SEED = 3
END = datetime.fromtimestamp(WINDOWS * WINDOW_S, UTC).isoformat()


@pytest.fixture
def spec(unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline that the command is asked about; its features come on as many partitions."""
    made = msgspec.structs.replace(flow(1), name=unique("press"))
    monkeypatch.setattr(observe_drift, "load_pipeline", lambda _: made)
    return made


def asked() -> Result:
    """The command over the whole log."""
    words = ["--from", "1970-01-01T00:00:00Z", "--to", END, "--json"]
    return CliRunner().invoke(observe_drift.drift, words, catch_exceptions=False)


async def laid(url: str, spec: Pipeline) -> list[Finding]:
    """Write the log, and what `up` told of it."""
    logs = {part: log(SEED, part) for part in PARTS}
    found, _, predictions = await lived(spec, logs, [])
    topics = topics_of(spec)
    options = client_options(BusSettings(url=url))
    await ensure_topics(options, [topics.features, topics.predictions, topics.observed])
    for part in PARTS:
        blocks = [block.encode() for block in logs[part]]
        await write(url, topics.features.name, part, blocks)
        await write(url, topics.predictions.name, part, predictions[part])
    await tell(url, spec, found)
    return found


async def tell(url: str, spec: Pipeline, found: list[Finding], number: int = 0) -> None:
    """Write a record of the history."""
    record = ObservedRecord(
        pipeline=spec.name, pipeline_digest="d" * 16, teller="0" * 16, life="1" * 16,
        number=number, at_ms=0, seconds=60.0, drift=tuple(found),
    )  # fmt: skip
    await write(url, topics_of(spec).observed.name, 0, [msgspec.json.encode(record)])


async def write(url: str, topic: str, part: int, values: list[bytes]) -> None:
    """Write records without keys."""
    writer = KafkaBus(client_options(BusSettings(url=url))).writer(topic)
    await writer.start()
    await writer.write(part, [None] * len(values), values, [()] * len(values))
    await writer.stop()


def test_it_says_whether_up_told_the_same(
    tansu_url: str, spec: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every finding, equal, exit code 0; then one was told otherwise: named as not, exit code 1."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADRACE_BUS", tansu_url)
    found = asyncio.run(laid(tansu_url, spec))
    assert any(one.alarm for one in found)

    done = asked()

    assert done.exit_code == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [msgspec.convert(line, Finding) for line in lines] == found
    count = len(found)
    assert f"{count} indicators; of those that up told of, {count} are the same" in done.stderr

    other = msgspec.structs.replace(found[-1], value=found[-1].value + 1e-9)
    asyncio.run(tell(tansu_url, spec, [other], number=1))
    done = asked()
    assert done.exit_code == 1
    assert f"{count - 1} are the same and 1 are not" in done.stderr


def test_a_pipeline_that_looks_for_no_drift_is_refused(
    spec: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that names the table of the file."""
    blind = msgspec.structs.replace(spec, observe=Observe())
    monkeypatch.setattr(observe_drift, "load_pipeline", lambda _: blind)
    with pytest.raises(SettingsError, match=r"expected an \[observe.drift\] in its file"):
        asked()
