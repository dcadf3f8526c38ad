"""`headrace drill` on a Kafka and a store of its own: short, and everything at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from headrace.streams.drill.kinds import KINDS, TRAITS
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
    assert found["account"]["predicted"] > 0
    assert found["account"]["in"] * 2 == sum(found["account"].values())
    assert found["breaches"] == found["left_out"] == []
    assert list((tmp_path / "run").glob("drill-*")) == []


GROUPS = {
    "network": ["bus-cut", "bus-half-open", "bus-slow", "store-cut", "store-half-open"],
    "services": ["bus-pause", "bus-disk-full", "store-pause", "store-disk-full", "store-slow"],
    "store": ["store-read-only", "store-out-of-memory", "store-stale", "group-deleted", "stop"],
    "model and input": [kind for kind in KINDS if kind.startswith(("model", "clock", "input"))],
    "another log": [kind for kind in KINDS if TRAITS[kind].on == "log"],
}


@pytest.mark.parametrize("mode", ["default", "exactly-once"])
@pytest.mark.parametrize("group", GROUPS)
def test_every_fault_is_survived(group, mode, tmp_path) -> None:
    """In both modes: nothing lost, doubled or different, and caught up without a manual step."""
    done = drilled(
        "press", "--mode", mode, "--seconds", "1", "--seed", "5", "--rate", "300",
        "--faults", ",".join(GROUPS[group]), HEADRACE_WORKER_DATA_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    assert found["mode"] == {"default": "at-least-once"}.get(mode, mode)
    assert [found[name] for name in ("lost", "doubled", "differing", "out_of_order")] == [0] * 4
    assert found["repeated"] == 0 or mode == "default"
    assert all(fault["recovered_s"] > 0 for fault in found["faults"])
    assert all("a mount namespace of its own was refused" in why for why in found["left_out"])
    assert len(found["faults"]) + len(found["left_out"]) == len(GROUPS[group])
    assert found["account"]["in"] * 2 == sum(found["account"].values())
    assert (found["account"]["refused"] > 0) == ("model-raises" in GROUPS[group])


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


def test_an_interrupted_drill_leaves_nothing(tmp_path) -> None:
    """SIGINT under load: exit code 130; workers, broker, store and folder are gone."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    places = {"HEADRACE_WORKER_DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [*DRILL, "press", "--faults", "kill", "--kills", "2", "--seconds", "300"]
    with subprocess.Popen(command, env={**own, **places}, stdout=subprocess.PIPE) as drill:
        assert drill.stdout is not None
        assert drill.stdout.readline().startswith(b"drilling ")
        known = until_children(psutil.Process(drill.pid), 4)
        drill.send_signal(signal.SIGINT)
        assert drill.wait(timeout=60) == 130
    _, left = psutil.wait_procs(known, timeout=10)

    assert left == []
    assert list((tmp_path / "run").glob("drill-*")) == []


def until_children(process: psutil.Process, count: int) -> list[psutil.Process]:
    """Broker, store and a worker of each stage, once they are there."""
    give_up = time.monotonic() + 60
    while len(found := process.children(recursive=True)) < count:
        assert time.monotonic() < give_up, found
        time.sleep(0.05)
    return found
