"""Whatever comes in, in whatever batches: no error, no record uncounted, the same verdicts.

`make fuzz` runs a million records through the long one; ``FUZZ_EVENTS`` sets another number.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fakes.agent_path import AgentPath, Ended
from fakes.event_grammar import TWISTS, log_times, record_of
from fakes.input_forms import FORMS, Form, Record
from fakes.rekeyed_path import RekeyedPath
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import strategies as st

from headrace.enrichers import enricher
from headrace.enrichers.verdicts import CODES

EVENTS = int(os.environ.get("FUZZ_EVENTS", "4000"))
LOG = 1000
"""Records of one log of the long tests."""
KEYS = ("entity", "any", "rekey")
"""Rules of the key; the last has the intake stage before the others."""
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]

Spelt = Sequence[tuple[int, tuple[str, ...]]]
"""A log: each record's seed and twists."""


class Paths:
    """Both agents for each form and rule of the key, made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], AgentPath] = {}
        self._runner = asyncio.Runner()
        self.seen: Counter[str] = Counter()

    def of(self, form: Form, key: str) -> AgentPath:
        """The path of one form."""
        if (form.name, key) not in self._made:
            folder = self._folder / f"{form.name}-{key}"
            folder.mkdir()
            rekeyed = key == "rekey"
            made = RekeyedPath(folder, form) if rekeyed else AgentPath(folder, form, key=key)
            self._made[form.name, key] = made
        return self._made[form.name, key]

    def run(self, what: Coroutine[Any, Any, None]) -> None:
        """In the one event loop of all of them."""
        self._runner.run(what)

    def take(
        self, path: AgentPath, records: list[Record], times: list[int], cuts: Sequence[int]
    ) -> Ended:
        """What becomes of a log cut before each of `cuts`; every record is one thing."""

        async def run() -> None:
            edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
            for start, stop in pairwise(edges):
                await path.take(path.batch(records[start:stop], start, times[start:stop]))

        path.begin()
        self.run(run())
        ended = path.finish()
        ended.balance(len(records))
        codes = Counter(code for _, code in ended.verdicts.values() if code)
        assert not codes.keys() & {"record.failed", "model.failed"}, codes
        self.seen.update(codes)
        return ended

    def close(self) -> None:
        """End every scorer."""
        for path in self._made.values():
            self._runner.run(path.close())
        self._runner.close()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """The paths of this module."""
    made = Paths(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


def same(one: Ended, other: Ended) -> None:
    """Two cuts of one log: equal to the bit."""
    assert other.verdicts == one.verdicts
    assert other.features == one.features
    assert other.predictions == one.predictions
    assert other.counts["enrich"] == one.counts["enrich"]
    assert other.counts.get("intake") == one.counts.get("intake")


def check(paths: Paths, form: Form, key: str, spelt: Spelt, times: list[int], cut: int) -> Ended:
    """One log, whole and cut in random places."""
    path = paths.of(form, key)
    records = [record_of(form, number, seed, twists) for number, (seed, twists) in enumerate(spelt)]
    draw = random.Random(cut)
    share = draw.choice((0.005, 0.005, 0.02, 0.3)) if len(spelt) > 100 else draw.random()
    whole = paths.take(path, records, times, [])
    cuts = [place for place in range(len(records)) if draw.random() < share]
    same(whole, paths.take(path, records, times, cuts))
    return whole


twisted = st.lists(st.sampled_from(TWISTS), max_size=3).map(tuple)


@given(
    form=st.sampled_from(FORMS),
    key=st.sampled_from(KEYS),
    spelt=st.lists(st.tuples(st.integers(0, 2**32), twisted), min_size=1, max_size=12),
    cut=st.integers(0, 2**32),
    loose=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_a_few_records(
    paths: Paths, form: Form, key: str, spelt: Spelt, cut: int, loose: bool
) -> None:
    """Each record chosen by itself, so that a failing log shrinks to the records at fault."""
    times = log_times(len(spelt), cut, set_by_producers=loose)
    check(paths, form, key, spelt, times, cut)


@dataclass(frozen=True)
class Recipe:
    """A long log.

    Attributes:
        form: How it is written.
        key: The pipeline's rule of the key.
        twists: What may be wrong with its records.
        bad: Share of its records that have something wrong.
        seed: Everything else.
        loose: Producers set the broker's times.
    """

    form: Form
    key: str
    twists: tuple[str, ...]
    bad: float
    seed: int
    loose: bool

    def log(self, count: int) -> Spelt:
        """Its records."""
        draw = random.Random(self.seed)
        return [
            (
                draw.getrandbits(32),
                tuple(draw.choices(self.twists, k=draw.randrange(1, 4)))
                if draw.random() < self.bad
                else (),
            )
            for _ in range(count)
        ]


recipes = st.builds(
    Recipe,
    form=st.sampled_from(FORMS),
    key=st.sampled_from(KEYS),
    twists=st.lists(st.sampled_from(TWISTS), min_size=1, max_size=8, unique=True).map(tuple),
    bad=st.sampled_from([0.01, 0.2, 0.9]),
    seed=st.integers(0, 2**32),
    loose=st.booleans(),
)


def resident_mb() -> float:
    """Memory of this process, MiB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096 / (1 << 20)


@pytest.mark.timeout(5400)
def test_long_logs(paths: Paths) -> None:
    """Logs of hundreds of records, by recipes that look for verdicts not yet met together."""
    done = 0

    @given(recipes)
    @settings(
        max_examples=max(1, EVENTS // LOG),
        deadline=None,
        database=None,
        suppress_health_check=QUIET,
        phases=[Phase.generate, Phase.target, Phase.shrink],
    )
    def fuzz(recipe: Recipe) -> None:
        nonlocal done
        times = log_times(LOG, recipe.seed, set_by_producers=recipe.loose)
        ended = check(paths, recipe.form, recipe.key, recipe.log(LOG), times, recipe.seed)
        done += LOG
        target(float(len(set(ended.verdicts.values()))), label="verdicts in one log")

    fuzz()
    print(f"\n{done} records, each twice; codes {dict(paths.seen.most_common())}")
    assert done >= EVENTS
    if EVENTS >= 100_000:
        # One large record in a hundred is above the limit: not every run draws one.
        large = Recipe(FORMS[0], KEYS[0], ("large",), 0.9, 1, loose=False).log(LOG)
        check(paths, FORMS[0], KEYS[0], large, log_times(LOG, 1, set_by_producers=False), 1)
        assert {*CODES, "time.late"} <= paths.seen.keys()


@pytest.mark.timeout(5400)
def test_memory_is_given_back(paths: Paths) -> None:
    """However many logs: without Hypothesis, which remembers what it has drawn."""
    sizes = []
    for seed in range(max(3, EVENTS // LOG // 3)):
        draw = random.Random(seed)
        twists = tuple(draw.sample(TWISTS, draw.randrange(1, 9)))
        form, key = draw.choice(FORMS), draw.choice(KEYS)
        recipe = Recipe(form, key, twists, draw.choice((0.01, 0.2, 0.9)), seed, loose=seed % 2 == 0)
        times = log_times(LOG, seed, set_by_producers=recipe.loose)
        check(paths, form, key, recipe.log(LOG), times, seed)
        sizes.append(resident_mb())
    third = len(sizes) // 3
    # The least of each third: a log of large records is no growth.
    early_mb, late_mb = min(sizes[third : 2 * third]), min(sizes[-third:])
    print(
        f"\n{len(sizes)} logs; memory in the second third {early_mb:.0f} MB, then {late_mb:.0f} MB"
    )
    # A leak of one record in twenty would be thirty megabytes.
    assert late_mb - early_mb < 24


def test_a_cut_that_shows_is_found(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that judges the first record of a batch by itself fails this suite."""
    honest = enricher.split_late

    def forgetful(*args: Any) -> Any:
        is_late, *rest = honest(*args)
        is_late[:1] = False
        return is_late, *rest

    spelt = Recipe(FORMS[0], "any", ("moved",), 0.9, 7, loose=False).log(90)
    times = log_times(len(spelt), 0, set_by_producers=False)
    check(paths, FORMS[0], "any", spelt, times, 1)
    monkeypatch.setattr(enricher, "split_late", forgetful)
    with pytest.raises(AssertionError):
        check(paths, FORMS[0], "any", spelt, times, 1)


@pytest.mark.timeout(300)
def test_a_state_stays_small(paths: Paths) -> None:
    """One state over a long log of few devices holds what lateness and devices bound."""
    path = paths.of(FORMS[0], "any")
    count, sizes = max(EVENTS // 10, 4000), list[int]()

    async def run() -> None:
        times = log_times(count, 0, set_by_producers=False)
        for start in range(0, count, LOG):
            records = [
                record_of(FORMS[0], number, number, ("flip",) if number % 3 == 0 else ())
                for number in range(start, start + LOG)
            ]
            await path.take(path.batch(records, start, times[start : start + LOG]))
            sizes.append(path.states["enrich"].memory_bytes)  # type: ignore[attr-defined]

    path.begin()
    paths.run(run())
    path.ended.balance(count // LOG * LOG)
    assert max(sizes) < 3 * sizes[2]
