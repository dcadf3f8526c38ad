"""The gate lets 19 % pass, stops 21 %, and is not blind to what is missing."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"


def side(events_per_s, us_cpu_per_event):
    return {"events_per_s": events_per_s, "us_cpu_per_event": us_cpu_per_event, "events": 1000}


def latency(p50, p99):
    return {"p50_ms": p50, "p99_ms": p99, "p99_9_ms": 900.0, "max_ms": 999.0}


QUIET = {"at": "2026-11-21T12:00+00:00", "load_before": 3.0, "busy_cores_before": 0.0}
REPORT = {
    "machine": {"cores": 2, "processor": "a processor"},
    "measured": {"sides": QUIET, "latency": QUIET},
    "sides": {
        "headrace": side(200_000.0, 6.0), "handwritten": side(60_000.0, 15.0),
        "faust": side(1_300.0, 540.0),
    },
    "latency": {
        "headrace on kafka": {"5000": latency(8.0, 20.0), "20000": latency(10.0, 40.0)},
        "handwritten on kafka": {"5000": latency(8.0, 25.0), "20000": latency(20.0, 60.0)},
        "headrace on embedded": {"5000": latency(80.0, 90.0)},
    },
}  # fmt: skip


def changed(path, factor):
    """The report with one number multiplied."""
    report = copy.deepcopy(REPORT)
    *parents, last = path
    place = report
    for key in parents:
        place = place[key]
    place[last] *= factor
    return report


@pytest.fixture
def run(tmp_path):
    """A way to run the gate as a user does, against `REPORT` as the committed one."""
    committed = tmp_path / "committed.json"

    def gate(report, *options):
        file = tmp_path / "report.json"
        file.write_text(json.dumps(report), "utf-8")
        command = [sys.executable, FOLDER / "gate.py", file, committed, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert gate(REPORT, "--accept").returncode == 0
    return gate


def test_the_same_ratios_pass(run):
    """A report against itself loses nothing and warns of nothing."""
    done = run(REPORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "8 of 8 ratios kept\n"


@pytest.mark.parametrize(("factor", "returncode"), [(0.81, 0), (0.79, 1)])
def test_a_fifth_is_the_limit(run, factor, returncode):
    """A rate 19 % lower passes, one 21 % lower does not, with a line for each ratio it is in."""
    done = run(changed(("sides", "headrace", "events_per_s"), factor))
    assert done.returncode == returncode
    lines = done.stdout.splitlines()[:-1]
    assert len(lines) == 2 * returncode
    assert all(line.startswith("events/s, headrace : ") for line in lines)
    assert all("21 % less" in line for line in lines)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (("sides", "headrace", "us_cpu_per_event"), "CPU per event"),
        (("latency", "headrace on kafka", "20000", "p50_ms"), "p50 at 20000"),
        (("latency", "headrace on kafka", "5000", "p99_ms"), "p99 at 5000"),
    ],
)
def test_cpu_and_latency_are_held_too(run, path, what):
    """More CPU, or slower answers, than the other side needs, is a fall."""
    assert run(changed(path, 1 / 0.81)).returncode == 0
    done = run(changed(path, 1 / 0.79))
    assert done.returncode == 1
    assert done.stdout.startswith(what)


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (("sides", "faust"), "events/s, headrace : faust"),
        (("sides", "headrace"), "CPU per event, handwritten : headrace"),
        (("latency", "handwritten on kafka", "5000"), "p50 at 5000 events/s"),
        (("latency", "headrace on kafka", "5000", "p99_ms"), "p99 at 5000 events/s"),
        (("latency",), "p99 at 20000 events/s"),
    ],
)
def test_what_is_missing_does_not_pass(run, gone, named):
    """A side, a rate or a part that did not run is no reason to be content."""
    report = copy.deepcopy(REPORT)
    *parents, last = gone
    place = report
    for key in parents:
        place = place[key]
    del place[last]
    done = run(report)
    assert done.returncode == 1
    assert any(named in line and "not in the report" in line for line in done.stdout.splitlines())


def test_a_side_that_is_new_does_not_pass(run):
    """It has no committed ratio, so nothing would hold it; accepting gives it one."""
    report = REPORT | {"sides": REPORT["sides"] | {"bytewax": side(1e9, 0.001)}}
    done = run(report)
    assert (done.returncode, done.stdout.count("has no committed ratio")) == (1, 2)
    assert run(report, "--accept").returncode == 0
    assert run(report).returncode == 0


def test_accepting_moves_the_line(run):
    """A fall that is meant is committed, and passes from then on; nothing to commit is refused."""
    slower = changed(("sides", "headrace", "events_per_s"), 0.5)
    assert run(slower).returncode == 1
    assert run(slower, "--accept").returncode == 0
    assert run(slower).returncode == 0
    empty = run({"machine": {}, "measured": {}}, "--accept")
    assert empty.returncode == 1
    assert "no ratio" in empty.stderr
    assert run(slower).returncode == 0


def test_an_unfair_comparison_is_said_to_be_one(run):
    """A busy machine and another machine are cautions, and no verdict; another log is none."""
    busy = REPORT["measured"] | {"latency": QUIET | {"busy_cores_before": 1.2}}
    done = run(REPORT | {"measured": busy})
    assert (done.returncode, done.stderr.count("caution")) == (0, 1)
    assert "busy before latency of this run" in done.stderr
    done = run(REPORT | {"machine": {"cores": 64}})
    assert (done.returncode, "another machine" in done.stderr) == (0, True)
    done = run(changed(("sides", "faust", "events"), 10))
    assert (done.returncode, done.stderr) == (1, "")
    assert "faust read 10,000 events, in the committed run 1,000" in done.stdout


def test_no_report_is_one_line(run, tmp_path):
    """A file that is not there, or no JSON, says what to do."""
    for file in (tmp_path / "nothing.json", FOLDER / "gate.py"):
        done = subprocess.run(
            [sys.executable, FOLDER / "gate.py", file], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "make bench-gate" in done.stderr


@given(speed=st.floats(0.01, 100), lost=st.floats(0, 0.99))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_slower_machine_changes_nothing(reference, speed, lost):
    """Ratios are the same for any speed of the machine, and so is the verdict."""
    gate = reference("gate")
    slower = copy.deepcopy(REPORT)
    slower["sides"]["headrace"]["events_per_s"] *= 1 - lost
    here = gate.ratios(slower)
    for found in slower["sides"].values():
        found["events_per_s"] *= speed
        found["us_cpu_per_event"] /= speed
    for rates in slower["latency"].values():
        for found in rates.values():
            found.update({key: value / speed for key, value in found.items()})
    there = gate.ratios(slower)
    assert there == pytest.approx(here, abs=0.0011)
    if abs(lost - gate.MOST_LOST) > 0.01:
        fallen = gate.fallen(there, gate.ratios(REPORT))
        assert len(fallen) == (2 if lost > gate.MOST_LOST else 0)


def test_the_committed_ratios_are_those_that_the_gate_measures(reference):
    """`make bench-gate` runs every side and rate that the committed file holds."""
    gate = reference("gate")
    makefile = (FOLDER.parents[1] / "Makefile").read_text("utf-8")
    ran = makefile.partition("GATE := ")[2].partition("bench-gate:")[0].split()
    committed = json.loads(gate.COMMITTED.read_text("utf-8"))["ratios"]
    assert committed
    for name in committed:
        sides = {word for word in name.replace(",", "").split() if word in reference("sides").SIDES}
        rates = [word for word in name.split() if word.isdigit()]
        assert sides | set(rates) <= set(ran), name
