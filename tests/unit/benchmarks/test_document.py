"""The page and its figures say what the report says, and what of the budgets is kept."""

import json
import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"
PLOTS = FOLDER.parents[1] / "build" / "bench" / "envs" / "plots" / "bin" / "python"
SIDE = {
    "title": "one side", "processes": 1, "events": 10, "rounds": [90, 110],
    "events_per_s": 100.0, "us_cpu_per_event": 5.0, "rss_mb": 50.0, "processes_mb": {"serve": 40.0},
    "window_s": 8.13, "commits": "each batch", "stores": "each commit",
}  # fmt: skip
RATE = {"p50_ms": 15.0, "p99_ms": 51.0, "p99_9_ms": 30.0, "max_ms": 64.0, "missing": 0,
        "lowest_p50_ms": 9.0, "highest_p50_ms": 21.0, "most_behind_ms": 6.0,
        "cores": 0.5}  # fmt: skip
POINT = {"events_per_s": 5e4, "us_cpu_per_event": 9.5, "rss_mb": 400.0, "events": 777,
         "every_partition_s": 0.44, "steady": True}  # fmt: skip
REPORT = {
    "machine": {"cores": 2, "processor": "a processor", "memory_gb": 8.0, "system": "Linux"},
    "measured": {
        "sides": {
            "at": "2026-11-21T12:00+00:00",
            "load_before": 0.25,
            "commit": "abc",
            "minutes": 12.5,
            "contenders": "cafe",
            "versions": {"own": {"python": "3.11.7"}},
        }
    },
}
WHOLE = REPORT | {
    "sides": {
        "headrace": SIDE | {"events_per_s": 299.0, "rounds": [290, 308]}, "handwritten": SIDE,
        "faust_x2": SIDE | {"us_cpu_of_services": 1.5},
    },
    "latency": {"headrace on kafka": {"20000": RATE}, "handwritten on kafka": {"1000": RATE}},
    "startup": {"embedded": {"first_prediction_s": 2.5, "runs": [2.0, 3.0]}},
    "memory": {"supervisor": 20.0, "serve": 30.0},
    "stages": {
        "serve": {"events": 10, "events_per_s": 300_000, "us_cpu_per_event": 3.0, "us_user": 2.25,
                  "us_system": 0.75, "us_main": 2.0, "us_bus": 1.0},
    },
    "scaling": {
        "devices": [{"value": 100} | POINT, {"value": 1_000_000} | POINT],
        "model_cost": [{"value": 1} | POINT | {"steady": False}],
    },
}  # fmt: skip


def test_a_part_that_was_not_measured_is_not_on_the_page(reference):
    """Every part that was measured has its table, and a part that was not has none."""
    write = reference("document").write_document
    shown = {
        "sides": "Throughput", "stages": "Stages", "latency": "Latency", "startup": "Start",
        "memory": "Memory", "scaling": "Scaling",
    }  # fmt: skip
    every = re.findall("^## (.*)$", write(WHOLE), re.MULTILINE)
    assert set(every) == {"Targets", "Versions", "Again", *shown.values()}
    for part, title in shown.items():
        page = write({name: found for name, found in WHOLE.items() if name != part})
        left = re.findall("^## (.*)$", page, re.MULTILINE)
        assert set(every) - set(left) == {title}
    assert re.findall("^## (.*)$", write(REPORT), re.MULTILINE) == ["Versions", "Again"]


def test_of_several_rounds_the_median_is_shown(reference):
    """Of an even number of rounds the slower of the two in the middle: never the better half."""
    rounds = [{"20000": {"p50_ms": p50, "p99_ms": 2 * p50}} for p50 in (9.0, 30.0, 12.0, 21.0)]
    assert reference("latency").median_runs(rounds) == {
        "20000": {
            "p50_ms": 21.0,
            "p99_ms": 42.0,
            "lowest_p50_ms": 9.0,
            "highest_p50_ms": 30.0,
            "rounds": 4,
        }
    }


def test_the_page_holds_what_the_report_holds(reference):
    """The numbers of each part, with the budget beside them."""
    page = reference("document").write_document(WHOLE)
    figures = "each batch | each commit | 5.0 | 0.00 | - | 50 | 8.1 | 10 | 2 |"
    assert f"| one side | 1 | 100 | 90 to 110 | 3.0 (2.6 to 3.4) | ≥ 3: missed | {figures}" in page
    figures = "each batch | each commit | 5.0 | 0.00 | 1.5 | 50 | 8.1 | 10 | 2 |"
    assert (
        f"| one side | 1 | 100 | 90 to 110 | 3.0 (2.6 to 3.4) | ≥ 150: missed | {figures}" in page
    )
    assert "| sides | 2026-11-21T12:00+00:00 | 0.2 | - | 12.5 | abc | cafe | this |" in page
    assert "- own: python 3.11.7 (sides)\n" in page
    assert "Not measured: headrace_once, confluent, " in page
    assert "| headrace on kafka | 20,000 | 15 | 51 | 30 | 64 | 9 to 21 | 6 | 0 | 0.50 | - |" in page
    assert "| embedded | 2.50 | 2.00 to 3.00 | 2 | ≤ 3: met |" in page
    assert "| supervisor | 20 | - | - |" in page
    assert "| serve | 30 | 40 | ≤ 400: met |" in page
    assert "| serve | 300,000 | 3.00 | 2.25 | 0.75 | main 2.00, bus 1.00 | - |" in page
    assert "| devices | 1M | 50,000 | 9.5 | 400 | 0.4 | 777 |" in page
    assert "| model, × flops | 1 | 50,000 (whole run) | 9.5 | 400 | 0.4 | 777 |" in page


def test_what_each_side_does_not_guarantee_is_in_a_table(reference):
    """A row for each side that was measured, two processes in that of the one; nothing is blank."""
    sides = {
        name: SIDE | {"title": side.title}
        for name, side in reference("sides").SIDES.items()
        if name != "quix_sink"
    }
    page = reference("document").write_document(REPORT | {"sides": sides})
    table = page.partition("### What each side does not guarantee")[2].partition("\n## ")[0]
    head, _, *rows = [line.split(" | ") for line in table.splitlines() if line.startswith("|")]
    titles = [side["title"] for side in sides.values()]
    assert sorted(row[0] for row in rows) == sorted({f"| {title}" for title in titles})
    assert {len(row) for row in rows} == {len(head)}
    assert all(cell.strip(" |") for row in rows for cell in row)


def test_figures_of_older_code_are_said_to_be_such(reference):
    """The page names the digest that the other sides have now, as long as it is another."""
    write, now = reference("document").write_document, reference("machine").contenders()
    assert f"(its digest is {now} now); what is said here" in write(WHOLE)
    same = {"sides": REPORT["measured"]["sides"] | {"contenders": now}}
    assert "its digest is" not in write(WHOLE | {"measured": same})
    assert "its digest is" not in write(REPORT | {"measured": {}})


def test_what_failed_is_on_the_page(reference):
    """A side without figures has its row and its reason, a part its reason; neither is judged."""
    gone = {name: SIDE[name] for name in ("title", "processes", "events")}
    sides = {"headrace": SIDE, "handwritten": gone | {"failed": ["round 1: it ended\nits log"]}}
    report = REPORT | {"sides": sides, "failed": {"memory": "no bus"}}
    page = reference("document").write_document(report)
    assert f"| one side | 1 | failed |{' - |' * 11} 10 | 0 of 1 |" in page
    assert "- memory: no bus\n- handwritten, round 1: it ended\n" in page
    assert "times the throughput" not in page
    assert [key for key, _, _ in reference("plots_series").throughput_series(sides)] == ["headrace"]
    assert reference("gate").ratios(report) == {}
    nothing = reference("document").write_document(REPORT | {"sides": {"handwritten": gone}})
    assert "| one side | 1 | failed |" in nothing


def test_exactly_once_is_beside_the_default(reference):
    """Its share of the throughput and what it adds to p99 are judged where both modes ran."""
    verdicts = reference("targets").once_verdicts
    sides = {"headrace": SIDE, "headrace_once": SIDE | {"events_per_s": 79.0}}
    rates = {"headrace on kafka": {"5000": RATE}, "headrace_once on kafka": {"5000": RATE}}
    rates["headrace_once on kafka"]["5000"] = RATE | {"p99_ms": RATE["p99_ms"] + 50.0}
    assert [(v.found, v.met) for v in verdicts(sides, rates)] == [(79.0, False), (50.0, True)]
    assert verdicts({"headrace": SIDE}, {"headrace_once on kafka": {"5000": RATE}}) == []


def test_budgets_are_judged_as_they_are(reference):
    """What is just kept is met, what is just not is missed; two processes have the same budget."""
    page = reference("document").write_document(WHOLE)
    table = page.partition("## Targets")[2].partition("## Throughput")[0]
    verdicts = dict(
        re.findall(r"^\| (.*?) \| .* \| .*: (met|missed) \| .* \|$", table, re.MULTILINE)
    )
    assert verdicts == {
        "times the throughput of handwritten": "missed",
        "times the throughput of faust as two processes": "missed",
        "p50 at 20,000 events/s, ms": "met",
        "p99 at 20,000 events/s, ms": "missed",
        "p99.9 at 20,000 events/s, ms": "met",
        "first prediction, embedded, s": "met",
        "serve at full load, MB": "met",
    }


def test_an_event_that_did_not_come_misses_every_budget(reference):
    """A dash on the page, no place on the line, and a miss whatever the other percentiles say."""
    gone = RATE | {"missing": 1, "max_ms": None, "p99_9_ms": None}
    page = reference("document").write_document(
        WHOLE | {"latency": {"headrace on kafka": {"20000": gone}}}
    )
    assert "| headrace on kafka | 20,000 | 15 | 51 | - | - | 9 to 21 | 6 | 1 | 0.50 | - |" in page
    assert page.count("at 20,000 events/s, ms | - | ≤") == 3
    assert not re.search("at 20,000 events/s, ms .* met", page)
    panels = reference("plots_series").latency_series({"one": {"20000": gone}})
    assert (len(panels["p99"]), panels["p99.9"]) == (1, [])


def test_two_processes_are_beside_the_one(reference):
    """A side as two processes is held to the same budget, as Headrace is three; so is its CPU."""
    twice = SIDE | {"events_per_s": 200.0, "rounds": [190, 240]}
    sides = WHOLE["sides"] | {"handwritten_x2": twice}
    page = reference("document").write_document(WHOLE | {"sides": sides})
    one = "| times the throughput of handwritten | 3.0 (2.6 to 3.4) | ≥ 3: missed | 5.0 : 5.0 |"
    two = (
        "| times the throughput of handwritten as two processes | 1.5 (1.2 to 1.6) | ≥ 3: missed |"
    )
    assert one in page
    assert two in page
    assert "Headrace is three processes" in page


def test_ranges_that_overlap_are_marked_and_too_few_rounds_are_not_judged(reference):
    """In both tables; where not even the furthest rounds overlap nothing is marked."""
    write = reference("document").write_document
    assert "**ranges overlap**" not in write(WHOLE)
    near = {"handwritten": SIDE | {"events_per_s": 280.0, "rounds": [250, 290]}}
    page = write(WHOLE | {"sides": WHOLE["sides"] | near})
    assert page.count("| 1.1 (1.0 to 1.2), **ranges overlap** |") == 2
    once = {"handwritten": SIDE | {"rounds": [100]}}
    page = write(WHOLE | {"sides": WHOLE["sides"] | once})
    assert "| 100 | 100 to 100 | 3.0 (2.9 to 3.1) | - |" in page
    assert "times the throughput of handwritten |" not in page


def test_the_time_that_is_left_follows_the_machine(reference):
    """By the estimate first, then by the pace so far; at the end nothing is left."""
    clock = [0.0]
    left = reference("progress").Progress({"a": 10.0, "b": 5.0}, now=lambda: clock[0]).left_min
    assert (left("a", 0.0), left("b", 0.0)) == (15.0, 5.0)
    clock[0] = 300.0
    assert (left("a", 1.0), left("b", 1.0)) == (2.5, 0.0)


def test_a_busy_machine_is_said_to_be_one(reference):
    """Figures that were taken while something else ran are marked, by cores or by the load."""
    write = reference("document").write_document
    assert "not quiet" not in write(WHOLE)
    assert "met" in write(WHOLE)
    for before in ({"busy_cores_before": 0.9, "load_before": 0.0}, {"load_before": 1.5}):
        at = {"sides": {"at": "2026-11-21T12:00+00:00", "load_before": 0.0} | before}
        page = write(WHOLE | {"measured": at})
        assert "not quiet before sides" in page
        assert "| times the throughput of handwritten | 3.0 (2.6 to 3.4) | - |" in page
        assert "400: met" not in page
    at = {"at": "2026-11-21T12:00+00:00", "load_before": 9.0, "busy_cores_before": 0.1}
    assert "not quiet" not in write(WHOLE | {"measured": {"sides": at}})


def test_cores_in_use_are_seen(reference):
    """A loop of our own shows among the busy cores, which never exceed those that are there."""
    import os
    import threading

    quiet, done = reference("quiet"), threading.Event()
    thread = threading.Thread(target=lambda: all(not done.is_set() for _ in iter(int, 1)))
    thread.start()
    try:
        assert 0.2 < quiet.busy_cores(0.5) < (os.cpu_count() or 1) + 0.5
    finally:
        done.set()
        thread.join()


def test_figures_are_of_the_report(reference):
    """The lines of the figures are the numbers of the tables; what did not come is left out."""
    series = reference("plots_series")
    rows = series.throughput_series(WHOLE["sides"])
    assert rows[0] == ("headrace", "one side, 1 process", 299.0)
    gone = {"headrace on kafka": {"20000": RATE, "5000": {"missing": 9}, "1000": RATE}}
    panels = series.latency_series(gone)
    assert list(panels) == ["p50", "p99", "p99.9"]
    [line] = panels["p99"]
    assert (line.x, line.y) == ((1000.0, 20000.0), (51.0, 51.0))
    curves = series.scaling_series(WHOLE["scaling"])
    assert curves["rss_mb", "devices"].x == (100.0, 1e6)
    assert curves["events_per_s", "model_cost"].y == (5e4,)


def test_every_dimension_and_figure_has_words(reference):
    """What the scaling part measures is what its figure and its table name."""
    series, scaling = reference("plots_series"), reference("scaling")
    assert list(series.DIMENSIONS) == list(scaling.POINTS)
    assert set(series.FIGURES) == set(scaling.FIGURES)


def test_the_page_links_the_figures_that_are_drawn(reference):
    """Each link is to a file that `plots.py` makes of the same part, with words beside it."""
    links = re.findall(
        r"!\[(.+?)\]\(benchmarks/(\w+)\.svg\)", reference("document").write_document(WHOLE)
    )
    drawn = re.search(r"^DRAWN.*?^}", (FOLDER / "plots.py").read_text("utf-8"), re.M | re.S)
    assert drawn is not None
    assert {name for _, name in links} == set(re.findall(r": (\w+),", drawn[0]))


@pytest.mark.slow
def test_equal_reports_are_equal_figures(tmp_path):
    """Two runs write the same bytes: no date, no chance; another number is another file."""
    if not PLOTS.is_file():
        pytest.skip("the environment of the plots is not made; `make bench ARGS=--parts` makes it")
    other = json.loads(json.dumps(WHOLE))
    other["scaling"]["devices"][0]["rss_mb"] = 500.0
    found = []
    for number, report in enumerate((WHOLE, WHOLE, other)):
        file, folder = tmp_path / f"{number}.json", tmp_path / str(number)
        file.write_text(json.dumps(report), "utf-8")
        subprocess.run([PLOTS, FOLDER / "plots.py", file, folder], check=True, timeout=60)
        found.append({svg.name: svg.read_bytes() for svg in folder.iterdir()})
    assert found[0].keys() == {"throughput.svg", "latency.svg", "scaling.svg"}
    assert found[0] == found[1]
    assert found[0]["scaling.svg"] != found[2]["scaling.svg"]
    assert all(b"<dc:date>" not in svg and b"one side" in found[0]["throughput.svg"]
               for svg in found[0].values())  # fmt: skip
