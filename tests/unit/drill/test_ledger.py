"""The ledger sees what it looks for: each kind of damage, put into an honest dump, is a breach."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.drill_pipeline import drill_pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.ids import prediction_ids
from headrace.streams.drill.ledger import Dump, Found, understand
from headrace.streams.drill.load import Row, make_load
from headrace.streams.drill.verdict import Tally, account, breaches, repeated, tally

TOPIC, BATCH_ROWS, BLOCK_ROWS = "telemetry", 100, 50
TOPICS = ("features", "predictions", "deadletter", "late", "summaries")
PARTITIONS = 4
LOAD = make_load(drill_pipeline(), 3, 2000)


def honest() -> Dump:
    """What a run without a fault would leave, a new copy."""
    return Dump("press", TOPIC, *(copied(getattr(made("press"), topic)) for topic in TOPICS))


def copied(records: dict[int, list[Any]]) -> dict[int, list[Any]]:
    """Records themselves are never changed, only replaced."""
    return {partition: list(rows) for partition, rows in records.items()}


@functools.cache
def calm() -> Found:
    return understand(LOAD, made("calm"))


@functools.cache
def made(name: str) -> Dump:
    dump = Dump(name, TOPIC, *({p: [] for p in range(PARTITIONS)} for _ in range(5)))
    for partition, rows in LOAD.by_partition.items():
        kept = {
            fate: [(o, row) for o, row in enumerate(rows) if row.fate == fate]
            for fate in ("valid", "late", "dead")
        }
        valid = kept["valid"]
        for start in range(0, len(valid), BLOCK_ROWS):
            dump.features[partition].append(
                (None, block(partition, valid[start : start + BLOCK_ROWS]), ())
            )
        ids = prediction_ids(name, TOPIC, partition, np.array([o for o, _ in valid]))
        for (offset, row), ident in zip(valid, ids, strict=True):
            value = prediction(ident.decode(), partition, offset, row)
            dump.predictions[partition].append((row.device.encode(), value, ()))
        for offset, row in kept["dead"]:
            source = f"{TOPIC}[{partition}]@{offset}".encode()
            headers = [("code", row.code.encode()), ("source", source), ("stage", b"enrich")]
            dump.deadletter[partition].append((row.device.encode(), row.value, headers))
        dump.late[partition] = [(row.device.encode(), row.value, ()) for _, row in kept["late"]]
    dump.summaries[0] = windows(name, list(LOAD.places("valid").values()))
    return dump


def block(partition: int, rows: list[tuple[int, Row]]) -> bytes:
    offsets = np.array([offset for offset, _ in rows])
    return FeatureBlock(
        pipeline="press",
        pipeline_digest="0",
        numerics="n",
        topic=TOPIC,
        partition=partition,
        columns=("load",),
        offsets=offsets,
        event_times_ms=np.array([row.at_ms for _, row in rows]),
        log_times_ms=offsets + 5,
        features=np.sqrt(offsets.astype(np.float64)).reshape(-1, 1),
        entities=Labels.encode([row.device for _, row in rows]),
        event_ids=[row.event.encode() for _, row in rows],
        metrics=np.empty((len(rows), 0)),
    ).encode()


def prediction(ident: str, partition: int, offset: int, row: Row, **changes: Any) -> bytes:
    facts = {
        "id": ident,
        "event_id": row.event,
        "device_id": row.device,
        "score": offset / 1e6,
        "tier": "light",
        "flags": [],
        "source": f"{TOPIC}[{partition}]@{offset}",
        "times_ms": {"ingest": offset + 5, "served": 9},
    }
    return json.dumps(facts | changes).encode()


def windows(name: str, rows: list[Row]) -> list[Any]:
    starts = sorted({row.at_ms // 500 * 500 for row in rows})
    return [
        (None, json.dumps({
            "pipeline": name, "group": "all",
            "window_start_ms": start, "window_end_ms": start + 500,
            "rows": sum(start <= row.at_ms < start + 500 for row in rows), "sum": start / 7,
        }).encode(), ())
        for start in starts[:-2]
    ]  # fmt: skip


def verdict(dump: Dump, repeats: dict[str, int] | None = None) -> list[str]:
    found = understand(LOAD, dump)
    return breaches(LOAD, found, calm(), repeats=repeats or {}, batch_rows=BATCH_ROWS)


def numbers(dump: Dump) -> Tally:
    return tally(LOAD, understand(LOAD, dump), calm())


def test_an_honest_run_has_no_breach() -> None:
    """Nothing is found where nothing is wrong; the load holds every fate."""
    assert {"valid", "repeat", "late", "dead"} <= LOAD.fates().keys()
    assert verdict(honest()) == []
    assert numbers(honest()) == Tally(lost=0, differing=0, out_of_order=0, repeated=0)


def test_a_kill_may_repeat_a_batch() -> None:
    """Equal repeats of one batch of the killed stage are no breach, served time and tier aside."""
    dump = honest()
    dump.features[1].insert(5, dump.features[1][4])
    again = [
        (key, value.replace(b'"served": 9', b'"served": 11').replace(b"light", b"cache"), ())
        for key, value, _ in dump.predictions[2][:50]
    ]
    dump.predictions[2][50:50] = again
    assert verdict(dump, {"enrich": 1, "serve": 1}) == []
    assert understand(LOAD, dump).predictions.repeats == 50


def lose_a_prediction(dump: Dump) -> None:
    del dump.predictions[1][7]


def lose_a_block(dump: Dump) -> None:
    del dump.features[0][3]


def lose_a_dead_letter(dump: Dump) -> None:
    del dump.deadletter[2][1]


def change_a_code(dump: Dump) -> None:
    key, value, headers = dump.deadletter[2][1]
    dump.deadletter[2][1] = (key, value, [("code", b"event.type"), *headers[1:]])


def lose_a_late_event(dump: Dump) -> None:
    del dump.late[3][0]


def lose_a_window(dump: Dump) -> None:
    del dump.summaries[0][0]


def change_a_window(dump: Dump) -> None:
    key, value, headers = dump.summaries[0][0]
    dump.summaries[0][0] = (key, json.dumps(json.loads(value) | {"sum": 0.5}).encode(), headers)


def release_a_window_twice_and_differently(dump: Dump) -> None:
    key, value, headers = dump.summaries[0][0]
    again = json.dumps(json.loads(value) | {"sum": 0.5}).encode()
    dump.summaries[0].append((key, again, headers))


def amend_a_window_wrongly(dump: Dump) -> None:
    key, value, headers = dump.summaries[0][0]
    more = json.loads(value) | {"rev": 1, "rows": 10**6}
    dump.summaries[0].append((key, json.dumps(more).encode(), headers))


def change_a_score(dump: Dump) -> None:
    key, value, headers = dump.predictions[0][9]
    changed = json.dumps(json.loads(value) | {"score": 0.123}).encode()
    dump.predictions[0][9] = (key, changed, headers)


def repeat_with_another_score(dump: Dump) -> None:
    key, value, headers = dump.predictions[0][9]
    changed = json.dumps(json.loads(value) | {"score": 0.123}).encode()
    dump.predictions[0].insert(10, (key, changed, headers))


def change_an_id(dump: Dump) -> None:
    key, value, headers = dump.predictions[0][9]
    dump.predictions[0][9] = (key, json.dumps(json.loads(value) | {"id": "00"}).encode(), headers)


def flag_one(dump: Dump) -> None:
    key, value, headers = dump.predictions[0][9]
    changed = json.dumps(json.loads(value) | {"flags": ["rebuilt"]}).encode()
    dump.predictions[0][9] = (key, changed, headers)


def change_one_bit_of_a_feature(dump: Dump) -> None:
    key, value, headers = dump.features[0][2]
    found = FeatureBlock.decode(value)
    features = found.features.copy()
    features[3, 0] = np.nextafter(features[3, 0], np.inf)
    found.features = features
    dump.features[0][2] = (key, found.encode(), headers)


def reorder_a_device(dump: Dump) -> None:
    rows = dump.predictions[1]
    first = next(at for at in range(1, len(rows)) if rows[at][0] == rows[0][0])
    rows[0], rows[first] = rows[first], rows[0]


def predict_on_another_partition(dump: Dump) -> None:
    dump.predictions[2].append(dump.predictions[1].pop())


def predict_what_is_a_repeat(dump: Dump) -> None:
    (partition, offset), row = next(iter(LOAD.places("repeat").items()))
    ident = prediction_ids("press", TOPIC, partition, np.array([offset]))[0].decode()
    value = prediction(ident, partition, offset, row)
    dump.predictions[partition].append((row.device.encode(), value, ()))


DAMAGE: dict[Callable[[Dump], None], str] = {
    lose_a_prediction: "predictions: 1 lost",
    lose_a_block: "features: 50 lost",
    lose_a_dead_letter: "dead: 1 lost",
    change_a_code: "dead letters: not exactly",
    lose_a_late_event: "late: 1 lost",
    lose_a_window: "summaries: 1 lost",
    change_a_window: "summaries: 1 differ from",
    release_a_window_twice_and_differently: "summaries: 1 repeats differ",
    amend_a_window_wrongly: "summaries: window",
    change_a_score: "predictions: 1 differ from",
    repeat_with_another_score: "predictions: 1 repeats differ",
    change_an_id: "another id",
    flag_one: "flagged",
    change_one_bit_of_a_feature: "features: 1 differ from",
    reorder_a_device: "out of its device's order",
    predict_on_another_partition: "on partition 2",
    predict_what_is_a_repeat: "not exactly the valid events",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_found(damage) -> None:
    """A dump with this damage is told from an honest one, and by its name."""
    dump = honest()
    damage(dump)
    assert any(DAMAGE[damage] in line for line in verdict(dump, {"enrich": 9, "serve": 9}))


def test_a_repeat_that_no_kill_explains_is_found() -> None:
    """An equal repeat is a breach where its stage was not killed, or not so often."""
    dump = honest()
    dump.predictions[0].insert(10, dump.predictions[0][9])
    assert any("explain 0 times" in line for line in verdict(dump, {"enrich": 1}))
    dump.predictions[0].insert(20, dump.predictions[0][19])
    assert any("repeated 2 times" in line for line in verdict(dump, {"serve": 1}))


@pytest.mark.parametrize("topic", TOPICS)
def test_with_exactly_once_any_repeat_is_found(topic) -> None:
    """One record twice, equal to the letter: allowed after a kill in the other mode, not here."""
    dump = honest()
    records = getattr(dump, topic)
    records[0].append(records[0][0])

    assert repeated(understand(LOAD, honest())) == []
    assert [line.split(":")[0] for line in repeated(understand(LOAD, dump))] == [
        "dead" if topic == "deadletter" else topic
    ]


def test_a_repeat_longer_than_a_batch_is_found() -> None:
    """More than one batch again after one kill is a breach, in blocks and in dead letters."""
    dump = honest()
    dump.features[1][8:8] = dump.features[1][4:8]
    assert any("longer than a batch" in line for line in verdict(dump, {"enrich": 1}))
    dump = honest()
    dump.deadletter[1] += dump.deadletter[1][:]
    assert any("dead: a repeat is longer" in line for line in verdict(dump, {"enrich": 1}))


def picked(data: Any, records: dict[int, list[Any]]) -> tuple[list[Any], int]:
    """Any record of a topic: its partition's list, and where in it."""
    rows = records[data.draw(st.sampled_from([p for p, found in records.items() if found]))]
    return rows, data.draw(st.integers(0, len(rows) - 1))


@given(st.data(), st.sampled_from(["features", "predictions", "deadletter", "late"]))
@settings(max_examples=12, deadline=None)
def test_any_one_record_lost_is_found(data, topic) -> None:
    """Whichever record is missing, of whichever topic, the run is not taken for an honest one."""
    dump = honest()
    rows, at = picked(data, getattr(dump, topic))
    del rows[at]

    assert verdict(dump, {"enrich": 99, "serve": 99}) != []
    assert numbers(dump).lost == (0 if topic == "features" else 1)


@given(st.data(), st.floats(1e-6, 1.0))
@settings(max_examples=12, deadline=None)
def test_any_one_score_changed_is_found(data, by) -> None:
    """A score that differs from the fault-free run's is counted, first time or repeated."""
    dump = honest()
    rows, at = picked(data, dump.predictions)
    key, value, headers = rows[at]
    prediction = json.loads(value)
    changed = json.dumps(prediction | {"score": prediction["score"] + by}).encode()
    if data.draw(st.booleans(), "as a repeat"):
        rows.insert(at + 1, (key, changed, headers))
    else:
        rows[at] = (key, changed, headers)

    assert verdict(dump, {"enrich": 99, "serve": 99}) != []
    assert numbers(dump).differing == 1


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_any_two_predictions_of_a_device_swapped_are_found(data) -> None:
    """A device's order is looked at wherever in the log it is broken."""
    dump = honest()
    rows, at = picked(data, dump.predictions)
    same = [n for n, row in enumerate(rows) if row[0] == rows[at][0] and n != at]
    other = data.draw(st.sampled_from(same))
    rows[at], rows[other] = rows[other], rows[at]

    assert numbers(dump).out_of_order > 0
    assert any("out of its device's order" in line for line in verdict(dump, {"serve": 99}))


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_an_equal_repeat_is_counted_and_harms_nothing(data) -> None:
    """A prediction published again, unchanged, is repeated and neither lost nor different."""
    dump = honest()
    rows, at = picked(data, dump.predictions)
    rows.insert(at + 1, rows[at])

    assert numbers(dump) == Tally(lost=0, differing=0, out_of_order=0, repeated=1)
    assert verdict(dump, {"serve": 1}) == []


def refused(dump: Dump, *, count: int = 3) -> Dump:
    """The model refused the first events of partition 1, and SERVE dead-lettered them."""
    for key, value, _ in dump.predictions[1][:count]:
        source = json.loads(value)["source"].encode()
        headers = [("code", b"model.failed"), ("source", source), ("stage", b"serve")]
        dump.deadletter[1].append((key, b"a block", headers))
    del dump.predictions[1][:count]
    dump.summaries[0] = []
    return dump


def test_what_the_model_refused_is_accounted_for() -> None:
    """A dead letter of SERVE ends an event as a prediction does, where the model was to raise."""
    found = understand(LOAD, refused(honest()))

    wrong = breaches(LOAD, found, calm(), repeats={}, batch_rows=BATCH_ROWS, refusing=True)

    assert wrong == []
    assert numbers(refused(honest())) == Tally(lost=0, differing=0, out_of_order=0, repeated=0)


def test_a_refusal_that_nobody_ordered_is_a_breach() -> None:
    """Without a raising model there is none."""
    assert "3 events were refused by the model, expected none" in verdict(refused(honest()))


def test_an_event_neither_served_nor_refused_is_lost() -> None:
    """A refusal explains its own event and no other."""
    dump = refused(honest())
    del dump.predictions[1][0]
    found = understand(LOAD, dump)

    wrong = breaches(LOAD, found, calm(), repeats={}, batch_rows=BATCH_ROWS, refusing=True)

    assert any(line.startswith("predictions: 1 lost") for line in wrong)
    assert numbers(dump).lost == 1


def test_a_refused_event_that_was_served_again_may_be_in_its_window() -> None:
    """After a restart the mended model scores it: its window counts it or not, but no other."""
    dump = honest()
    again = dump.predictions[1][:3]
    refused(dump).predictions[1][:0] = again
    dump.summaries = copied(made("press").summaries)

    def judged() -> list[str]:
        found = understand(LOAD, dump)
        return breaches(LOAD, found, calm(), repeats={}, batch_rows=BATCH_ROWS, refusing=True)

    assert judged() == []
    dump.predictions[1] = dump.predictions[1][3:]
    assert any(line.startswith("summaries: window") for line in judged())


def test_every_record_is_accounted_for() -> None:
    """In is predicted, refused, dead, late and repeated; one that is lost is missing in the sum."""
    whole, lacking = honest(), refused(honest())
    del lacking.predictions[2][5]

    for dump, lost in ((whole, 0), (lacking, 1)):
        found = account(LOAD, understand(LOAD, dump))
        assert found.pop("in") == len(LOAD.rows)
        assert sum(found.values()) == len(LOAD.rows) - lost
        assert found["repeated"] == LOAD.fates()["repeat"]
