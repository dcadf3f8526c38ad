"""`headrace drill` on a Kafka and a store of its own: short, and everything at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from headrace.streams.drill.schedule import make_plan
from headrace.streams.local.local_kafka import LocalKafka

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not LocalKafka.installed(), reason="Apache Kafka is not installed"),
]

DRILL = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()", "drill"]


def drilled(*args: str, **places: str) -> subprocess.CompletedProcess[str]:
    """The command, without this machine's settings."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    return subprocess.run(
        [*DRILL, *args, "--json"],
        env={**own, **places},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_short_drill_finds_nothing(tmp_path) -> None:
    """Broker, store and a worker killed under load: exit code 0, every number 0, all caught up."""
    faults = ["kill", "bus-restart", "store-restart", "store-lost"]
    done = drilled(
        "press", "--kills", "2", "--seconds", "5", "--seed", "4", "--faults", ",".join(faults),
        HEADRACE_WORKER_DATA_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    plan = make_plan(4, faults, kills=2)

    assert [found[name] for name in ("lost", "doubled", "differing", "out_of_order")] == [0] * 4
    assert found["kills"] == plan.kills().total()
    assert [f["kind"] for f in found["faults"]] == [fault.kind for fault in plan.faults]
    assert all(fault["reached"] and fault["recovered_s"] > 0 for fault in found["faults"])
    assert found["predictions"] > 0
    assert found["breaches"] == found["left_out"] == []
    assert list((tmp_path / "run").glob("drill-*")) == []


def test_given_services_are_not_struck(tmp_path, kafka_url, store_url) -> None:
    """With --yes it runs there, and leaves out what would strike them, with a line each."""
    done = drilled(
        "press", "--kills", "1", "--seconds", "1", "--faults", "kill,bus-restart,store-lost",
        "--yes", HEADRACE_BUS=kafka_url, HEADRACE_STORE=store_url,
        HEADRACE_WORKER_DATA_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    assert [fault["kind"] for fault in found["faults"]] == ["kill"]
    assert len(found["left_out"]) == 2
    assert all(line in done.stdout for line in found["left_out"])
