"""What `make profile` and the stages part of `make bench` measure, on a real Kafka and store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "benchmarks" / "reference"
COST = """
import asyncio, json, sys
from profile_cost import stage_cost
bus, store = sys.argv[1:]
print(json.dumps(asyncio.run(stage_cost(bus, store, events=300_000))))
"""
RATE = """
import asyncio, json, sys
from pathlib import Path
from profile_rate import run_at_rate
from profile_report import figures
bus, store, folder = sys.argv[1:]
runs = asyncio.run(run_at_rate(bus, store, 2_000, 3.0, samples=Path(folder), hz=200))
print(json.dumps({stage: figures(*both, top=5) for stage, both in runs.items()}))
"""
ENVIRONMENT = "import environments; environments.prepare(['profile'])"

pytestmark = pytest.mark.slow


def run(code, *arguments):
    """Run code beside the benchmark's modules, from the checkout's root as make does."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(FOLDER)}, check=False, timeout=110,
    )  # fmt: skip


def answer(done):
    """The JSON in its last line."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_each_stage_has_its_cost(kafka_url, store_url):
    """Both stages, alone, work through the log; their threads' CPU is the whole."""
    found = answer(run(COST, kafka_url.removeprefix("kafka://"), store_url))
    assert list(found) == ["enrich", "serve"]
    for stage in found.values():
        threads = sum(v for k, v in stage.items() if k.startswith("us_"))
        threads -= stage["us_cpu_per_event"] + stage["us_user"] + stage["us_system"]
        assert 0 < stage["events"] < 300_000
        assert stage["events_per_s"] > 0
        assert stage["us_main"] > 0
        assert threads == pytest.approx(stage["us_cpu_per_event"], abs=0.05)


def test_a_profile_finds_the_path(kafka_url, store_url, tmp_path):
    """At a rate, both stages are sampled, their own work is found, and shares sum to the whole."""
    made = run(ENVIRONMENT)
    if made.returncode:
        require = pytest.fail if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1" else pytest.skip
        require(f"no py-spy: {made.stderr.strip().splitlines()[-1]}")
    found = answer(run(RATE, kafka_url.removeprefix("kafka://"), store_url, str(tmp_path)))
    assert {"decode", "publish"} <= found["enrich"]["parts"].keys()
    assert {"encode predictions", "publish"} <= found["serve"]["parts"].keys()
    for name, stage in found.items():
        assert stage["events"] == 6_000
        assert sum(stage["parts"].values()) == pytest.approx(stage["us_cpu_per_event"], rel=0.01)
        assert (tmp_path / f"profile-rate-{name}.collapsed").read_text("utf-8")
