"""The reference benchmark judges its sides as it says; nothing is started here."""

import inspect
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.schemas.prediction import PredictionColumns, encode_predictions
from headrace.schemas.protocols import ModelIdentity, Scores
from headrace.serving.scorer import TIERS, confidence_of
from headrace.streams.transport.stage import StageTransport

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"


START_MS = 1_795_255_200_000
FIELDS = {
    "id": "0" * 32, "rev": 0, "event_id": "press-0001-00000001", "device_id": "press-0001",
    "event_time": "2026-11-21T10:00:00.000Z", "score": 0.25, "label": "normal",
    "confidence": 0.75, "tier": "light", "flags": [], "feature_age_ms": 400,
    "model": {"name": "reference", "version": 1, "digest": "03e46ab9"}, "source": "a-log[1]@7",
    "times_ms": {"device": START_MS, "ingest": START_MS + 400, "served": START_MS + 500},
}  # fmt: skip


def prediction(**changed):
    """One as a side writes it."""
    return json.dumps(FIELDS | changed, separators=(",", ":")).encode()


@pytest.fixture
def wrote(reference):
    """A way to say what a side wrote of a log of two events, of which it predicted one."""
    made = reference("written").Predictions

    def of(key=b"press-0001", partition=1, value=None, **changed):
        found = made.none(2)
        found.take(key, prediction(**changed) if value is None else value, partition)
        found.scores[0] = 0.5
        return found

    return of


def test_sides_with_other_predictions_end_the_run(reference, wrote):
    """One score that differs, a prediction that is missing, or other bytes are no result."""
    compare = reference("agreement").compare
    first = {"a": wrote()}
    compare(first | {"b": wrote(id="f" * 32)})
    late = FIELDS["times_ms"] | {"served": START_MS + 9}
    compare(first | {"b": wrote(times_ms=late)})
    with pytest.raises(SystemExit, match="b differs from a"):
        compare(first | {"b": wrote(score=0.2501, confidence=0.7499)})
    missing = wrote()
    missing.scores[0] = np.nan
    with pytest.raises(SystemExit, match="no prediction of 1 of 2"):
        compare(first | {"b": missing})
    longer = wrote()
    longer.size = int(longer.size * 1.02)
    with pytest.raises(SystemExit, match="in length"):
        compare(first | {"b": longer})


@pytest.mark.parametrize(
    "changed",
    [
        {"rev": 1}, {"event_time": "2026-11-21T10:00:00.001Z"}, {"tier": "full"},
        {"flags": ["late"]}, {"model": FIELDS["model"] | {"digest": "0"}},
        {"source": "a-log[1]@8"},
    ],
)  # fmt: skip
def test_every_field_of_every_event_is_compared(reference, wrote, changed):
    """What differs in one event only is seen, whichever log a side read."""
    compare = reference("agreement").compare
    with pytest.raises(SystemExit, match=r"(not the documented form|values of 1 of 2 events)"):
        compare({"a": wrote(), "b": wrote(**changed)})


def test_what_ran_first_decides_nothing(reference, wrote):
    """A side of a short log that ran first does not keep the longer ones from being compared."""
    compare, made = reference("agreement").compare, reference("written").Predictions
    short = wrote()
    long, other = made.none(3), made.none(3)
    for found, third in ((long, 0.5), (other, 0.75)):
        found.scores[:], found.size = (0.5, 0.25, third), 3 * short.size // 2
        found.rest[:2], found.topics = short.rest, short.topics
        found.ingested_ms[:2] = short.ingested_ms
    compare({"short": short, "long": long})
    with pytest.raises(SystemExit, match=r"other differs from long by 0\.25 in a score"):
        compare({"short": short, "long": long, "other": other})


def test_the_brokers_times_are_those_of_one_log(reference, wrote):
    """Of another log its name and times differ; of one log they must not."""
    compare = reference("agreement").compare
    later = {
        "times_ms": FIELDS["times_ms"] | {"ingest": START_MS + 900}, "feature_age_ms": 900
    }  # fmt: skip
    compare({"a": wrote(), "b": wrote(source="b-log[1]@7", **later)})
    with pytest.raises(SystemExit, match="different values of 1 of 2 events, the first is event 1"):
        compare({"a": wrote(), "b": wrote(**later)})


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"key": b"press-0002"}, "key"), ({"key": None}, "key"), ({"partition": 2}, "partition"),
        ({"label": "anomaly"}, "label"), ({"score": 0.75}, "label"),
        ({"confidence": 0.74}, "confidence"), ({"feature_age_ms": 401}, "feature_age_ms"),
        ({"times_ms": {"device": START_MS + 1, "ingest": START_MS + 401, "served": 1}}, "device"),
        ({"device_id": "press-0002"}, "form"), ({"id": "0"}, "form"), ({"more": 1}, "form"),
        ({"value": json.dumps(FIELDS).encode()}, "form"),
    ],
)  # fmt: skip
def test_a_prediction_that_contradicts_itself_is_none(wrote, wrong, named):
    """Key, partition, label and times are checked without another side; so is the form."""
    with pytest.raises(SystemExit, match=named):
        wrote(**wrong)


def test_fields_in_another_order_are_another_form(reference, wrote):
    """Readers may rely on the documented order; who leaves the partition to the key may."""
    turned = json.dumps(dict(reversed(FIELDS.items())), separators=(",", ":")).encode()
    with pytest.raises(SystemExit, match="documented form"):
        wrote(value=turned)
    assert wrote(partition=None).scores[1] == 0.25


def test_plain_python_writes_what_headrace_writes(reference, monkeypatch, tmp_path):
    """The sides' common job is Headrace's encoder to the byte, but for the id; repeats are out."""
    monkeypatch.syspath_prepend(str(FOLDER / "contenders"))
    job = reference("job")
    job.write_model(tmp_path / "model.onnx")
    done = reference("plain").Job(str(tmp_path / "model.onnx"))
    values = [value for _, value in job.events(3000)]
    values += values[-5:]
    sources = [f"log[0]@{n}" for n in range(len(values))]
    out, _, kept = done.predict(values, sources, [job.START_MS + 9] * len(values))
    assert kept == list(range(3000))
    high = values[0].replace(b'"vibration_g":', b'"vibration_g":9')
    fresh = done.predict([high, values[1].replace(b"-00000001", b"-77777777")], sources[:2], [0, 0])
    assert fresh[2] == [1]
    for value, text in zip(values[:3000], out, strict=True):
        found, event = json.loads(text), json.loads(value)
        score = np.float32(found["score"])
        assert text == encoded(done, event, score, found)


@given(order=st.lists(st.integers(0, 400), min_size=1, max_size=300), cut=st.integers(0, 300))
@settings(
    max_examples=15, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_one_event_at_a_time_is_the_same_job(reference, plain_jobs, order, cut):
    """For any events, repeats and bad ones too, bytes and rows are those of batches."""
    batched, single = plain_jobs()
    known = [value for _, value in reference("job").events(400)]
    known.append(known[0].replace(b'"vibration_g":', b'"vibration_g":9'))
    values = [known[n] for n in order]
    sources = [f"log[0]@{n}" for n in range(len(values))]
    served = re.compile(rb'"served":\d+')
    rows, out = {}, []
    for part in (slice(0, cut), slice(cut, None)):
        found, newest, _ = batched.predict(
            values[part], sources[part], [job_ms(n) for n in order[part]]
        )
        out += found
        rows |= newest
    ones = [
        found
        for value, source, n in zip(values, sources, order, strict=True)
        if (found := single.predict_one(value, source, job_ms(n))) is not None
    ]
    assert [served.sub(b"", p) for p, _, _ in ones] == [served.sub(b"", p) for p in out]
    assert {key: row for _, key, row in ones} == rows


def job_ms(number):
    """A broker's time of an event."""
    return 1_795_255_200_123 + number


@pytest.fixture
def plain_jobs(reference, monkeypatch, tmp_path):
    """A way to make two jobs that have seen nothing."""
    monkeypatch.syspath_prepend(str(FOLDER / "contenders"))
    reference("job").write_model(tmp_path / "model.onnx")
    made = reference("plain").Job
    return lambda: (made(str(tmp_path / "model.onnx")), made(str(tmp_path / "model.onnx")))


def encoded(done, event, score, found):
    """Headrace's own bytes of a score, with the id of `found`."""
    columns = PredictionColumns(
        pipeline="reference",
        model=ModelIdentity("reference", 1, done.digest),
        topic="log", partition=0, offsets=np.array([int(found["source"].partition("@")[2])]),
        event_times_ms=np.array([found["times_ms"]["device"]]),
        log_times_ms=np.array([found["times_ms"]["ingest"]]),
        event_ids=[event["id"].encode()], entities=[event["device_id"].encode()],
        scores=scores_of(score), labels=("normal", "anomaly"),
        served_ms=found["times_ms"]["served"],
    )  # fmt: skip
    [text] = encode_predictions(columns)
    own = json.loads(text)["id"]
    return text.replace(own.encode(), found["id"].encode(), 1)


def scores_of(score):
    """One score as the scorer gives it."""
    column = np.array([score], np.float32)
    return Scores(
        column, confidence_of(column, 0.5), column >= 0.5, np.zeros(1, np.uint8), TIERS, {}
    )


def test_every_997th_event_is_in_the_log_twice(reference):
    """The second is right behind the first, and nothing else is added."""
    log = reference("telemetry_log")
    rows = [(str(n), b"") for n in range(3 * log.TWICE)]
    found = list(log.with_repeats(rows))
    assert sorted(set(found), key=rows.index) == rows
    repeats = [a for a, b in itertools.pairwise(found) if a == b]
    assert repeats == rows[log.TWICE - 1 :: log.TWICE]


def span_of(watching, since, every, until, began=None):
    """A run of 1000 predictions, at those moments."""
    first = watching.Moment(1, 0.0, 0.0)
    return watching.Span(1000, 1000, began or first, first, since, every, until, 30.0)


def test_only_the_middle_of_a_run_is_timed(reference):
    """A side's first fifth is not in its rate, and the services' CPU is a figure of its own."""
    watching = reference("watching")
    began, since = watching.Moment(200, 1.0, 1.0, 6.0), watching.Moment(500, 10.0, 1.5, 7.0)
    until = watching.Moment(1000, 20.0, 2.0, 8.0)
    found = watching.figures(span_of(watching, since, since, until, began), {})
    assert (found["events_per_s"], found["window_s"]) == (50, 10.0)
    assert (found["us_cpu_per_event"], found["us_cpu_of_services"]) == (1250.0, 2500.0)
    untold = watching.Moment(1000, 20.0, 2.0, 6.0)
    found = watching.figures(span_of(watching, since, since, untold, began), {})
    assert found["us_cpu_of_services"] is None


def test_a_first_stage_that_is_ahead_pays_for_it(reference):
    """What was spent before the first fifth of the predictions was out is in the CPU per event."""
    watching = reference("watching")
    began, since = watching.Moment(0, 1.0, 1.0), watching.Moment(200, 2.0, 9.0)
    until = watching.Moment(1000, 10.0, 11.0)
    found = watching.figures(span_of(watching, since, since, until, began), {})
    assert found["us_cpu_per_event"] == 10_000.0


def test_a_steady_rate_is_from_the_last_partition_on(reference):
    """The run's own window stays; the steady part is what was left by then, if that is enough."""
    watching = reference("watching")
    since, until = watching.Moment(200, 12.0, 1.0), watching.Moment(1000, 20.0, 5.0)
    found = watching.figures(
        span_of(watching, since, watching.Moment(600, 18.0, 4.0), until), {}
    )  # fmt: skip
    assert (found["events_per_s"], found["every_partition_s"]) == (100, 18.0)
    assert found["steady"] == {"events_per_s": 200}
    late = watching.Moment(800, 18.0, 4.0)
    assert watching.figures(span_of(watching, since, late, until), {})["steady"] is None


def test_a_run_that_one_look_saw_is_no_result(reference):
    """A log that is shorter than a batch has no rate; the line says what to do."""
    watching = reference("watching")
    at = watching.Moment(1000, 20.0, 5.0)
    with pytest.raises(SystemExit, match="make the log longer"):
        watching.figures(span_of(watching, at, at, at), {})


@given(rate=st.integers(1_000, 50_000), batch=st.integers(1, 100_000), start=st.floats(0, 2))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_side_gains_by_the_size_of_its_batches(reference, rate, batch, start):
    """For any rate, batch and start-up the figure is the rate, to within a look's length."""
    watching = reference("watching")
    count = batch * max(20, -(-10 * rate // batch))
    span, at_s = watching.Span(count, began=watching.Moment(0, 0.0, 0.0)), 0.0
    while span.until is None:
        written = max(0, int((at_s - start) * rate)) // batch * batch
        span.look([min(count, written)], at_s, [])
        at_s += watching.LOOK_S
    span.ended_s = at_s
    found = watching.figures(span, {})
    assert found["events_per_s"] == pytest.approx(rate, rel=3 * watching.LOOK_S / found["window_s"])


@given(
    ahead=st.floats(0, 3), faster=st.floats(1, 20), rate=st.integers(20_000, 200_000),
    block=st.integers(200, 4_000),
)  # fmt: skip
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_first_stage_that_is_ahead_gains_nothing(reference, ahead, faster, rate, block):
    """However far it runs before the second begins, the rate is at most that of both together."""
    watching = reference("watching")
    count = 5 * rate
    span, at_s = watching.Span(count, began=watching.Moment(0, 0.0, 0.0)), 0.0
    while span.until is None:
        taken = min(count, int(at_s * rate * faster))
        span.look(
            [min(taken, max(0, int((at_s - ahead) * rate)))], at_s, [], -(-taken // block)
        )  # fmt: skip
        at_s += watching.LOOK_S
    span.ended_s = at_s
    found = watching.figures(span, {})
    both = rate * (1 + 2 * watching.LOOK_S / found["window_s"] + block / count)
    assert found["events_per_s"] <= both
    assert found["ahead_s"] >= 0
    if faster * ahead > 3:
        assert found["events_per_s"] < 0.95 * rate


def test_every_log_is_as_long_as_its_side_is_fast(reference):
    """Two processes read twice the log; a log is whole batches of all the side's processes."""
    sides = reference("sides").SIDES
    for name, side in sides.items():
        if name.endswith("_x2"):
            assert side.events == 2 * sides[name.removesuffix("_x2")].events
    for script in ("bytewax_batched.py", "quix_sink.py", "faust_take.py"):
        text = (FOLDER / "contenders" / script).read_text("utf-8")
        [batch] = re.findall(r"^(?:BATCH|MOST) = ([\d_]+)$", text, re.MULTILINE)
        for side in sides.values():
            assert side.script != script or side.events % (int(batch) * side.processes) == 0


def test_the_order_of_the_sides_is_drawn_for_each_round(reference):
    """One seed gives one order, rounds differ, and every side is in each round once."""
    in_turn, sides = reference("throughput").in_turn, reference("sides").SIDES
    orders = [in_turn(list(sides), number, 7) for number in range(3)]
    assert orders == [in_turn(list(sides), number, 7) for number in range(3)]
    assert orders[0] != orders[1]
    assert orders != [in_turn(list(sides), number, 8) for number in range(3)]
    assert all(sorted(order) == sorted(sides) for order in orders)


def test_the_log_is_the_same_for_every_length(reference):
    """A shorter log is the front of the longer one, so its scores can be compared."""
    job = reference("job")
    assert list(job.events(50)) == list(job.events(80))[:50]
    assert {len(value) for _, value in job.events(50)} <= set(range(200, 221))


def test_latency_is_from_the_moment_an_event_was_due(reference):
    """An event that did not come took for ever, and no percentile is interpolated."""
    percentiles = reference("arrivals").percentiles
    found = percentiles(np.array([0.001] * 98 + [0.5, np.nan]))
    assert (found["events"], found["missing"]) == (100, 1)
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (1.0, None, None)
    found = percentiles(np.array([0.001] * 98 + [0.5, 0.6]))
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (1.0, 600.0, 600.0)
    assert percentiles(np.full(3, np.nan))["p50_ms"] is None


def test_a_prediction_that_came_twice_counts_once(reference):
    """Within one fetch too, or the receiver ends too early; another rate's are not ours."""
    unseen = reference("arrivals").unseen
    received = np.array([1.0, np.nan, np.nan])
    assert unseen(np.array([2, 0, 2, -9, 3]), received).tolist() == [2]
    assert unseen(np.array([0, -1]), received).tolist() == []


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
    assert promised <= set(sides)
    ours = {"headrace", "headrace_once"}
    ones = {name for name in sides if not name.endswith("_x2")}
    assert set(sides) - ones == {f"{name}_x2" for name in ones - ours}
    assert all(sides[name].processes == 1 for name in ones - ours)
    found = reference("promised").promised({"sides": {name: {"events_per_s": 1} for name in sides}})
    assert set(found) == {"sides", "latency", "startup", "memory", "versions"}
    assert set(found["sides"]) == promised
    assert all(
        set(side) == {"events_per_s", "us_cpu_per_event"} for side in found["sides"].values()
    )


def test_every_side_says_what_it_does_not_give(reference):
    """A comparison names the price of each side, and every side can be started."""
    sides, lacking = reference("sides").SIDES, reference("lacking")
    for name, side in sides.items():
        assert lacking.given(name).besides, name
        assert side.topics("run"), name
        assert (FOLDER / "contenders" / side.script).exists()
        pins = FOLDER / "envs" / f"{side.env}.txt"
        assert (side.env == "own") == (not side.script), name
        assert side.env == "own" or "==" in pins.read_text("utf-8")


def test_every_side_commits_several_times_while_it_is_timed(reference):
    """An interval that the clock decides is a second, in the script as in the table."""
    sides = reference("sides")
    for name, side in sides.SIDES.items():
        interval = re.match(r"([\d.]+) s", side.commits)
        assert interval is None or float(interval[1]) <= 1.0, name
    said = {"quix": "COMMIT_S = 1.0", "quix_sink": "WAIT_S = 0.2"}
    for name, line in said.items():
        assert line in (FOLDER / "contenders" / sides.SIDES[name].script).read_text("utf-8")
    assert "COMMIT_S = 1.0" in (FOLDER / "contenders" / "faust_job.py").read_text("utf-8")
    assert sides.EPOCH_S == 1
    default = inspect.signature(StageTransport).parameters["commit_interval_s"].default
    assert sides.SIDES["headrace"].commits.endswith(f"offset {default:g} s")
