"""`headrace drill` before anything is started: what it refuses, in one line."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from headrace.streams.cli.main import main


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


@pytest.mark.parametrize("args", [("--kills", "-1"), ("--mode", "at-most-once"), ("--rate", "0")])
def test_impossible_options(args) -> None:
    """Numbers out of range, and promises that are not made."""
    assert args[0] in refused(*args)


def test_a_refusal_is_the_last_json_line() -> None:
    """As of every command."""
    done = CliRunner().invoke(main, ["drill", "--faults", "fire", "--json"])

    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "usage"
