"""Fast paths give what the slow ones give, at sizes where they are really taken."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fakes import enrich_world as world
from hypothesis import given
from hypothesis import strategies as st

from headrace.enrichers import runs as runs_module
from headrace.enrichers.decode import Decoder
from headrace.enrichers.enricher import Enricher
from headrace.enrichers.operators import window
from headrace.enrichers.runs import Runs, scan, scan_blend, scan_decay
from headrace.enrichers.times import parse_iso, parse_one
from headrace.schemas.batch import F64

SIZES = {
    "one hot key": [4000],
    "hot key among many": [3000, *([7] * 200)],
    "two hot keys": [900, 40, 901, 1, 1],
    "all alike": [20] * 250,
    "one each": [1] * 500,
}


def plain_scan(values: F64, carry: F64, sizes: list[int]) -> F64:
    """Each group's running sum, one Python addition after the other."""
    rows, out = iter(values.tolist()), []
    for size, start in zip(sizes, carry.tolist(), strict=True):
        so_far = start
        for _ in range(size):
            so_far = [s + x for s, x in zip(so_far, next(rows), strict=True)]
            out.append(so_far)
    return np.array(out)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_sums_along_groups(sizes: list[int]) -> None:
    """Running sums have the bits of one addition after the other, for any mix of group sizes."""
    draw = np.random.default_rng(7)
    count = sum(sizes)
    values, carry = draw.normal(size=(count, 5)), draw.normal(size=(len(sizes), 5))
    groups = Runs(np.cumsum([0, *sizes[:-1]]), np.array(sizes))

    assert (
        scan(np.add, groups, values, carry).tobytes() == plain_scan(values, carry, sizes).tobytes()
    )


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_recurrences_along_groups(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], gaps: float
) -> None:
    """The path on Python floats, the path by rank and their mixture have the same bits."""
    draw = np.random.default_rng(8)
    count = sum(sizes)
    values, carry = draw.normal(size=(count, 4)), np.full((len(sizes), 4), np.nan)
    values[draw.random(values.shape) < gaps] = np.nan
    groups = Runs(np.cumsum([0, *sizes[:-1]]), np.array(sizes))
    weights = np.array([0.05, 0.1, 0.5, 1.0])

    def both() -> tuple[bytes, bytes]:
        blended = scan_blend(groups, values, carry, weights)
        decayed = scan_decay(groups, values, np.zeros_like(carry), 1.0 - weights)
        return blended.tobytes(), decayed.tobytes()

    mixed = both()
    monkeypatch.setattr(runs_module, "HOT_CELLS", 0)
    by_rank = both()
    monkeypatch.setattr(runs_module, "HOT_CELLS", 1 << 40)
    monkeypatch.setattr(runs_module, "HOT_RANKS_PER_GROUP", 0)
    assert mixed == by_rank == both()


@given(
    st.lists(
        st.tuples(
            st.datetimes(),
            st.sampled_from(["", ".0", ".12", ".123", ".9999", ".999999", ".123456789", ",5"]),
            st.sampled_from(["Z", "z", "+00:00", "-05:30", "+23:59", "+24:00", "*00:00", "+0a:00"]),
        ),
        max_size=8,
    )
)
def test_times_by_column_and_one_by_one(parts: list[tuple[datetime, str, str]]) -> None:
    """Times read by arithmetic over a column are those read one by one."""
    texts = [f"{moment:%Y-%m-%dT%H:%M:%S}".zfill(19) + rest + zone for moment, rest, zone in parts]
    times, _ = parse_iso(texts)

    assert times.tolist() == [parse_one(text) for text in texts]


@given(
    st.sampled_from(["2026-11-21T10:", "0001-01-01T00:", "9999-12-31T23:", "2026-02-30T10:"]),
    st.lists(
        st.tuples(
            st.integers(0, 3599),
            st.one_of(st.none(), st.tuples(st.integers(0, 8), st.sampled_from("0695:.Za /"))),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", ".1", ".12", ".123", ".999999"]),
    st.sampled_from(["Z", "+00:30", "-00:30"]),
)
def test_times_within_one_hour(
    hour: str, parts: list[tuple[int, tuple[int, str] | None]], fraction: str, zone: str
) -> None:
    """Times that share their hour, some with one character wrong, are those read one by one."""
    texts = []
    for second, fault in parts:
        rest = list(f"{second // 60:02d}:{second % 60:02d}{fraction}")
        if fault is not None and fault[0] < len(rest):
            rest[fault[0]] = fault[1]
        texts.append(hour + "".join(rest) + zone)
    times, _ = parse_iso(texts)

    assert times.tolist() == [parse_one(text) for text in texts]


def test_times_against_the_calendar() -> None:
    """Every day of four centuries is the one Python's calendar says."""
    first = datetime(1850, 1, 1, 23, 59, 59, tzinfo=UTC)
    days = [first + timedelta(days=n) for n in range(0, 146_100, 7)]
    times, valid = parse_iso([f"{day:%Y-%m-%dT%H:%M:%S}Z" for day in days])

    assert valid.all()
    assert times.tolist() == [round(day.timestamp()) * 1000 for day in days]


def test_decoding_a_batch_and_each_record() -> None:
    """A clean batch decoded at once holds what its records decoded one by one hold."""
    values = [
        world.event(f"e{n}", f"d{n % 7}", world.START_MS + n, load=n / 7, heat=-n / 3)
        for n in range(500)
    ]
    decode = Decoder(world.pipeline().input)
    whole = decode(world.batch(values)).events
    beside = decode(world.batch([*values, b"{"])).events

    assert whole.metrics.tobytes() == beside.metrics.tobytes()
    assert whole.event_times_ms.tobytes() == beside.event_times_ms.tobytes()
    assert (whole.ids, whole.entities) == (beside.ids, beside.entities)


@pytest.mark.parametrize("cells", [1, 1 << 21], ids=["piece by piece", "at once"])
def test_large_batches_are_the_reference(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """A hot device among many, out of order, in one batch: the bits of the plain definitions."""
    monkeypatch.setattr(window, "_CELLS_AT_ONCE", cells)
    draw = np.random.default_rng(9)
    values = []
    for n in range(700):
        device = "hot" if draw.random() < 0.6 else f"d{draw.integers(40)}"
        late = int(draw.choice([0, 0, 0, 1200, 4000]))
        values.append(
            world.event(f"e{n}", device, world.START_MS + n * 30 - late, load=draw.normal(50, 9))
        )
    records, spec = world.batch(values), world.pipeline()

    assert world.run(Enricher(spec), records, []).verdicts == world.expected(spec, records)


def test_bits_are_pinned() -> None:
    """The features of a fixed log have the bits they had when this was written."""
    values = [
        world.event(f"e{n}", f"d{n % 2}", world.START_MS + n * 700, load=0.1 * n + 1 / (n + 3))
        for n in range(30)
    ]
    spec = world.pipeline()
    subject = Enricher(spec)
    found = subject.apply(subject.new_state(), world.batch(values)).featured.values[-1]
    names = [column.name for column in spec.columns()]
    told = {name: struct.pack(">d", x).hex() for name, x in zip(names, found, strict=True)}

    assert {name: told[name] for name in PINNED} == PINNED


PINNED = {
    "load_delta": "3fc9555555555560",
    "load_rate": "3fc218618618618e",
    "load_ewma": "3ff1b257e65fe19a",
    "fast": "4003cfc7ecaadd78",
    "load_zscore": "3ffaac79e8a4a579",
    "load_sum_10s": "40306039b226c556",
    "load_mean_10s": "4002b71d5de32aab",
    "load_std_10s": "3fd934731b04630f",
    "load_max_10s": "4007733333333334",
    "load_min_4s": "4007733333333334",
}
