"""The reference benchmark judges its sides as it says; nothing is started here."""

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"


def test_sides_with_other_scores_end_the_run(reference):
    """One score that differs, a prediction that is missing, or another form is no result."""
    compare = reference("throughput").compare
    scores = {"a": np.array([0.1, 0.2, 0.3]), "b": np.array([0.1, 0.2])}
    same = {name: {"id": "str"} for name in scores}
    compare(scores, same)
    with pytest.raises(SystemExit, match="differs from a"):
        compare(scores | {"b": np.array([0.1, 0.21])}, same)
    with pytest.raises(SystemExit, match="no prediction of 1 of 2"):
        compare(scores | {"b": np.array([0.1, np.nan])}, same)
    with pytest.raises(SystemExit, match="different form"):
        compare(scores, same | {"b": {"id": "int"}})


def test_a_steady_rate_is_from_the_last_partition_on(reference):
    """The whole run counts every event; the steady part what was left, if that is enough."""
    throughput = reference("throughput")
    began, ended = throughput.Moment(0, 10.0, 1.0), throughput.Moment(1000, 20.0, 5.0)
    found = throughput.figures(began, throughput.Moment(600, 18.0, 4.0), ended, {})
    assert (found["events_per_s"], found["us_cpu_per_event"]) == (100, 4000.0)
    assert found["every_partition_s"] == 8.0
    assert found["steady"] == {"events_per_s": 200, "us_cpu_per_event": 2500.0}
    late = throughput.figures(began, throughput.Moment(800, 18.0, 4.0), ended, {})
    assert late["steady"] is None


def test_the_log_is_the_same_for_every_length(reference):
    """A shorter log is the front of the longer one, so its scores can be compared."""
    job = reference("job")
    assert list(job.events(50)) == list(job.events(80))[:50]
    assert {len(value) for _, value in job.events(50)} <= set(range(200, 221))


def test_latency_is_from_the_moment_an_event_was_due(reference):
    """Percentiles are of what came, what did not come is counted, and none is interpolated."""
    percentiles = reference("arrivals").percentiles
    found = percentiles(np.array([0.001] * 98 + [0.5, np.nan]))
    assert (found["events"], found["missing"]) == (100, 1)
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (1.0, 500.0, 500.0)
    assert percentiles(np.full(3, np.nan)) == {"events": 3, "missing": 3}


def test_the_number_of_an_event_is_found_in_its_prediction(reference):
    """The receiver needs no JSON parser to know which event was answered."""
    job, arrivals = reference("job"), reference("arrivals")
    device, _ = next(job.events(1, first=1234))
    prediction = f'{{"id":"x","rev":0,"event_id":"{device}-{1234:08d}","score":0.5}}'.encode()
    assert arrivals.number_of(prediction) == 1234


def test_usage_sees_this_process(reference):
    """A process's own CPU time and memory are counted; one that has gone is not."""
    import os

    usage = reference("processes").usage
    assert usage([os.getpid()]).rss_mb[os.getpid()] > 1
    assert usage([2**22 + 1]).rss_mb == {}


def test_sides_are_named_as_the_report_promises(reference):
    """Readers of the JSON find these keys; two processes are the same name with `_x2`."""
    sides = reference("sides").SIDES
    promised = {"headrace", "handwritten", "bytewax", "quix", "faust_take", "faust"}
    assert set(sides) == promised | {f"{name}_x2" for name in promised - {"headrace"}}
    assert all(sides[name].processes == 1 for name in promised - {"headrace"})


def test_every_side_says_what_it_does_not_give(reference):
    """A comparison names the price of each side, and every side can be started."""
    sides = reference("sides").SIDES
    assert all(side.not_given for side in sides.values())
    for name, side in sides.items():
        assert side.topics("run"), name
        pins = FOLDER / "envs" / f"{side.env}.txt"
        assert side.env == "own" or "==" in pins.read_text("utf-8")
