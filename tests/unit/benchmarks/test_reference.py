"""The reference benchmark judges its sides as it says; nothing is started here."""

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"
SIDE = {
    "title": "one side", "not_given": "nothing", "processes": 1, "events": 10, "rounds": [90, 110],
    "events_per_s": 100.0, "us_cpu_per_event": 5.0, "rss_mb": 50.0, "processes_mb": {"serve": 40.0},
}  # fmt: skip
REPORT = {
    "machine": {"cores": 2, "processor": "a processor", "memory_gb": 8.0, "system": "Linux"},
    "measured": {"sides": {"at": "2026-11-21T12:00+00:00", "load_before": 0.25}},
    "versions": {"own": {"python": "3.11.7"}},
}


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


def test_the_log_is_the_same_for_every_length(reference):
    """A shorter log is the front of the longer one, so its scores can be compared."""
    job = reference("job")
    assert list(job.events(50)) == list(job.events(80))[:50]
    assert {len(value) for _, value in job.events(50)} <= set(range(200, 221))


def test_latency_is_from_the_moment_an_event_was_due(reference):
    """Percentiles are of what came, what did not come is counted, and none is interpolated."""
    percentiles = reference("receiver").percentiles
    found = percentiles(np.array([0.001] * 98 + [0.5, np.nan]))
    assert (found["events"], found["missing"]) == (100, 1)
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (1.0, 500.0, 500.0)
    assert percentiles(np.full(3, np.nan)) == {"events": 3, "missing": 3}


def test_the_number_of_an_event_is_found_in_its_prediction(reference):
    """The receiver needs no JSON parser to know which event was answered."""
    job, receiver = reference("job"), reference("receiver")
    device, _ = next(job.events(1, first=1234))
    prediction = f'{{"id":"x","rev":0,"event_id":"{device}-{1234:08d}","score":0.5}}'.encode()
    assert receiver.number_of(prediction) == 1234


def test_usage_sees_this_process(reference):
    """A process's own CPU time and memory are counted; one that has gone is not."""
    import os

    usage = reference("processes").usage
    assert usage([os.getpid()]).rss_mb[os.getpid()] > 1
    assert usage([2**22 + 1]).rss_mb == {}


def test_the_page_holds_what_the_report_holds(reference):
    """Every part that was measured has its table, and a part that was not has none."""
    write = reference("document").write_document
    report = REPORT | {"sides": {"headrace": SIDE | {"events_per_s": 300.0}, "other": SIDE}}
    page = write(report)
    assert "| one side | 1 | 100 | 90 to 110 | 3.0 | 5.0 | 50 | 10 |" in page
    assert "sides 0.2 (2026-11-21T12:00+00:00)" in page
    assert "## Latency" not in page
    rate = {"p50_ms": 1.0, "p99_ms": 2.0, "p99_9_ms": 3.0, "max_ms": 4.0, "missing": 5,
            "most_behind_ms": 6.0, "cores": 0.5}  # fmt: skip
    page = write(report | {"latency": {"kafka": {"1000": rate}}, "memory": {"serve": 30.0}})
    assert "| kafka | 1,000 | 1 | 2 | 3 | 4 | 6 | 5 | 0.50 |" in page
    assert "| serve | 30 | 40 |" in page


def test_every_side_says_what_it_does_not_give(reference):
    """A comparison names the price of each side, and every side can be started."""
    sides = reference("sides").SIDES
    assert all(side.not_given for side in sides.values())
    for name, side in sides.items():
        assert side.topics("run"), name
        pins = FOLDER / "envs" / f"{side.env}.txt"
        assert side.env == "own" or "==" in pins.read_text("utf-8")
