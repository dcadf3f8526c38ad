"""The command itself: light, one line for every failure, exit codes that mean something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from headrace.schemas.errors import (
    BusUnavailableError,
    EventRefusedError,
    HeadraceError,
    SettingsError,
)
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.cli.lazy import Lazy, LazyGroup
from headrace.streams.cli.main import COMMANDS, explain, main

BAD = {
    "an unknown command": ["prodcue"],
    "an unknown option": ["topics", "plan", "--colour"],
    "a missing argument": ["features", "get"],
    "a pipeline that is none": ["consume", "absent"],
    "a pipeline file that is not there": ["topics", "plan", "absent.toml"],
    "a model of no pipeline": ["model", "check", "absent"],
    "a bus that is only local": ["topics", "list"],
    "a store that is only local": ["features", "get", "cpu-0"],
    "a host without bus": ["produce", "host"],
    "a file that is not there": ["produce", "file", "absent.ndjson"],
    "a consumer without bus": ["consume"],
    "dead letters without bus": ["consume", "--deadletter"],
    "summaries without bus": ["consume", "--summaries"],
    "an impossible rate": ["produce", "host", "--rate", "0"],
    "a view that is none": ["features", "get", "cpu-0", "--view", "nwo"],
    "an impossible port": ["kafka", "--port", "70000"],
}


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No settings of this machine."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("args", BAD.values(), ids=BAD.keys())
def test_wrong_set_up_is_one_line(clean, args):
    """Every command used or set up wrongly says so in one line and exits with 2."""
    done = CliRunner().invoke(main, args)

    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("headrace: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", BAD.values(), ids=BAD.keys())
def test_failure_is_the_last_json_line(clean, args):
    """With --json a failure is one JSON object on the last line of stdout."""
    done = CliRunner().invoke(main, [*args, "--json"])

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["error"]["message"]
    assert found["error"]["code"]


@pytest.mark.parametrize(
    "args",
    [
        ["topics", "list"],
        ["topics", "apply"],
        ["topics", "describe"],
        ["produce", "host", "--seconds", "1"],
        ["consume"],
        ["consume", "--deadletter"],
    ],
)
def test_bus_that_is_away_is_temporary(clean, monkeypatch, args):
    """A bus nobody answers at exits with 75, so that a script may try again."""
    monkeypatch.setenv("HEADRACE_BUS", "kafka://127.0.0.1:1")

    done = CliRunner().invoke(main, args)

    assert done.exit_code == 75
    assert done.stderr.count("\n") == 1


def test_store_that_is_away_is_temporary(clean, monkeypatch):
    """A store nobody answers at exits with 75."""
    monkeypatch.setenv("HEADRACE_STORE", "redis://127.0.0.1:1/0")

    done = CliRunner().invoke(main, ["features", "get", "cpu-0"])

    assert done.exit_code == 75
    assert done.stderr.count("\n") == 1


def test_unknown_setting_names_the_nearest(clean, monkeypatch):
    """A misspelt variable is an error that names the one that was meant."""
    monkeypatch.setenv("HEADRACE_BUSS", "kafka://127.0.0.1:1")

    done = CliRunner().invoke(main, ["topics", "list"])

    assert done.exit_code == 2
    assert "HEADRACE_BUS'" in done.stderr


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (SettingsError("no"), 2, "settings"),
        (BusUnavailableError("no"), 75, "bus.unavailable"),
        (HeadraceError("no"), 1, "headrace"),
        (EventRefusedError("metric.range", row=0, rows=1), 1, "metric.range"),
        (click.UsageError("no"), 2, "usage"),
        (ValueError("no"), 1, "unexpected"),
    ],
)
def test_exit_code_follows_the_root(error, exit_code, code):
    """The error's root decides the exit code."""
    assert explain(error)[:2] == (exit_code, code)


def test_unexpected_errors_do_not_quote_a_record():
    """An error that is not ours shows its class and how to see more, not its text."""
    _, _, message = explain(KeyError("patient-17"))

    assert "patient" not in message
    assert "KeyError" in message
    assert "HEADRACE_INTERNAL_DEBUG=1" in message


def test_debug_shows_the_traceback(monkeypatch, capsys):
    """HEADRACE_INTERNAL_DEBUG=1 prints the traceback before the line."""
    monkeypatch.setenv("HEADRACE_INTERNAL_DEBUG", "1")

    with pytest.raises(SystemExit) as ended:
        main(["produce", "file", "absent.ndjson"])

    assert ended.value.code == 2
    assert "Traceback" in capsys.readouterr().err


def test_group_imports_only_what_is_run():
    """Listing commands imports none of them; asking for one imports that one."""
    group = LazyGroup("g", lazy={"a": Lazy("absent.module:a", "Does a."), "b": Lazy("x:y", "B.")})

    done = CliRunner().invoke(group, ["--help"])

    assert done.exit_code == 0
    assert "Does a." in done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name):
    """Each entry of the table imports, and has help of its own."""
    done = CliRunner().invoke(main, [name, "--help"])

    assert done.exit_code == 0
    assert "Usage:" in done.output


def fresh(code: str, *args: str) -> subprocess.CompletedProcess:
    """Run Python code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=True
    )


def test_help_is_quick_and_imports_little():
    """`headrace --help` loads no library but click, and takes under a quarter second."""
    code = (
        "import sys\n"
        "from headrace.streams.cli.main import main\n"
        "sys.argv = ['headrace', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    began_s = time.monotonic()
    done = fresh(code)
    took_s = time.monotonic() - began_s

    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "asyncio", "aiokafka", "faust", "onnxruntime", "redis"}
    assert took_s < 2.0  # 0.07 s on an idle machine; this one may be busy


def test_model_check_of_the_example(clean):
    """The example that ships is fit to serve, by its name."""
    done = CliRunner().invoke(main, ["model", "check", "hosts", "--json"])

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == "hosts-change"
    said = CliRunner().invoke(main, ["model", "check", "hosts"]).stdout
    assert f"inputs, in this order: {', '.join(found['inputs'])}\n" in said
    assert found["inputs"] == list(load_pipeline(pipeline_file("hosts")).model_inputs)


def test_doctor_says_of_each_trouble_how_to_mend_it(clean, monkeypatch):
    """The doctor goes on after a failure, names the remedy, masks secrets and exits with 2."""
    monkeypatch.setenv("HEADRACE_BUS", "kafka://127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_STORE_PASSWORD", "hunter2")

    done = CliRunner().invoke(main, ["doctor"])

    assert done.exit_code == 2
    assert "hunter2" not in done.output
    assert "setting store.password: ***  (HEADRACE_STORE_PASSWORD)" in done.stdout
    assert "setting bus.url: kafka://127.0.0.1:1  (HEADRACE_BUS)" in done.stdout
    assert "ok    model: hosts-change" in done.stdout
    assert "fail  bus:" in done.stdout
    assert "ok    store: local" in done.stdout


def test_doctor_is_content_with_the_defaults(clean):
    """On a machine with nothing set, nothing fails."""
    done = CliRunner().invoke(main, ["doctor", "--json"])

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert {"python", "pipeline", "model", "bus", "store"} <= {
        c["subject"] for c in found["checks"]
    }


def test_doctor_names_the_settings_file(clean):
    """A value from ./headrace.toml is said to come from there."""
    Path("headrace.toml").write_text("[store]\ntimeout_s = 2.5\n")

    done = CliRunner().invoke(main, ["doctor"])

    assert "setting store.timeout_s: 2.5  (headrace.toml)" in done.stdout
