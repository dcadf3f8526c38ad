"""A side that fails is shown as failed and takes no other side with it."""

import asyncio
import doctest
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"
SHOWN = sorted(f.stem for f in FOLDER.glob("*.py") if ">>> " in f.read_text("utf-8"))
RESULT = {
    "events_per_s": 100, "us_cpu_per_event": 5.0, "us_cpu_of_services": None,
    "rss_mb": 50.0, "window_s": 8.0, "processes_mb": {"process 1": 50.0},
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_examples_are_as_they_say(reference, name):
    """Every example in the benchmark's docstrings gives what is shown."""
    found = doctest.testmod(reference(name))
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.fixture
def campaign(reference, monkeypatch):
    """A way to run rounds with sides that are functions of their number; it says how far it is."""
    throughput, written = reference("throughput"), reference("written")

    def run(sides, rounds):
        turns, shares = dict.fromkeys(sides, -1), []

        async def side(bus, store, telemetry, name, run, count):
            if "warm" in run:
                raise SystemExit("nothing is warm here")
            turns[name] += 1
            score = sides[name](turns[name])
            wrote = written.Predictions.none(count)
            wrote.scores[:], wrote.size = score, 400 * count
            return RESULT, wrote

        async def fill(*args, **options):
            return 200.0

        async def delete(*names):
            return None

        monkeypatch.setattr(throughput, "run_side", side)
        monkeypatch.setattr(throughput, "fill", fill)
        monkeypatch.setattr(throughput, "delete", delete)
        found = asyncio.run(
            throughput.throughput(
                "", "", list(sides), rounds=rounds, most=10, seed=1, told=shares.append
            )
        )
        of = rounds * len(sides)
        assert shares == [done / of for done in range(of)]
        return found

    return run


def fails(number):
    raise SystemExit("it ended\nits log")


def test_a_side_that_fails_is_in_the_report(campaign, reference):
    """With its reasons and no figure; the others have theirs."""
    found = campaign({"headrace": lambda _: 0.5, "faust": fails, "quix": lambda _: 0.5}, rounds=2)
    assert list(found) == ["headrace", "faust", "quix"]
    assert [len(side.get("rounds", [])) for side in found.values()] == [2, 0, 2]
    assert "events_per_s" not in found["faust"]
    assert reference("outcomes").failures({"sides": found}) == [
        "faust, round 1: it ended",
        "faust, round 2: it ended",
    ]


def test_a_round_with_other_scores_is_no_result(campaign):
    """The round counts as failed, the side's other rounds stand, and the next side is compared."""
    found = campaign(
        {"headrace": lambda _: 0.5, "bytewax": lambda number: 0.5 if number else 0.6}, rounds=3
    )
    assert len(found["headrace"]["rounds"]) == 3
    assert len(found["bytewax"]["rounds"]) == 2
    [why] = found["bytewax"]["failed"]
    assert why.startswith("round 1: bytewax differs from headrace")


def watched(reference, monkeypatch, logs, *, transactions):
    """What `watch` says of a side whose output had these lengths, one look a second."""
    watching = reference("watching")
    asked = iter(logs)
    running = SimpleNamespace(
        processes=[], output="out", first="out", transactions=transactions, ended=lambda: False
    )

    @asynccontextmanager
    async def ends_of(bus, side):
        last = [0]

        async def ends(topic):
            return last

        running.step = lambda length: last.__setitem__(0, length)
        yield ends

    async def looks(side):
        for second, length in enumerate(asked):
            side.step(length)
            yield float(second)

    monkeypatch.setattr(watching, "ends_of", ends_of)
    monkeypatch.setattr(watching, "looks", looks)
    return asyncio.run(watching.watch("", running, 100))


def test_a_log_of_transactions_ends_when_it_is_quiet(reference, monkeypatch):
    """Markers take offsets: 100 of them are not 100 predictions; no more change is the end."""
    logs = [0, 20, 90, 101, 101, 103, 103, 103, 103]
    found = watched(reference, monkeypatch, logs, transactions=False)
    assert (found["events_per_s"], found["window_s"]) == (40, 2.0)
    found = watched(reference, monkeypatch, logs, transactions=True)
    assert (found["events_per_s"], found["window_s"]) == (40, 2.0)
    with pytest.raises(SystemExit, match="103 of 100 predictions"):
        watched(reference, monkeypatch, logs[:-1], transactions=True)
    with pytest.raises(SystemExit, match="90 of 100 predictions"):
        watched(reference, monkeypatch, logs[:3], transactions=False)
