"""The host source on the machine the tests run on, whatever it is."""

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.enrichers.enricher import Enricher
from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.producers import sensors
from headrace.streams.producers.busiest import Busiest
from headrace.streams.producers.disturb import Disturbance
from headrace.streams.producers.host import HostSource
from headrace.streams.producers.produce import Record, produce
from headrace.streams.producers.sample import HostEvent
from headrace.streams.producers.sensors import Machine

PIPELINE = Path(__file__).parents[3] / "examples" / "hosts" / "pipeline.toml"


def wall() -> float:
    return time.time_ns() / 1e9


class Kept:
    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(self, key: bytes | None, value: bytes) -> None:
        self.records.append(Record(key, value))

    @property
    def events(self) -> list[HostEvent]:
        return [msgspec.json.decode(value, type=HostEvent) for _, value in self.records]


async def telemetry(seconds: float, rate_hz: float = 20.0, **options: object) -> Kept:
    sink = Kept()
    source = HostSource(wall, **options)  # type: ignore[arg-type]
    await produce(source, sink, rate_hz=rate_hz, seconds=seconds)
    return sink


async def test_cores_and_the_host_are_devices_at_the_rate_asked() -> None:
    """Every sample but the first gives one event for each core and for the host."""
    sink = await telemetry(1.0)
    seen = [event.device_id for event in sink.events]
    assert 5 <= seen.count("host") <= 19
    assert seen.count("core-0") == seen.count("host")


async def test_events_satisfy_the_pipeline_that_reads_them() -> None:
    """Metrics, kinds, personal and raw fields are those that pipeline.toml declares."""
    pipeline = load_pipeline(PIPELINE).input
    kinds = pipeline.attributes["kind"].values
    sink = await telemetry(0.6)
    assert sink.records
    for (key, value), event in zip(sink.records, sink.events, strict=True):
        assert key == event.device_id.encode()
        assert tuple(event.metrics) == pipeline.metric_names
        assert all(number >= 0 for number in event.metrics.values())
        assert event.kind in kinds
        tree = msgspec.json.decode(value)
        known = {"id", "device_id", "time", "seq", "kind", "metrics"}
        assert set(tree) <= known | set(pipeline.raw) | set(pipeline.personal)


async def test_the_enrich_stage_takes_every_event() -> None:
    """Decoded by the pipeline's own input mapping, no event is dead, late or a repeat."""
    sink = await telemetry(1.0)
    values = [record.value for record in sink.records]
    offsets = np.arange(len(values))
    log_times_ms = np.full(len(values), round(wall() * 1000))
    batch = RecordBatch(
        "telemetry", 0, offsets, log_times_ms, [record.key for record in sink.records], values
    )
    enricher = Enricher(load_pipeline(PIPELINE))
    enriched = enricher.apply(enricher.new_state(), batch)
    assert (enriched.dead, enriched.late, enriched.repeated) == ({}, {}, 0)
    assert len(enriched.events) == len(values) > 0
    assert set(enriched.events.attributes["kind"]) >= {"core", "host"}


async def test_ids_never_repeat_even_over_restarts() -> None:
    """Two runs one after the other have no id in common."""
    first, second = await telemetry(0.4), await telemetry(0.4)
    ids = [event.id for event in first.events + second.events]
    assert len(set(ids)) == len(ids)


async def test_a_busy_core_is_seen_as_busy() -> None:
    """While one core is kept busy, its load is near 1 and the host's is at least its share."""
    with Disturbance(seconds=20, cores=1):
        sink = await telemetry(1.5, rate_hz=10)
    core = [event.metrics["load"] for event in sink.events if event.device_id == "core-0"]
    assert sorted(core)[len(core) // 2] > 0.8


async def test_a_busy_process_becomes_a_device_under_a_pseudonym() -> None:
    """The burner is among the busiest; its name and number are not in its device id."""
    with Disturbance(seconds=90, cores=1) as burning:
        # All the machine's processes: on a busy one the burner need not be among the first five.
        busy: list[Any] = []
        give_up_s = time.monotonic() + 60
        while not busy and time.monotonic() < give_up_s:
            sink = await telemetry(3.0, rate_hz=10, processes=200)
            busy = [e for e in sink.events if e.kind == "process" and "burn.py" in e.payload]
    assert busy
    assert busy[0].process
    assert str(burning.pids[0]) not in busy[0].device_id
    assert busy[0].process not in busy[0].device_id
    assert max(event.metrics["load"] for event in busy) > 0


def test_pseudonyms_differ_by_key_and_hold_for_one() -> None:
    """Without the key, device ids of processes cannot be joined over two runs."""

    def names(key: bytes) -> set[str]:
        ticks = itertools.count(0, 5)
        busiest = Busiest(3, key=key, clock=lambda: next(ticks))
        with Disturbance(seconds=60, cores=1):
            deadline_s = time.monotonic() + 60
            while not (found := {r.device_id for r in busiest.read()}):
                assert time.monotonic() < deadline_s
        return found

    assert not names(b"one") & names(b"two")


def test_a_process_that_vanishes_is_no_error() -> None:
    """A chosen process that ends between two looks is left out."""
    ticks = itertools.count()
    busiest = Busiest(50, key=b"k", clock=lambda: next(ticks) * 0.3)
    with Disturbance(seconds=60, cores=1) as burning:
        deadline_s = time.monotonic() + 60
        while not any("burn.py" in r.payload for r in busiest.read()):
            assert time.monotonic() < deadline_s
        burning.stop()
        assert not any("burn.py" in r.payload for r in busiest.read())


def absent(**_: bool) -> None:
    return None


def unknown(**_: bool) -> None:
    raise NotImplementedError


def forbidden(**_: bool) -> None:
    raise PermissionError


@pytest.mark.parametrize("missing", [absent, unknown, forbidden])
@pytest.mark.parametrize("text", [None, b"", b"no numbers here\nnor here"])
def test_missing_sensors_are_absent(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    missing: Callable[..., None],
    text: bytes | None,
) -> None:
    """Without disks, interfaces, pressure and interrupt counts, cores and host remain."""
    file = tmp_path / "kernel"
    if text is not None:
        file.write_bytes(text)
    for reading in ("disk_io_counters", "net_io_counters", "net_if_stats"):
        monkeypatch.setattr(sensors.psutil, reading, missing)
    monkeypatch.setattr(sensors, "_SOFTIRQS", file)
    monkeypatch.setattr(sensors, "_PRESSURE", (file,))
    assert {reading.kind for reading in Machine().read()} == {"core", "host"}


def test_a_prefix_keeps_machines_apart() -> None:
    """Two machines on one bus share no device id."""
    assert all(r.device_id.startswith("rack7-") for r in Machine("rack7-").read())


def test_the_source_is_cheap() -> None:
    """At ten samples a second the source takes under a tenth of one core."""
    source = HostSource(wall)
    source.take()
    before_s = time.process_time()
    for _ in range(40):
        source.take()
    assert (time.process_time() - before_s) / 40 * 10 < 0.1


def test_without_psutil_the_error_says_what_to_install() -> None:
    """The one line names the extra."""
    code = "import sys; sys.modules['psutil'] = None; import headrace.streams.producers.host"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'headrace[host]'" in result.stderr.splitlines()[-1]


def test_importing_the_runner_does_not_need_psutil() -> None:
    """Files can be produced where the host extra is not installed."""
    code = (
        "import sys; sys.modules['psutil'] = None\n"
        "import headrace.streams.producers.produce, headrace.streams.producers.replay\n"
        "import headrace.streams.producers.disturb"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_loop_is_not_held_up() -> None:
    """One sample of everything blocks the event loop for well under a period, at its best."""
    source = HostSource(wall)

    async def longest_s() -> float:
        done = await produce(source, Kept(), rate_hz=10, seconds=0.5)
        return done.late_s

    # A machine that is busy with other things is late by itself.
    assert min(asyncio.run(longest_s()) for _ in range(3)) < 0.5
