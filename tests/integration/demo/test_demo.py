"""`headrace demo` as a stranger runs it: real sensors, real bus, real store, real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FIELDS = {
    "bus", "events_in", "predictions_out", "dead", "late", "repeated", "lost", "duplicated",
    "first_prediction_s", "p50_ms", "p99_ms", "p999_ms", "bytes_raw", "bytes_upstream", "rss_mb",
}  # fmt: skip


def demo(*args: str, kind: str, home: str) -> subprocess.CompletedProcess[str]:
    """Run the demo on one kind of bus, its files in a folder of its own."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    environ |= {"HEADRACE_BUS_KIND": kind, "HEADRACE_WORKER_DATA_DIR": home}
    program = "from headrace.streams.cli.main import main; main()"
    command = [sys.executable, "-c", program, "demo", *args]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=90, check=False
    )


def processes_of(home: str) -> list[str]:
    """Command lines of running processes that name the folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if home in line]


@pytest.mark.integration
@pytest.mark.slow
def test_the_demo_loses_and_doubles_nothing(tmp_path) -> None:
    """Every event of a short run ends in a prediction; the last line is the whole report."""
    ran = demo("--seconds", "5", "--json", kind="embedded", home=str(tmp_path))

    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report.keys() >= FIELDS
    assert report["bus"] == "embedded"
    assert report["events_in"] == report["predictions_out"] > 0
    assert (report["lost"], report["duplicated"], report["dead"]) == (0, 0, 0)
    assert ran.stderr == ""
    assert processes_of(str(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.usefixtures("kafka_url")
def test_a_second_demo_on_kafka_goes_on_where_the_first_ended(tmp_path) -> None:
    """Bus and store are kept: the second run counts its own events only, and all of them."""
    for _ in range(2):
        ran = demo("--seconds", "4", "--json", kind="kafka", home=str(tmp_path))

        assert ran.returncode == 0, ran.stderr
        report = json.loads(ran.stdout.splitlines()[-1])
        assert report["bus"] == "kafka"
        assert report["events_in"] == report["predictions_out"] > 0
    assert processes_of(str(tmp_path)) == []
