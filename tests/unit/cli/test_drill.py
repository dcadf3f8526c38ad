"""`headrace drill` before anything is started: what it refuses, in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import headrace.streams
from headrace.streams.cli.drill import soaked
from headrace.streams.cli.main import main
from headrace.streams.drill.kinds import KINDS


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of this machine, and no Kafka on it."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def refused(*args: str) -> str:
    """The one line with which a drill ends before it began."""
    done = CliRunner().invoke(main, ["drill", *args])

    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    return done.stderr


def test_without_kafka_it_says_how_to_get_it() -> None:
    """The embedded bus keeps nothing and has no groups of two: a drill on it would say nothing."""
    assert "is not on this machine; fetch it with `headrace kafka" in refused()


@pytest.mark.parametrize("name", ["HEADRACE_BUS", "HEADRACE_STORE"])
def test_given_services_want_a_yes(name, monkeypatch) -> None:
    """It leaves topics and keys where the settings point, so it asks first."""
    url = "kafka://bus.example:9092" if name == "HEADRACE_BUS" else "redis://store.example:6379/0"
    monkeypatch.setenv(name, url)

    line = refused()

    assert url in line
    assert "--yes" in line


def test_an_unknown_fault_names_the_nearest() -> None:
    """A fault that was misspelt is not left out in silence."""
    assert "'store-lost'" in refused("--faults", "kill,store-lots")


def test_a_pipeline_that_is_none() -> None:
    """It is read before any service is started."""
    assert "absent" in refused("absent")


def test_more_events_than_fit_in_memory() -> None:
    """The ledger remembers every one."""
    assert "lower --rate or --seconds" in refused("--seconds", "3000", "--rate", "20000")


@pytest.mark.parametrize(
    "args", [("--kills", "-1"), ("--mode", "at-most-once"), ("--rate", "0"), ("--soak", "0.5")]
)
def test_impossible_options(args) -> None:
    """Numbers out of range, and promises that are not made."""
    assert args[0] in refused(*args)


def test_a_soak_ends_no_stage_as_a_whole() -> None:
    """Its first workers live as long as it does; every other kind comes once in five minutes."""
    course = soaked(KINDS, 1, minutes=20, rate=100)
    plan = course.plan(course.kinds)

    assert plan.kills().total() >= 20
    assert {fault.kind for fault in plan.faults} | set(plan.anew) == set(KINDS) - {"group-deleted"}
    assert sum(fault.kind == "bus-cut" for fault in plan.faults) == 4
    assert course.seconds == 1200


def test_every_fault_is_described_for_operators() -> None:
    """Each kind has its row on the operator's page, and `--help` names it."""
    page = Path(headrace.streams.__file__).parents[1] / "docs" / "operator.md"
    if not page.exists():
        pytest.skip("documents are not part of the wheel")
    described = page.read_text("utf-8").partition("## Drill")[2].partition("\n## ")[0]
    said = CliRunner().invoke(main, ["drill", "--help"]).stdout

    assert [kind for kind in KINDS if f"`{kind}`" not in described] == []
    assert [kind for kind in KINDS if kind not in "".join(said.split())] == []


def test_a_refusal_is_the_last_json_line() -> None:
    """As of every command."""
    done = CliRunner().invoke(main, ["drill", "--faults", "fire", "--json"])

    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "usage"
