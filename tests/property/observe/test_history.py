"""History: a restart at any point goes on as if there had been none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.objectives import Objective, Objectives
from headrace.schemas.observe import Drift
from headrace.schemas.observed import Finding, Image, ObservedRecord
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.streams.observe.drift_book import DriftBook
from headrace.streams.observe.drift_sketch import WindowCounts
from headrace.streams.observe.error_budget import BudgetState
from headrace.streams.observe.history import IMAGE_EVERY, History, largest
from headrace.streams.observe.history_topic import TAILS, read
from headrace.streams.observe.objectives import ObjectiveBook
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.samples import Samples
from headrace.streams.upstream.quantiles import Bins
from headrace.streams.workers.supervisor import Supervisor

FILE = Path(__file__).parents[3] / "examples" / "press" / "pipeline.toml"
RULES = Drift(least_rows=20, reference_windows=4)
INPUTS = ("one",)
SIZE = len(INPUTS) + 2


def window(number: int, name: str, level: float) -> WindowCounts:
    values = level + np.linspace(1, 2, 40 * SIZE).reshape(40, SIZE)
    place = np.tile(np.arange(SIZE), 40)
    bins = Bins.empty(SIZE).folded(place, values.reshape(-1))
    return WindowCounts(number, name, 40, int(level) % 40, bins.encode())


def judged(levels: list[float], cut: int | None) -> list[Finding]:
    """Findings of these windows, one level each; behind `cut` of them by another life."""
    book, found = DriftBook(RULES, INPUTS), []
    for number, level in enumerate(levels):
        if number == cut:
            image = Image(references=tuple(book.references()), judged=book.judged)
            image = msgspec.json.decode(msgspec.json.encode(image), type=Image)
            book = DriftBook(RULES, INPUTS)
            book.restore(image, found)
            # The workers were told of too, and tell of the windows still open again.
            for older in range(max(0, number - 2), number):
                take(book, older, levels[older])
        take(book, number, level)
        found += book.untold()
    return found


def take(book: DriftBook, number: int, level: float) -> None:
    told = [window(number, "a", level), window(number, "b", level * 2)]
    book.take(("serve", 0), "m", told)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 9), min_size=8, max_size=14), st.integers(0, 13))
def test_drift_goes_on_after_a_restart(levels: list[float], cut: int) -> None:
    """The same findings to the bit, whether the reference was learned before, after or across."""
    assert judged(levels, cut) == judged(levels, None)


PRESS = msgspec.structs.replace(
    load_pipeline(FILE),
    slo=Objectives(site={"answers": Objective(kind="success", least_events=1, window_h=24.0)}),
)
SLOT_S = 10.0
LABELS = ("press", "serve", "out"), ("press", "enrich", "dead")


def samples(good: int, bad: int) -> Samples:
    out, dead = (("headrace_stream_events_total", labels) for labels in LABELS)
    return {out: float(good), dead: float(bad)}


class Life:
    """One `up` of a pipeline, as far as its history goes; its clock stands at `now_s`."""

    def __init__(self, pipeline: Pipeline = PRESS, *, teller: str = "here") -> None:
        supervisor = Supervisor.__new__(Supervisor)
        supervisor.workers, supervisor.told = [], []
        self.readings = Readings(pipeline.name, supervisor)
        self.book = ObjectiveBook(pipeline.name, pipeline.slo, lambda: "unknown")
        self.history = History(pipeline, self.readings, self.book, teller)
        self.good = self.bad = 0

    def look(self, now_s: float, good: int, bad: int) -> None:
        self.good, self.bad = self.good + good, self.bad + bad
        self.book.observe(now_s, round(now_s * 1000), samples(self.good, self.bad), {})

    def tell(self, now_s: float) -> ObservedRecord:
        made = read(msgspec.json.encode(self.history.record(round(now_s * 1000), SLOT_S)))
        assert made is not None
        return made

    def state(self) -> BudgetState:
        (state,) = self.book.states()
        return state


minutes = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 40)), min_size=1, max_size=90)


@settings(max_examples=25, deadline=None)
@given(minutes, st.lists(st.integers(1, 89), max_size=3), st.booleans())
def test_budgets_go_on_after_any_restarts(
    counts: list[tuple[int, int]], cuts: list[int], repeated: bool
) -> None:
    """Same state and open incidents as without one; a record that came twice counts once."""
    whole, life, log = Life(), Life(), list[ObservedRecord]()
    for number, (good, bad) in enumerate(counts):
        now_s = 1e6 + number * SLOT_S
        if number in cuts:
            life = Life()
            life.history.restore(log[-120:], now_s, round(now_s * 1000))
        for one in (whole, life):
            one.look(now_s, good, bad)
        log += [life.tell(now_s)] * (1 + repeated)

    assert life.state() == whole.state()
    open_ones = [
        [(i.objective, i.start_ms, i.bad) for i in one.book.incidents if i.end_ms is None]
        for one in (whole, life)
    ]
    assert open_ones[0] == open_ones[1]


def test_another_machine_goes_on_where_there_is_none_of_ones_own() -> None:
    """One's own image comes first, however old; else the newest of any."""
    here, there = Life(teller="here"), Life(teller="there")
    here.look(1e6, 10, 1)
    log = [here.tell(1e6)]
    there.look(1e6, 700, 7)
    log.append(there.tell(1e6 + 1))
    restarted, third, alone = Life(teller="here"), Life(teller="third"), Life()
    for life in (restarted, third):
        assert life.history.restore(log, 1e6 + 2, round((1e6 + 2) * 1000))

    assert (restarted.state().good, third.state().good) == (10, 700)
    assert not alone.history.restore([], 1e6, 10**9)


def test_a_history_always_has_an_image_within_reach() -> None:
    """Between two images lie fewer records than a restart reads."""
    life = Life()
    found = [life.tell(1e6 + k).image is not None for k in range(2 * IMAGE_EVERY + 1)]
    places = [k for k, has in enumerate(found) if has]

    assert places == [0, IMAGE_EVERY, 2 * IMAGE_EVERY]
    assert TAILS[0] > IMAGE_EVERY


def test_of_many_indicators_alarms_are_kept() -> None:
    """A record is bounded: the alarm with the smallest index stays, the order too."""
    many = [Finding(k, "a", "q", 1.0 + k, 0.1, 0.2, alarm=False) for k in range(999)]
    alarm = Finding(999, "a", "q", 0.0, 0.9, 0.2, alarm=True)

    kept = largest([*many, alarm])

    assert len(kept) == 256
    assert kept[-1] == alarm
    assert [f.window for f in kept] == sorted(f.window for f in kept)
