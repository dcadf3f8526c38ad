"""The fleet against a plain judge: what the ledger says of an event is what becomes of it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.input import Input, Metric
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.client.contract import Contract
from headrace.streams.client.partition import murmur2, partitions_of
from headrace.streams.producers.delivery_plan import Order
from headrace.streams.producers.fleet import BLOCK_MS, Block, Fleet
from headrace.streams.producers.plan import EXPECTED, KINDS, OUTCOMES, Plan

START_MS = 1_795_255_200_000
PRESS = load_pipeline(pipeline_file("press"))


def pipeline(**changed: Any) -> Pipeline:
    spec = msgspec.structs.replace(PRESS.input, **changed)
    return msgspec.structs.replace(PRESS, input=spec)


def blocks(plan: Plan, of: Pipeline = PRESS, partitions: int = 3) -> list[Block]:
    fleet, found = Fleet(plan, of, partitions, START_MS), []
    while (block := fleet.take()) is not None:
        found.append(block)
    return found


def values(made: list[Block]) -> list[bytes]:
    return [value for block in made for value in block.values]


def time_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def judged(made: list[Block], spec: Input, broker_ms: int) -> list[tuple[str, str]]:
    """Expected and actual fate of every event, one by one, each partition on its own.

    The broker's time of an event is `broker_ms` after the intended time of sending.
    """
    lateness_ms = spec.allowed_lateness_s * 1000
    watermark: dict[int, int] = {}
    seen: set[str] = set()
    fates = []
    for block in made:
        for row, value in enumerate(block.values):
            event = msgspec.json.decode(value)
            place, at = int(block.partitions[row]), time_ms(event["time"])
            sent_ms = float(block.rows.send_ms[row])
            log_ms = sent_ms + broker_ms
            if at > log_ms + spec.max_skew_s * 1000:
                fate = "dead"
            elif place in watermark and at < watermark[place] - lateness_ms:
                fate = "late"
            elif event["id"] in seen:
                fate = "repeated"
            else:
                fate = "predicted"
            if fate in ("predicted", "repeated"):
                watermark[place] = max(watermark.get(place, 0), min(at, log_ms))
            seen.add(event["id"])
            fates.append((OUTCOMES[EXPECTED[block.rows.kind[row]]], fate))
    return fates


PLANS = st.builds(
    Plan,
    seed=st.integers(0, 2**32),
    devices=st.integers(1, 300),
    rate_per_s=st.floats(5, 3000),
    seconds=st.floats(0.1, 3),
    skew=st.sampled_from([0.0, 0.8, 1.5]),
    repeats=st.sampled_from([0.0, 0.02, 0.3]),
    late=st.sampled_from([0.0, 0.01, 0.3]),
    future=st.sampled_from([0.0, 0.05]),
    out_of_order=st.sampled_from([0.0, 0.2]),
    gaps=st.sampled_from([0.0, 0.3]),
)


@settings(max_examples=60, deadline=None)
@given(
    plan=PLANS,
    lateness_s=st.sampled_from([0.5, 3.0, 30.0]),
    partitions=st.integers(1, 5),
    broker_ms=st.sampled_from([-900, 0, 40, 10**9]),
)
def test_every_event_becomes_what_the_ledger_says(
    plan: Plan, lateness_s: float, partitions: int, broker_ms: int
) -> None:
    """Predicted, late, repeated or dead: for any fleet, load, lateness and partition count."""
    of = pipeline(allowed_lateness_s=lateness_s)

    fates = judged(blocks(plan, of, partitions), of.input, broker_ms)

    assert [pair for pair in fates if len(set(pair)) > 1] == []


@settings(max_examples=20, deadline=None)
@given(plan=PLANS)
def test_the_same_seed_gives_the_same_bytes(plan: Plan) -> None:
    """Twice the same fleet: equal keys, bytes, partitions, order and ledger."""
    once, twice = blocks(plan), blocks(plan)

    assert values(once) == values(twice)
    assert [b.keys for b in once] == [b.keys for b in twice]
    assert all(
        np.array_equal(getattr(a.rows, name), getattr(b.rows, name))
        for a, b in zip(once, twice, strict=True)
        for name in ("number", "seq", "kind", "anomaly", "send_ms", "metrics")
    )


def test_another_seed_or_start_gives_other_ids() -> None:
    """Runs that differ in anything never repeat one another's event ids."""
    runs = {
        Fleet(Plan(seed=seed, rate_per_s=500), PRESS, 2, START_MS + later).run
        for seed, later in ((1, 0), (1, 1), (2, 0))
    }

    assert len(runs) == 3


@settings(max_examples=30, deadline=None)
@given(plan=PLANS)
def test_every_reading_is_in_the_ledger_once(plan: Plan) -> None:
    """Numbers are those of the readings, each sent or lost once, and again only as a repeat."""
    rows = [block.rows for block in blocks(plan)]
    number = np.concatenate([r.number for r in rows])
    kind = np.concatenate([r.kind for r in rows])
    first = np.sort(number[kind != KINDS.index("repeat")])

    assert first.tolist() == list(range(len(first)))
    assert set(number.tolist()) == set(first.tolist())
    assert all(
        np.all(np.diff(b.rows.send_ms[: len(b.values)]) >= 0) for b in blocks(plan) if b.values
    )


@settings(max_examples=30, deadline=None)
@given(plan=PLANS)
def test_a_device_counts_its_readings(plan: Plan) -> None:
    """Without what was lost and repeated, a device's counter goes up by one from zero."""
    rows = [block.rows for block in blocks(plan)]
    kind = np.concatenate([r.kind for r in rows])
    once = kind != KINDS.index("repeat")
    device = np.concatenate([r.device for r in rows])[once]
    seq = np.concatenate([r.seq for r in rows])[once]

    for one in np.unique(device):
        assert sorted(seq[device == one].tolist()) == list(range(int((device == one).sum())))


@settings(max_examples=100, deadline=None)
@given(
    keys=st.integers(0, 19).flatmap(
        lambda n: st.lists(st.binary(min_size=n, max_size=n), min_size=1, max_size=20)
    ),
    count=st.integers(1, 50),
)
def test_partitions_of_many_keys_are_those_of_each(keys: list[bytes], count: int) -> None:
    """The columns of murmur2 are murmur2."""
    rows = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)

    found = partitions_of(rows, count).tolist()

    assert found == [(murmur2(key) & 0x7FFFFFFF) % count for key in keys]


@settings(max_examples=200, deadline=None)
@given(
    cuts=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 50)), max_size=12), max_size=5
    )
)
def test_overtaken_is_older_than_the_devices_newest(
    cuts: list[list[tuple[int, int]]],
) -> None:
    """Whatever the cut: a row is overtaken when its device has sent a newer one."""
    order, newest = Order(4, 1), dict[int, int]()
    for cut in cuts:
        devices = np.array([d for d, _ in cut], np.int64)
        times = np.array([START_MS + t for _, t in cut], np.int64)
        expected = []
        for device, at in cut:
            expected.append(at < newest.get(device, -100))
            newest[device] = max(newest.get(device, -100), at)

        assert order.overtaken(devices, times).tolist() == expected


def test_anomalies_change_what_they_label_and_nothing_else() -> None:
    """With and without anomalies: readings differ in one metric exactly where a label is."""
    plan = {"rate_per_s": 2000.0, "seconds": 30.0, "devices": 400, "repeats": 0.0}
    calm = blocks(Plan(**plan, anomalies=0.0))
    wild = blocks(Plan(**plan, anomalies=0.4))
    found: Counter[int] = Counter()
    for a, b in zip(calm, wild, strict=True):
        before, after = np.argsort(a.rows.number), np.argsort(b.rows.number)
        changed = (a.rows.metrics[before] != b.rows.metrics[after]).sum(axis=1)
        label = b.rows.anomaly[after]
        assert not changed[label == 0].any()
        assert (changed[label > 0] <= 1).all()
        found.update(label[changed > 0].tolist())

    assert sorted(found) == list(range(1, 9))


@pytest.mark.parametrize(
    "changed",
    [
        {"time": "ts", "time_unit": "ns", "entity": "a.b", "id": "x.y.id", "sequence": "n"},
        {"time_unit": "s", "id": ""},
        {"time_unit": "ms", "metrics": {"m": Metric(path="deep.er.m", min=0.0, max=1.0)}},
        {"format": "cloudevents", "entity": "subject", "time": "time", "id": "id"},
        {"entity": "operator", "entity_personal": True},
    ],
)
def test_every_form_of_input_is_met(changed: dict[str, Any]) -> None:
    """The pipeline's own decoder takes every event that is to be predicted, for any mapping."""
    of = pipeline(**changed)
    contract = Contract(of)
    for block in blocks(Plan(rate_per_s=2000, seconds=0.3, future=0.0), of):
        keys = contract.keys(
            [None] * len(block.values), block.values, [()] * len(block.values), START_MS + 1e6
        )
        assert keys == block.keys[: len(block.values)]
        assert (block.rows.kind == KINDS.index("repeat")).any() <= (of.input.id is not None)


def test_a_block_is_as_long_as_it_says() -> None:
    """Every event of a block is due in it."""
    for number, block in enumerate(blocks(Plan(rate_per_s=500, seconds=1))):
        due = block.rows.send_ms[: len(block.values)] - START_MS - number * BLOCK_MS
        assert ((due >= 0) & (due < BLOCK_MS)).all()
