"""What `/metrics` says: the whole catalogue, of all workers together, over all their lives."""

from __future__ import annotations

import io
import re
import socket
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from headrace.schemas.errors import RetryableError, SettingsError
from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.schemas.objectives import Objective, Objectives
from headrace.schemas.observe import Drift, Observe
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.prices import Prices
from headrace.schemas.timed import Timed
from headrace.streams.cli.top import top
from headrace.streams.cli.top_view import draw
from headrace.streams.client.latency import BINS
from headrace.streams.observe.canary_book import CanaryBook
from headrace.streams.observe.drift_sketch import WindowCounts
from headrace.streams.observe.exposition import exposition
from headrace.streams.observe.hops import HopRecorder, encode_bins
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.samples import Samples
from headrace.streams.observe.site_watch import SiteWatch
from headrace.streams.observe.view import Rates
from headrace.streams.upstream.quantiles import Bins
from headrace.streams.workers.jobs import PartitionStatus, Seen, StateFacts, Status
from headrace.streams.workers.supervisor import Supervisor

PRESS = load_pipeline(Path(__file__).parents[3] / "examples" / "press" / "pipeline.toml")
LINE = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\} (\S+)')
ESCAPED = re.compile(r"\\.")
MEANS = {r"\n": "\n", r"\\": "\\", r"\"": '"'}
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Process:
    """Runs."""

    returncode = None


class Well:
    """A pipeline that works, until told otherwise."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.unready: list[str] = []
        self.store = "answers"

    def not_live(self) -> list[str]:
        return self.dead

    def not_ready(self) -> list[str]:
        return self.unready

    def facts(self) -> dict[str, object]:
        return {"bus": "answers", "store": self.store, "workers": []}


class Scene:
    """Two workers of each stage that start no process."""

    def __init__(self) -> None:
        self.supervisor: Supervisor | None = None

    async def build(self) -> Scene:
        self.supervisor = Supervisor(Path("p.toml"), ("enrich", "serve"), workers=2)
        self.readings = Readings("press", self.supervisor)
        self.workers = {worker.name: worker for worker in self.supervisor.workers}
        objective = Objective(kind="success", least_events=1)
        flow = msgspec.structs.replace(
            PRESS,
            slo=Objectives(site={"answers": objective}),
            observe=Observe(drift=Drift(least_rows=20, reference_windows=4)),
        )
        prices = Prices(cpu_hour=0.04, egress_gb=0.09, cloud_1000=0.05, watts_per_core=7.0)
        stages = ("enrich", "serve")
        self.health = Well()
        self.watch = SiteWatch(flow, self.readings, self.health, stages, prices=prices)
        for worker in self.workers.values():
            worker.process = Process()
        return self

    def says(self, name: str, **facts: object) -> None:
        worker = self.workers[name]
        worker.status = Status(stage=worker.stage, ready=True, **facts)
        for tell in self.supervisor.told:
            tell(worker, worker.status)


@pytest.fixture
async def scene() -> Scene:
    return await Scene().build()


def windows(count: int, *, moved: int) -> list[WindowCounts]:
    """Windows of as many quantities as PRESS has; from the one of number `moved` on all is 3."""
    size = len(PRESS.model_inputs) + 2
    values = np.tile(np.linspace(1, 2, 100)[:, None], size)
    found = []
    for number in range(count):
        shown = values if number < moved else np.full_like(values, 3.0)
        bins = Bins.empty(size).folded(np.tile(np.arange(size), 100), shown.reshape(-1))
        found.append(WindowCounts(number, "all", 100, 0, bins.encode()))
    return found


def events(outcome: str, samples: Samples) -> float:
    return samples[("headrace_stream_events_total", ("press", "enrich", outcome))]


def parsed(text: str) -> Samples:
    """The exposition read back; every line must be one of the format's."""
    found: Samples = {}
    for line in text.removesuffix("\n").split("\n"):
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        name, labels, value = match.groups()
        pairs = PAIR.findall(labels)
        unquoted = [ESCAPED.sub(lambda m: MEANS[m[0]], value) for _, value in pairs]
        assert tuple(key for key, _ in pairs) == CATALOGUE[name].labels
        found[(name, tuple(unquoted))] = float(value)
    return found


def seen_latency() -> Seen:
    """Something of every bin."""
    bins = encode_bins(np.ones(BINS, np.int64))
    return Seen(latencies={"device_to_ingest": {"all": bins}}, dropped={"span": 1})


async def test_the_whole_catalogue_is_told(scene: Scene) -> None:
    """A worker that has done something of everything has a line of every metric."""
    facts = {
        "events": {"in": 10, "out": 9, "dead": 1},
        "retries": {"store.unavailable": 1},
        "state": StateFacts(entities=3, bytes=900, clocks={"ahead": 1, "right": 2, "behind": 0}),
        "partitions": (PartitionStatus(partition=0, lag=5, in_flight=1),),
        "seen": seen_latency(),
    }
    scene.watch.look()
    scene.says("enrich", **facts)
    held = StateFacts(bytes=700, behind_s={"0": 0.0, "1": 20.0})
    final = Status(stage="summarize", ready=True, state=held)
    seen = Seen(drift=windows(8, moved=5), model="m")
    cost = {"cpu_s": 1.5, "model": "m", "model_cpu_s": 0.2, "saved_cpu_s": 0.1}
    scene.says("serve", events={"out": 9}, seen=seen, beside=final, **cost)
    scene.readings.canary = CanaryBook()
    scene.readings.canary.add("right", 5.0)
    assert [incident.cause for incident in scene.watch.look()] == ["hop.device_to_ingest"]

    text = exposition(scene.watch.samples(), scene.readings.histograms())

    told = set(re.findall("^# TYPE (.*) ", text, re.MULTILINE))
    assert told == set(get_args(MetricName))
    assert {name for name, _ in parsed(exposition(scene.watch.samples()))} == {
        name for name, spec in CATALOGUE.items() if spec.kind != "histogram"
    }


async def test_a_histogram_is_told_as_prometheus_wants_it(scene: Scene) -> None:
    """Buckets are cumulative and exact, the last is the count, the sum is in seconds."""
    recorder = HopRecorder()
    recorder.record(
        Timed("t", 0, np.arange(3), np.array([900, 975, 0]), np.array([1000, 1000, 100_000])),
        begun_ms=1000.0,
        readable_ms=1000.0,
    )
    scene.says("enrich", seen=Seen(latencies=recorder.counted()))

    text = exposition({}, scene.readings.histograms())

    line = re.compile(
        r'_(bucket|sum|count)\{pipeline="press",hop="device_to_ingest",class="all"(.*)$'
    )
    found = [match.groups() for match in map(line.search, text.splitlines()) if match]
    buckets = [rest.removeprefix(',le="').split('"} ') for kind, rest in found if kind == "bucket"]
    assert [count for bound, count in buckets if bound in ("0.015", "0.025", "0.1")] == list("012")
    assert buckets[-1] == ["+Inf", "3"]
    (total,) = (float(rest.removeprefix("} ")) for kind, rest in found if kind == "sum")
    assert total == pytest.approx(100.125, rel=0.01)


async def test_workers_of_a_stage_are_added_up(scene: Scene) -> None:
    """Counters and gauges of two workers are one sample; what is of a process stays its own."""
    scene.says("enrich", events={"in": 10}, rss_mb=100.0)
    scene.says("enrich-2", events={"in": 4}, rss_mb=50.0)

    samples = scene.readings.samples()

    assert events("in", samples) == 14
    memory = "headrace_worker_resident_bytes"
    assert samples[(memory, ("press", "enrich", "enrich"))] == 100 << 20
    assert samples[(memory, ("press", "enrich", "enrich-2"))] == 50 << 20


async def test_a_restart_takes_nothing_from_a_counter(scene: Scene) -> None:
    """A new life counts from 0; what is told goes on, and gauges of the dead are not told."""
    lag = ("headrace_stream_lag_events", ("press", "enrich", "0"))
    scene.says("enrich", events={"in": 10}, partitions=(PartitionStatus(partition=0, lag=7),))
    assert scene.readings.samples()[lag] == 7
    scene.workers["enrich"].restarts = 1
    before = scene.readings.samples()
    scene.says("enrich", events={"in": 3})

    assert events("in", before) == 10
    assert lag not in before
    assert events("in", scene.readings.samples()) == 13
    restarts = ("headrace_worker_restarts_total", ("press", "enrich", "enrich"))
    assert scene.readings.samples()[restarts] == 1


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(
            st.just("headrace_stream_retries_total"),
            st.tuples(st.text(), st.text(), st.text()),
        ),
        st.floats(0, 1e12),
        max_size=5,
    )
)
def test_what_is_written_is_what_was_there(samples: Samples) -> None:
    """Any label value, with quotes, backslashes and line ends, reads back as it was."""
    assert parsed(exposition(samples)) == samples


async def test_health_is_told_as_numbers(scene: Scene) -> None:
    """Each of the probes and each dependency has its own truth."""

    def told() -> list[float]:
        samples = scene.watch.samples()
        parts = [("ready",), ("live",), ("dependency", "bus"), ("dependency", "store")]
        return [samples[f"headrace_health_{kind}", ("press", *of)] for kind, *of in parts]

    assert told() == [1, 1, 1, 1]
    scene.health.unready = ["store: no answer within 3 s"]
    scene.health.store = "no answer within 3 s"
    assert told() == [0, 1, 1, 0]
    scene.health.dead = ["serve is stuck"]
    assert told() == [0, 0, 1, 0]


async def test_one_view_of_everything(scene: Scene) -> None:
    """What terminals and pages show is what the workers told, ready to become JSON."""
    scene.says("enrich", events={"in": 10, "dead": 1}, cpu_s=1.0, rss_mb=100.0)
    scene.says("enrich-2", events={"in": 5}, partitions=(PartitionStatus(partition=1, lag=4),))
    scene.watch.look()
    scene.workers["enrich-2"].process = None

    view = msgspec.json.decode(msgspec.json.encode(scene.watch.view().facts()))

    enrich, serve, _ = view["stages"]
    assert (enrich["events"], enrich["lag"]) == ({"in": 15, "dead": 1}, 0)
    assert (enrich["running"], enrich["workers"], serve["workers"]) == (1, 2, 2)
    assert (view["ready"], view["incidents"]) == (True, [])
    assert [budget["name"] for budget in view["budgets"]] == ["answers"]
    assert view["drift"] == []


async def test_a_stage_beside_another_is_shown(scene: Scene) -> None:
    """The finaliser has its own counts; workers are SERVE's, which alone tells of the process."""
    beside = Status(stage="summarize", ready=True, events={"in": 6, "out": 2}, lag=3)
    parts = (PartitionStatus(partition=0, lag=3),)
    scene.says("serve", rss_mb=90.0, beside=msgspec.structs.replace(beside, partitions=parts))
    scene.watch.look()

    _, serve, summarize = scene.watch.view().stages

    assert (summarize.stage, summarize.inside, serve.inside) == ("summarize", "serve", None)
    assert (summarize.events, summarize.lag) == ({"in": 6, "out": 2}, 3)
    assert (summarize.running, summarize.workers, summarize.rss_mb) == (2, 2, 0.0)
    console = Console(width=140, file=io.StringIO())
    console.print(draw({"pipelines": [msgspec.to_builtins(scene.watch.view().facts())]}, "here"))
    assert "summarize" in console.file.getvalue()


async def test_predictions_have_a_cost_in_cpu_time(scene: Scene) -> None:
    """Seconds of every process of a stage for 1000 predictions; none while nothing is predicted."""
    scene.watch.look()
    for name in ("enrich", "enrich-2", "serve"):
        scene.says(name, cpu_s=3.0)
    scene.watch.look()
    assert [stage.cost_s for stage in scene.watch.view().stages] == [None, None, None]
    scene.says("serve", cpu_s=3.0, events={"out": 2000})
    scene.watch.look()

    cost = {k[1][1]: v for k, v in scene.watch.samples().items() if "cost_cpu" in k[0]}
    assert cost == {"enrich": pytest.approx(3.0), "serve": pytest.approx(1.5)}
    assert [stage.cost_s for stage in scene.watch.view().stages] == [3.0, 1.5, None]


async def test_drift_is_judged_once_over_workers_and_lives(scene: Scene) -> None:
    """Windows told of twice count once; two workers' are added; a window waits for the slower."""
    told = windows(9, moved=6)
    for until in range(1, 10):
        for name in ("serve", "serve-2"):
            newest = told[max(0, until - 3) : until]
            scene.says(name, seen=Seen(drift=newest, model="m"))
            scene.says(name, seen=Seen(drift=newest, model="m"))
    samples = scene.watch.samples()

    alarms = {k: v for k, v in samples.items() if k[0] == "headrace_drift_alarms_total"}
    assert set(alarms.values()) == {1.0}
    assert {labels[2] for _, labels in alarms} == {*PRESS.model_inputs, "score", "confidence"}
    assert [finding.window for finding in scene.watch.view().drift][:1] == [6]


async def test_the_terminal_shows_the_view(scene: Scene) -> None:
    """Every part of the read model has its line, an incident that goes on too."""
    scene.says("enrich", events={"dead": 1000}, seen=seen_latency())
    scene.says("serve", events={"out": 9}, seen=Seen(drift=windows(8, moved=5), model="m"))
    scene.watch.look()
    scene.watch.look()
    facts = {"pipelines": [msgspec.to_builtins(scene.watch.view().facts())]}
    console = Console(width=140, file=io.StringIO())

    console.print(draw(facts, "127.0.0.1:8080"))

    text = console.file.getvalue()
    for part in ("press: ready", "enrich", "1,000", "device_to_ingest", "site.answers", "page"):
        assert part in text
    assert "127.0.0.1:8080" in text


def test_top_says_what_to_do_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address one line of settings; with one that is dead, which and what to start."""
    monkeypatch.delenv("HEADRACE_HEALTH", raising=False)
    with pytest.raises(SettingsError, match="HEADRACE_HEALTH is not set"):
        top.callback(address=None, once=True, as_json=False)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(RetryableError, match=f"asking http://127.0.0.1:{port}/observe failed"):
            top.callback(address=f":{port}", once=True, as_json=False)


def test_rates_are_of_the_last_seconds() -> None:
    """Ten seconds, however long it has been running."""
    lag, rates = ("headrace_stream_batches_total", ("p", "serve")), Rates()
    for now_s in range(0, 100, 2):
        rates.observe(float(now_s), {lag: 0.0 if now_s < 80 else (now_s - 80) * 7.0})

    assert rates.per_s()[lag] == pytest.approx(7.0)


def test_the_terminal_shows_classes_of_the_whole_way_only() -> None:
    """Two classes double one hop's lines, not every hop's."""
    row = {"count": 1, "p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0, "p999_ms": None}
    hops = ("device_to_ingest", "device_to_prediction")
    rows = [{**row, "hop": hop, "device_class": name} for hop in hops for name in ("all", "press")]
    empty = {"stages": [], "budgets": [], "drift": [], "incidents": [], "canary": None}
    empty |= {"cost": None, "reasons": ["store: away"]}
    one = {**empty, "pipeline": "p", "ready": False, "latencies": rows}
    console = Console(width=140, file=io.StringIO())

    console.print(draw({"pipelines": [one]}, "here"))

    text = console.file.getvalue()
    assert (text.count("device_to_ingest"), text.count("device_to_prediction")) == (1, 2)
    assert "p: not ready" in text
    assert "store: away" in text
