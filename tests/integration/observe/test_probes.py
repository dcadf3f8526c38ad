"""Probes through a running `up`: answered, counted apart, and seen by nobody."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.health.probing import Site
from integration.setup.command import Setup

from headrace.schemas.pipeline import load_pipeline

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="its processes are found in /proc"),
]


@pytest.fixture(params=["embedded", "kafka"])
def setup(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> Setup:
    """As it comes; and on a real Kafka, exactly-once, rekeyed."""
    made = Setup.of_hosts(tmp_path)
    made.environ["HEADRACE_HEALTH"] = "127.0.0.1:0"
    if request.param == "kafka":
        made.environ |= {
            "HEADRACE_BUS": request.getfixturevalue("kafka_url"),
            "HEADRACE_BUS_KIND": "auto",
        }
        made.environ["HEADRACE_STORE"] = request.getfixturevalue("store_url")
        made.edit('name = "hosts"', f'name = "{unique("hosts")}"')
        made.edit('key = "entity"', "rekey = true")
        made.edit("[views", '[delivery]\nmode = "exactly-once"\n\n[views')
    return made


def test_probes_are_answered_and_are_in_no_business_count(setup: Setup) -> None:
    """Right again and again; no event is counted out, and a consumer gets none of them."""
    metrics = ", ".join(f"{name} = 0.1" for name in load_pipeline(setup.file).input.metric_names)
    table = f"[canary]\nmetrics = {{ {metrics} }}\ninterval_s = 1.0\nwithin_ms = 1000\n"
    setup.edit("[views", f"{table}\n[views")
    with setup.start("up", str(setup.file)) as command:
        assert command.process.stdout is not None
        health = command.process.stdout.readline().split()[1].removesuffix("/healthz")
        exported = command.process.stdout.readline()
        setup.environ |= dict(word.split("=", 1) for word in exported.split()[1:])
        site = Site(setup, health)
        site.until_ready()

        def answered(_: int, body: str) -> bool:
            (view,) = json.loads(body)["pipelines"]
            return view["canary"] is not None and view["canary"]["probes"].get("right", 0) > 3

        (view,) = json.loads(site.until("/observe", answered, 60.0))["pipelines"]
        consumed = setup.run(
            "consume", str(setup.file), "--from", "earliest", "--json", "--no-follow"
        )
        command.process.send_signal(signal.SIGTERM)
        assert command.end().code == 0

    stages = {stage["stage"]: stage["events"] for stage in view["stages"]}
    # As of each worker's last status, up to a second ago.
    assert stages["enrich"]["canary"] > 0
    assert stages["serve"]["canary"] > 0
    assert stages["enrich"]["out"] == stages["serve"]["out"] == 0
    assert view["latencies"] == []
    assert b"headrace-canary" not in consumed.out.encode()
