"""The summarize step: windows released once and whole, groups of listed labels, nothing raw."""

import string

import msgspec
import numpy as np
import pytest
from fakes import serve_world
from fakes.serve_world import Run, agent, block
from msgspec.structs import replace

from headrace.schemas.block import Labels
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.summary import (
    DeviceCount,
    Distinct,
    Frequent,
    Moments,
    Quantiles,
    SummaryRecord,
    TopDevice,
)
from headrace.schemas.topics import topics_of
from headrace.streams.agents.summarize import Summarizer
from headrace.streams.upstream.distinct import distinct_of, estimate
from headrace.streams.upstream.frequent import frequent_of
from headrace.streams.upstream.quantiles import Bins, quantile, relative_error
from headrace.streams.upstream.release import encode_summary


def events(times, *, offset=0, devices=None, kinds=None, load=None, partition=1):
    """A block of rows at these times; the score rises with the load."""
    n = len(times)
    load = np.zeros(n) if load is None else np.array(load, float)
    return block(
        n,
        offset=offset,
        partition=partition,
        event_times_ms=np.array(times),
        log_times_ms=np.array(times),
        features=np.stack([load, np.zeros(n)], 1),
        metrics=np.stack([load, np.arange(n, dtype=float)], 1),
        entities=Labels.encode(devices or ["d"] * n),
        attributes={"kind": Labels.encode(kinds or ["core"] * n)},
    )


SUMMARIES = topics_of(serve_world.pipeline()).summaries.name


def summaries(run):
    return [msgspec.json.decode(value, type=SummaryRecord) for value in run.values("summaries")]


async def test_a_window_is_released_when_the_watermark_passes_its_end_and_the_lateness():
    """Windows of 10 s, lateness of 5 s: over at 15.000 s, not over at 14.999 s."""
    run = Run()
    await run.batch(events([1000, 14_999]))
    assert summaries(run) == []
    await run.batch(events([15_000], offset=2))

    (found,) = summaries(run)
    (output,) = run.final.outputs
    assert output.topic == topics_of(serve_world.pipeline()).summaries.name
    assert (found.window_start_ms, found.window_end_ms, found.rows) == (0, 10_000, 1)
    assert (output.partition, output.keys) == (0, [b"0/core"])
    assert (found.pipeline, found.rev, found.group) == ("press", 0, "core")
    assert not any(b"[0," in name for name in run.store)


async def test_statistics_are_those_of_the_rows():
    """Counts, moments, top devices and model mix against NumPy over the same rows."""
    random = np.random.default_rng(6)
    load = random.normal(size=300) * 3
    devices = [f"dev-{d}" for d in random.integers(0, 20, 300)]
    made = events(random.integers(0, 10_000, 300), devices=devices, load=load)
    made.metrics = made.metrics.copy()
    made.metrics[::5, 1] = np.nan
    run = Run()
    await run.batch(made)
    await run.batch(events([20_000], offset=300))
    found = summaries(run)[0]

    score = (1 / (1 + np.exp(-load))).astype(np.float32).astype(float)
    high = score >= 0.5
    heat = made.metrics[:, 1][np.isfinite(made.metrics[:, 1])]
    best = {d: max(s for s, e in zip(score, devices, strict=True) if e == d) for d in devices}
    named = sorted(best, key=lambda d: (-best[d], d))[:5]
    assert (found.rows, found.anomalies, found.devices) == (300, int(high.sum()), len(best))
    for moments, values in ((found.score, score), (found.metrics["heat"], heat)):
        assert moments.count == len(values)
        assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
        assert moments.m2 == pytest.approx(values.var() * len(values), rel=1e-10)
        assert (moments.min, moments.max) == (values.min(), values.max())
    assert [t.device_id for t in found.top] == named
    assert [t.score for t in found.top] == [best[d] for d in named]
    assert [t.rows for t in found.top] == [
        sum(h for h, e in zip(high, devices, strict=True) if e == d) for d in named
    ]
    assert found.models == {"9f2c41d0": 300}


SKETCHES = {"quantiles": True, "distinct": True, "frequent": 3}


async def test_sketches_are_of_the_rows():
    """Quantiles, distinct devices and anomaly counts against NumPy over the same rows."""
    random = np.random.default_rng(7)
    load = random.normal(size=400) * 3
    devices = [f"dev-{d}" for d in random.integers(0, 40, 400)]
    made = events(random.integers(0, 10_000, 400), devices=devices, load=load)
    run = Run(agent(serve_world.pipeline(summary=SKETCHES)))
    await run.batch(made)
    await run.batch(events([20_000], offset=400))
    found = summaries(run)[0]

    score = (1 / (1 + np.exp(-load))).astype(np.float32).astype(float)
    for sketch, values in ((found.score_quantiles, score), (found.quantiles["load"], load)):
        exact = np.quantile(values, [0.05, 0.5, 0.99], method="inverted_cdf")
        told = [quantile(sketch, share) for share in (0.05, 0.5, 0.99)]
        assert told == pytest.approx(exact, rel=relative_error(sketch))
    assert estimate(found.distinct) == pytest.approx(len(set(devices)), rel=0.07)
    high = dict.fromkeys(devices, 0)
    for device, value in zip(devices, score, strict=True):
        high[device] += value >= 0.5
    assert found.frequent == frequent_of(high, counters=3)


async def test_long_names_that_begin_alike_are_counted_together():
    """A name is cut to 64 characters: the count of that name is of all that begin so."""
    run = Run(agent(serve_world.pipeline(summary=SKETCHES)))
    devices = ["x" * 70 + end for end in "aab"]
    await run.batch(events([1, 2, 3], devices=devices, load=[9, 9, 9]))
    await run.batch(events([30_000], offset=3))

    assert summaries(run)[0].frequent.devices == (DeviceCount("x" * 64, 3),)


async def test_without_asking_there_is_no_sketch():
    """A record of a pipeline that asks for none has no field of them at all."""
    run = Run()
    await run.batch(events([1]))
    await run.batch(events([30_000], offset=1))
    (value,) = run.values("summaries")

    assert not any(name in value for name in (b"quantiles", b"distinct", b"frequent"))
    assert not any(name.startswith(b"bins") for name in run.store)
    assert not any(part.bins for part in run.parts())


async def test_sketches_of_small_groups_and_of_personal_entities_stay():
    """A suppressed group sends none; a hash or count by name is as personal as the name."""
    for parts in (
        {"summary": SKETCHES | {"min_group": 2}},
        {"summary": SKETCHES, "input": {"entity_personal": True}},
    ):
        run = Run(agent(serve_world.pipeline(**parts)))
        await run.batch(events([1], devices=["marie"], load=[9]))
        await run.batch(events([30_000], offset=1))
        (found,) = summaries(run)

        assert (found.distinct, found.frequent) == (None, None)
        assert (found.score_quantiles is None) == found.suppressed
        assert bool(found.quantiles) != found.suppressed


async def test_groups_and_windows_are_apart():
    """Each window and group is one record, in order of both."""
    run = Run()
    kinds = ["disk", "core", "disk", "core"]
    await run.batch(events([1, 2, 10_001, 10_002], kinds=kinds))
    await run.batch(events([30_000], offset=4))

    assert [(s.window_start_ms, s.group, s.rows) for s in summaries(run)] == [
        (0, "core", 1),
        (0, "disk", 1),
        (10_000, "core", 1),
        (10_000, "disk", 1),
    ]


async def test_without_grouping_there_is_one_group():
    """`group_by` empty is one group called all."""
    run = Run(agent(serve_world.pipeline(summary={"group_by": []})))
    await run.batch(events([1, 2], kinds=["core", "disk"]))
    await run.batch(events([30_000], offset=2))

    assert [(s.group, s.rows) for s in summaries(run)] == [("all", 2)]


async def test_a_row_after_its_window_was_released_amends_it():
    """A window's first answer is released once; what comes after it is in the next revision."""
    run = Run()
    await run.batch(events([1000, 20_000]))
    await run.batch(events([1500, 40_000], offset=2))

    assert [(s.window_start_ms, s.rev, s.rows) for s in summaries(run)] == [
        (0, 0, 1),
        (0, 1, 2),
        (20_000, 0, 1),
    ]
    assert (len(run.predictions()), run.final.counts["out"]) == (4, 3)


async def test_a_row_that_comes_too_late_is_served_and_in_no_summary(caplog):
    """Windows are forgotten once they cannot be amended any more; it is told, not sent."""
    run = Run(agent(serve_world.pipeline(summary={"amend_s": 30.0})))
    await run.batch(events([1000, 20_000, 60_000]))
    await run.batch(events([1500, 80_000], offset=3))

    assert [(s.window_start_ms, s.rev, s.rows) for s in summaries(run)] == [
        (0, 0, 1),
        (20_000, 0, 1),
        (60_000, 0, 1),
    ]
    assert (len(run.predictions()), run.final.counts["unsummarized"]) == (5, 1)
    assert "1 predictions are in no summary" in caplog.text


async def test_small_groups_are_suppressed():
    """Fewer devices than min_group: rows and devices are told, everything else is empty."""
    run = Run(agent(serve_world.pipeline(summary={"min_group": 3})))
    kinds = ["core"] * 3 + ["disk"] * 3
    devices = ["a", "b", "c", "x", "y", "y"]
    await run.batch(events(range(6), kinds=kinds, devices=devices, load=[5] * 6))
    await run.batch(events([30_000], offset=6))
    core, disk = summaries(run)

    assert (core.suppressed, core.anomalies, len(core.top)) == (False, 3, 3)
    assert (disk.suppressed, disk.rows, disk.devices) == (True, 3, 2)
    assert (disk.anomalies, disk.score.count, disk.metrics, disk.top, disk.models) == (
        0, 0, {}, (), {},
    )  # fmt: skip


async def test_personal_entities_are_never_named():
    """Where the entity key is personal, a summary counts devices and names none."""
    run = Run(agent(serve_world.pipeline(input={"entity_personal": True})))
    await run.batch(events([1], devices=["marie"], load=[9]))
    await run.batch(events([30_000], offset=1))

    assert summaries(run)[0].top == ()
    assert not any(b"marie" in value for value in run.values("summaries"))


async def test_a_block_without_metrics_is_summarized_by_its_scores():
    """Metrics that a block does not carry have no values, not wrong ones."""
    made = events([1, 2])
    made.metric_names, made.metrics = (), np.empty((2, 0))
    run = Run()
    await run.batch(made)
    await run.batch(events([30_000], offset=2))

    assert summaries(run)[0].metrics["load"] == Moments(0, 0.0, 0.0, None, None)
    assert summaries(run)[0].score.count == 2


async def test_extreme_metrics_stay_numbers():
    """What overflows is the largest number there is: a summary can always be read."""
    run = Run()
    made = events([1, 2, 3])
    made.metrics = np.array([[-1.7e308, 0.0], [1.7e308, 0.0], [1.7e308, -0.0]])
    await run.batch(made)
    await run.batch(events([30_000], offset=3))
    load = summaries(run)[0].metrics["load"]

    assert (load.count, load.min, load.max) == (3, -1.7e308, 1.7e308)
    assert np.isfinite([load.mean, load.m2]).all()


RAW = "raw-" + "".join(string.ascii_letters) * 40


async def test_raw_content_in_every_field_of_a_block_does_not_come_out():
    """Labels that are not listed, long names, texts everywhere: none of it is in a summary."""
    made = events([1, 2, 3], devices=[RAW] * 3, kinds=[RAW, "core", RAW[:40]], load=[1.0, 2.0, 3.0])
    made.pipeline = made.pipeline_digest = made.numerics = made.topic = RAW
    made.event_ids = [RAW.encode()] * 3
    made.attributes["more"] = Labels.encode([RAW] * 3)
    made.metric_names = ("load", RAW)
    run = Run()
    await run.batch(made)
    await run.batch(events([30_000], offset=3))
    text = b"".join(run.values("summaries"))

    assert {s.group for s in summaries(run)} == {"core", "other"}
    # A device's own name is the one thing that is let through, cut to 64 characters.
    assert text.replace(RAW[:64].encode(), b"").count(b"raw-") == 0
    assert max(len(t.device_id) for s in summaries(run) for t in s.top) == 64


QUANTILES = Bins.empty(1).folded(np.zeros(3, np.intp), np.array([0.1, 0.5, 0.9])).sketches()[0]
GOOD = SummaryRecord(
    pipeline="press",
    pipeline_digest="0123456789abcdef",
    window_start_ms=0,
    window_end_ms=10_000,
    group="core",
    rows=3,
    anomalies=1,
    devices=2,
    suppressed=False,
    score=Moments(3, 0.5, 0.1, 0.1, 0.9),
    metrics={"load": Moments(3, 0.5, 0.1, 0.1, 0.9)},
    top=(TopDevice("dev-1", 0.9, 1),),
    models={"9f2c41d0": 3},
    score_quantiles=QUANTILES,
    quantiles={"load": QUANTILES},
    distinct=distinct_of(["dev-1", "dev-2"]),
    frequent=frequent_of({"dev-1": 1}, counters=3),
)
SMUGGLED = [
    *((name, RAW) for name in SummaryRecord.__struct_fields__),
    *((name, RAW.encode()) for name in SummaryRecord.__struct_fields__),
    *((name, {RAW: RAW}) for name in SummaryRecord.__struct_fields__),
    *((name, [RAW]) for name in SummaryRecord.__struct_fields__),
    *(("score", replace(GOOD.score, **{f: RAW})) for f in Moments.__struct_fields__),
    *(("top", (replace(GOOD.top[0], **{f: RAW}),)) for f in TopDevice.__struct_fields__),
    *(("score_quantiles", replace(QUANTILES, **{f: RAW})) for f in Quantiles.__struct_fields__),
    *(("frequent", replace(GOOD.frequent, **{f: RAW})) for f in Frequent.__struct_fields__),
    ("frequent", replace(GOOD.frequent, devices=(DeviceCount(RAW, 1),))),
    ("score_quantiles", replace(QUANTILES, bins=RAW.encode())),
    ("quantiles", {"load": replace(QUANTILES, bins=RAW.encode())}),
    ("quantiles", {RAW: QUANTILES}),
    ("distinct", Distinct(RAW)),
    ("distinct", Distinct(RAW.encode())),
    ("metrics", {RAW: GOOD.score}),
    ("metrics", {"load": {"raw": RAW}}),
    ("metrics", {"Not A Name": GOOD.score}),
    ("models", {RAW: 3}),
    ("models", {"9f2c41d0": RAW}),
    ("models", {"not hex!": 3}),
    ("top", GOOD.top * 101),
    ("rows", -1),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), SMUGGLED)
def test_no_field_takes_raw_content(field, value):
    """Whatever a summary's field is given that its type does not allow, nothing is sent."""
    with pytest.raises((ValueError, TypeError)) as raised:
        encode_summary(replace(GOOD, **{field: value}))

    assert "raw-" not in str(raised.value)


def test_a_good_summary_is_encoded():
    """The check that refuses the others passes what is meant to travel."""
    assert msgspec.json.decode(encode_summary(GOOD), type=SummaryRecord) == GOOD


def test_groups_by_two_attributes_join_with_a_slash():
    """Names follow group_by; a label that is not listed is its attribute's default."""
    spec = replace(
        serve_world.pipeline(), summary=msgspec.convert({"group_by": ["kind", "site"]}, _summary())
    )
    spec = replace(spec, input=replace(spec.input, attributes=_two_attributes()))
    summarizer = Summarizer(spec, topics_of(spec))
    kind = Labels.encode(["core", "disk", "core", "core"])
    site = Labels.encode(["a", "b", "b", "somewhere else"])

    groups = summarizer.groups([kind, site], 4)

    assert [groups.names[c] for c in groups.codes] == ["core/a", "disk/b", "core/b", "core/none"]


def _summary():
    return type(serve_world.pipeline().summary)


def _two_attributes():
    kind = serve_world.pipeline().input.attributes["kind"]
    site = replace(kind, values=("a", "b"), default="none")
    return {"kind": kind, "site": site}


def test_every_pipeline_has_a_summarizer():
    """A pipeline file that says nothing of summaries gets one group and the score alone."""
    tree = {
        "name": "p",
        "input": {"metrics": {"load": {}}},
        "views": {"v": {"features": [{"op": "raw", "metrics": ["*"]}]}},
        "model": {"file": "m"},
    }
    spec = msgspec.convert(tree, Pipeline)

    assert Summarizer(spec, topics_of(spec)).metrics == ()


async def rest(run, *, offset, log_ms, rows=0):
    """A record of no rows, logged at this moment."""
    made = block(0, offset=rows)
    records = serve_world.records(made, offset=offset)
    records.log_times_ms = np.array([log_ms])
    effects = await run.agent.process(run.state, records, rebuilt=False)
    await run.take(effects)


IDLE = {"summary": {"idle_s": 20.0}}


async def test_a_partition_that_rests_releases_its_windows():
    """Event time goes on from the last row as the broker's clock does, once idle long enough."""
    run = Run(agent(serve_world.pipeline(**IDLE)))
    await run.batch(events([1000, 4000]))
    await rest(run, offset=1, log_ms=4000 + 19_999)
    assert summaries(run) == []
    await rest(run, offset=2, log_ms=4000 + 20_000)

    assert [(s.window_start_ms, s.rows) for s in summaries(run)] == [(0, 2)]
    assert run.state.windows.cells == {}


async def test_a_rest_moves_event_time_no_further_than_the_clock():
    """A window that is not over by then stays open, and the next rest counts from the same row."""
    run = Run(agent(serve_world.pipeline(**IDLE, input={"allowed_lateness_s": 30.0})))
    await run.batch(events([1000, 4000]))
    await rest(run, offset=1, log_ms=4000 + 25_000)
    await rest(run, offset=2, log_ms=4000 + 35_999)
    assert summaries(run) == []
    await rest(run, offset=3, log_ms=4000 + 36_000)

    assert len(summaries(run)) == 1


async def test_a_rest_before_any_row_says_nothing():
    """Nothing is known of event time yet."""
    run = Run(agent(serve_world.pipeline(**IDLE)))
    await rest(run, offset=0, log_ms=10**12)
    await run.batch(events([1000, 4000]), offset=1)
    await run.batch(events([16_000], offset=2), offset=2)

    assert [(s.window_start_ms, s.rows) for s in summaries(run)] == [(0, 2)]


async def test_a_rest_of_a_worker_that_was_paused_is_too_early_to_count():
    """Rows that came meanwhile are the last rows: what an old owner says of the rest is void."""
    run = Run(agent(serve_world.pipeline(**IDLE)))
    await run.batch(events([1000, 4000]))
    await run.batch(events([5000, 50_000], offset=2), offset=1)
    before = summaries(run)
    await rest(run, offset=2, log_ms=51_000)

    assert summaries(run) == before


async def test_one_clock_that_is_ahead_releases_nobodys_window():
    """A row counts no later than its broker time, so the others' rows are in their summary."""
    run = Run()
    ahead = events([1000, 60_000, 2000, 61_000, 3000])
    ahead.log_times_ms = np.array([1000, 1500, 2000, 2500, 3000])
    await run.batch(ahead)
    await run.batch(events([20_000], offset=5), offset=1)

    assert summaries(run)[0].rows == 3
