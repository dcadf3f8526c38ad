"""`headrace deadletter` used wrongly or without a bus: one line that says how to do it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from headrace.streams.cli.deadletter import Since
from headrace.streams.cli.main import main
from headrace.streams.client.clock import wall_clock

WRONG = {
    "no command": ["deadletter", "lst"],
    "no place": ["deadletter", "show", "hosts"],
    "a place that is none": ["deadletter", "show", "hosts", "somewhere"],
    "another topic's place": ["deadletter", "show", "hosts", "headrace.hosts.late.v1[0]@7"],
    "a time that is none": ["deadletter", "list", "--since", "yesterday"],
    "a time without its zone": ["deadletter", "redrive", "--since", "2026-11-21T10:00:00"],
    "no letter at all": ["deadletter", "redrive", "--limit", "0"],
    "a bus that is only local": ["deadletter", "list"],
    "a bus that is only local, for a redrive": ["deadletter", "redrive", "--dry-run"],
}


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of this machine."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("args", WRONG.values(), ids=WRONG.keys())
def test_wrong_use_is_one_line(args):
    """Every wrong use ends with 2, one line and no output."""
    done = CliRunner().invoke(main, args)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("headrace: ")


def test_two_forms_at_once_are_refused():
    """Bytes untouched and one JSON object exclude each other; the refusal is JSON, as asked."""
    done = CliRunner().invoke(main, ["deadletter", "show", "hosts", "0@7", "--raw", "--json"])

    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"


@pytest.mark.parametrize("args", [["list"], ["show", "hosts", "0@7"], ["redrive"]])
def test_a_bus_that_is_away_is_temporary(monkeypatch, args):
    """A bus nobody answers at exits with 75."""
    monkeypatch.setenv("HEADRACE_BUS", "kafka://127.0.0.1:1")
    done = CliRunner().invoke(main, ["deadletter", *args])

    assert done.exit_code == 75
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "age_s"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172_800)]
)
def test_an_age_counts_back_from_now(text, age_s):
    """An age is as long ago as it says."""
    before_ms = wall_clock() * 1000
    found = Since().convert(text, None, None)

    assert 0 <= found - (before_ms - age_s * 1000) < 60_000


def test_a_time_is_that_time():
    """A time with its zone is taken as it is."""
    expected = datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp() * 1000

    assert Since().convert("2026-11-21T12:00:00+02:00", None, None) == expected
    with pytest.raises(click.BadParameter, match="2026-11-21T10:00:00Z"):
        Since().convert("2 h", None, None)
