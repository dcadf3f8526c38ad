"""The commands against running services, as an operator runs them."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from headrace.feature_store.open import open_store
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.protocols import OnlineRows
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.options import client_options
from headrace.streams.cli.context import pipeline_file
from headrace.streams.client.kafka_bus import KafkaBus

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
DEADLINE_S = 60.0


class Site:
    """A pipeline of its own name on the running bus, and the environment that names both."""

    def __init__(self, folder: Path, bus_url: str, store_url: str, name: str) -> None:
        text = pipeline_file("hosts").read_text().replace('name = "hosts"', f'name = "{name}"', 1)
        self.file = folder / "pipeline.toml"
        self.file.write_text(text)
        self.folder, self.pipeline = folder, load_pipeline(self.file)
        self.topics = topics_of(self.pipeline)
        self.bus, self.store_url = BusSettings(url=bus_url), store_url
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self.environ = {**own, "HEADRACE_BUS": bus_url, "HEADRACE_STORE": store_url}

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            [*HEADRACE, *args],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=self.environ,
            cwd=self.folder,
        )

    def json(self, *args: str) -> dict:
        """The last line of a command that succeeds, as JSON."""
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, *args: str) -> subprocess.Popen[str]:
        """One command that goes on."""
        return subprocess.Popen(
            [*HEADRACE, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
            cwd=self.folder,
        )

    async def put(self, topic: str, values: list[bytes], headers=()) -> None:
        """Records straight onto a topic's first partition."""
        writer = KafkaBus(client_options(self.bus)).writer(topic)
        await writer.start()
        try:
            await writer.write(0, [None] * len(values), values, [headers] * len(values))
        finally:
            await writer.stop()


@pytest.fixture
def site(tmp_path, bus_url, store_url, unique) -> Site:
    """A site on each bus in turn."""
    return Site(tmp_path, bus_url, store_url, unique("press"))


def prediction(offset: int) -> bytes:
    """One prediction as a worker publishes it."""
    times = {"device": 0, "ingest": offset, "served": 0}
    model = {"name": "m", "version": 1, "digest": "9f2c41d0"}
    return json.dumps(
        {
            "id": str(offset), "rev": 0, "event_id": "e", "device_id": "cpu-0",
            "event_time": "2026-11-21T10:00:00.000Z", "score": 0.25, "label": "normal",
            "confidence": 0.5, "tier": "light", "flags": [], "feature_age_ms": 0, "model": model,
            "source": f"t[0]@{offset}", "times_ms": times,
        }
    ).encode()  # fmt: skip


def test_topics_are_planned_made_once_and_described(site):
    """`plan` changes nothing, `apply` makes what is missing, and again nothing."""
    file = str(site.file)
    names = {spec.name for spec in site.topics.all()}
    assert set(site.json("topics", "plan", file)["plan"].values()) == {"create"}
    assert site.run("topics", "describe", file).returncode == 2
    assert set(site.json("topics", "apply", file)["created"]) == names
    assert site.json("topics", "apply", file)["created"] == []
    assert set(site.json("topics", "plan", file)["plan"].values()) == {"keep"}
    assert names <= set(site.json("topics", "list")["topics"])
    facts = site.json("topics", "describe", file)["topics"]
    assert all(fact["partitions"] == fact["partitions_found"] for fact in facts)


def test_a_file_is_produced_whole(site):
    """Every line of a file arrives as it is, also one that is no event; --strict leaves it out."""
    site.json("topics", "apply", str(site.file))
    lines = [b'{"device_id":"cpu-%d"}' % (n % 3) for n in range(250)]
    (site.folder / "events.ndjson").write_bytes(b"\n".join([*lines, b"no json", b""]))
    arguments = ("produce", "file", "events.ndjson", "--pipeline", str(site.file))

    assert site.json(*arguments)["sent"] == 251

    strict = site.json(*arguments, "--strict")
    assert (strict["sent"], strict["bad"], strict["left_out"]) == (0, 251, 251)
    assert strict["bad_rows"][0] == {"number": 251, "fault": "is no JSON object"}
    assert strict["bad_rows"][1]["number"] == 1
    assert strict["bad_rows"][1]["fault"].startswith("would be refused: ")


def test_this_machine_is_produced(site):
    """`produce host` sends this machine's telemetry, and every event passes the contract."""
    pytest.importorskip("psutil")
    site.json("topics", "apply", str(site.file))
    arguments = ("produce", "host", "--pipeline", str(site.file), "--seconds", "1", "--strict")

    assert site.json(*arguments)["sent"] > 0


async def test_predictions_are_consumed_once_and_counted(site):
    """Predictions are one line each, repeats are dropped, and the last line has the totals."""
    site.json("topics", "apply", str(site.file))
    await site.put(site.topics.predictions.name, [prediction(n) for n in (0, 1, 2, 1, 2, 3)])
    arguments = ("consume", str(site.file), "--from", "earliest", "--no-follow")

    done = site.run(*arguments, "--json")

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["source"] for row in rows[:-1]] == [f"t[0]@{n}" for n in range(4)]
    assert (rows[-1]["delivered"], rows[-1]["repeats"]) == (4, 2)
    assert rows[-1]["latency_p99_ms"] > 0
    assert site.run(*arguments).stdout.count("0.2500 normal") == 4


async def test_dead_letters_are_listed_without_their_content(site):
    """A dead letter's code and place are shown; its bytes only when asked for."""
    site.json("topics", "apply", str(site.file))
    headers = [
        ("code", b"json.invalid"), ("source", b"t[0]@7"), ("stage", b"enrich"),
        ("attempt", b"1"), ("pipeline", b"press@0"), ("first_seen", b"1000"),
    ]  # fmt: skip
    await site.put(site.topics.deadletter.name, [b"secret"], headers)
    arguments = ("consume", str(site.file), "--deadletter", "--from", "earliest", "--no-follow")

    plain, raw = site.run(*arguments), site.run(*arguments, "--raw")

    assert "json.invalid  t[0]@7  enrich" in plain.stdout
    assert "secret" not in plain.stdout
    assert "secret" in raw.stdout


async def test_summaries_are_listed_once(site):
    """Summaries are one line each; a repeat to the letter is dropped."""
    site.json("topics", "apply", str(site.file))
    moments = {"count": 2, "mean": 0.5, "m2": 0.0, "min": 0.5, "max": 0.5}
    summary = {
        "pipeline": "press", "pipeline_digest": "0" * 16, "window_start_ms": 0,
        "window_end_ms": 10_000, "group": "core", "rows": 2, "anomalies": 1,
        "devices": 1, "suppressed": False, "score": moments, "metrics": {}, "top": [],
        "models": {},
    }  # fmt: skip
    other = {**summary, "group": "disk"}
    rows = (summary, other, summary, {**other, "rev": 1})
    values = [json.dumps(row).encode() for row in rows]
    await site.put(site.topics.summaries.name, values)

    done = site.run("consume", str(site.file), "--summaries", "--from", "earliest", "--no-follow")

    assert done.stdout.splitlines() == [
        "0-10000  core  2 rows  1 devices  1 anomalies",
        "0-10000  disk  2 rows  1 devices  1 anomalies",
        "0-10000  disk  2 rows  1 devices  1 anomalies  amended",
    ]


async def test_features_of_an_entity_are_read(site):
    """Names, values and age of what the store holds; nothing for an entity it does not know."""
    names = [c.name for c in site.pipeline.columns()][:5]
    store = await open_store(StoreSettings(url=site.store_url), site.pipeline.name)
    try:
        now_ms = round(time.time() * 1000)  # noqa: TID251  # the store's rows age by the clock
        rows = OnlineRows(
            "now", ["cpu-0"], np.array([now_ms]), np.array([7]), np.arange(5.0).reshape(1, 5)
        )
        await store.write_rows(rows, epoch=0, ttl_s=60.0)
    finally:
        await store.close()

    found = site.json("features", "get", "cpu-0", "cpu-9", "--pipeline", str(site.file))

    assert found["cpu-0"]["now"]["values"] == dict(zip(names, map(float, range(5)), strict=True))
    assert 0 <= found["cpu-0"]["now"]["age_ms"] < 30_000
    assert found["cpu-9"]["now"] is None


def test_doctor_sees_bus_topics_and_store(site):
    """With services running the doctor speaks of each, and of topics before and after apply."""
    for name in ("model.onnx", "golden.json"):
        shutil.copy(pipeline_file("hosts").parent / name, site.folder / name)
    checks = {c["subject"]: c for c in site.json("doctor", str(site.file))["checks"]}
    telemetry = f"topic {site.topics.telemetry.name}"
    assert checks["bus"]["level"] == "ok"
    assert "answers in" in checks["bus"]["found"]
    assert checks["delivery"] == {
        "level": "ok",
        "subject": "delivery",
        "found": "the bus can keep 'at-least-once'",
    }
    assert checks[telemetry]["level"] == "warn"
    site.json("topics", "apply", str(site.file))
    checks = {c["subject"]: c for c in site.json("doctor", str(site.file))["checks"]}
    assert checks[telemetry]["level"] == "ok"


def test_a_signal_ends_consume_in_order(site):
    """SIGINT ends a waiting consumer at once, with totals and exit code 0."""
    site.json("topics", "apply", str(site.file))
    running = site.start("consume", str(site.file), "--from", "earliest", "--json")
    try:
        give_up = time.monotonic() + DEADLINE_S
        while not minds(running.pid, signal.SIGTERM):
            assert time.monotonic() < give_up
            time.sleep(0.02)
        ready = select.select([running.stdout], [], [], 0.5)  # nothing comes: it waits
        assert not ready[0]
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=DEADLINE_S)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["delivered"] == 0


def minds(pid: int, number: int) -> bool:
    """Whether a process has set what it does at a signal; taken for so where nobody tells."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return True
    [caught] = re.findall(r"^SigCgt:\s*(\w+)", status.read_text("ascii"), re.MULTILINE)
    return bool(int(caught, 16) >> number - 1 & 1)


def test_kafka_runs_until_told_and_keeps_its_place(tmp_path, kafka_url):
    """`headrace kafka` prints the URL to use and ends on SIGTERM."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    with subprocess.Popen(
        [*HEADRACE, "kafka", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**own, "HEADRACE_WORKER_DATA_DIR": str(tmp_path)},
    ) as running:
        try:
            assert select.select([running.stdout], [], [], DEADLINE_S)[0]
            said = json.loads(running.stdout.readline())
            assert said["url"].startswith("kafka://127.0.0.1:")
            running.send_signal(signal.SIGTERM)
            assert running.wait(timeout=DEADLINE_S) == 0
        finally:
            running.kill()
