"""A fleet through the whole path on real Kafka: every event becomes what its ledger says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.streams.local.local_kafka import LocalKafka

pytestmark = [
    pytest.mark.integration,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not LocalKafka.installed(), reason="Apache Kafka is not installed"),
]

FLEET = Path(__file__).parents[3] / "benchmarks" / "fleet"

if not FLEET.exists():
    pytest.skip("benchmarks are not part of the wheel", allow_module_level=True)


def ran(*arguments: str) -> dict[str, Any]:
    """What ``make fleet`` does, smaller; its exit code says that every fate was as planned."""
    done = subprocess.run(
        [sys.executable, str(FLEET), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [one] = json.loads(done.stdout.splitlines()[-1])["scenarios"]
    return one


def test_every_planted_event_is_classified_as_planted() -> None:
    """A thousand devices of all kinds: predicted, dead, late and repeated, event by event."""
    one = ran("--scenarios", "steady", "--rate", "5000", "--seconds", "12", "--seed", "7")
    found, sent = one["found"], one["sent"]

    assert found["wrong"] == found["doubled"] == found["raw_or_personal_seen"] == 0
    assert all(sent["kinds"][kind] > 0 for kind in ("repeat", "late", "future", "out_of_order"))
    counted = one["counted"]
    assert counted["in"] == sum(counted[o] for o in ("out", "dead", "late", "repeated"))
    assert (
        counted["in"]
        == sent["events"]
        == sum(sent["expected"].values()) - sent["expected"]["absent"]
    )


def test_a_burst_loses_nothing() -> None:
    """Ten times the rate for thirty seconds: every event ends where it must."""
    one = ran("--scenarios", "burst", "--rate", "400", "--seconds", "70")

    assert one["sent"]["most_events_per_s"] > 5 * 400
    assert one["found"]["wrong"] == 0
