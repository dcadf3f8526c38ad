"""One run of `headrace demo`: everything started, watched, counted and stopped."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import Settings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.reads import log_ranges
from headrace.streams.cli.context import until_signal
from headrace.streams.cli.ledger import Ledger, shown_ms
from headrace.streams.client import Consumer, Producer
from headrace.streams.client.clock import wall_clock
from headrace.streams.console.door import Console
from headrace.streams.producers.host import HostSource
from headrace.streams.producers.produce import Record, produce
from headrace.streams.sites.assembly import Site, shown_of
from headrace.streams.sites.backing import Backing
from headrace.streams.workers.jobs import STAGES, Endpoints
from headrace.streams.workers.spawning import Spawner

DRAIN_S = 15.0
"""Longest wait at the end for events that are still on their way."""

DRAIN_LOOK_S = 0.05

DISTURB_AFTER_S = 9.0
"""Long enough for the model's own warm-up of five seconds."""

DISTURB_S = 4.0


class Tap:
    """Passes a source on and counts what it gave.

    Args:
        source: The telemetry source.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self.ended = False
        self.events = 0
        self.bytes = 0

    def take(self) -> list[Record] | None:
        """What the source gives now; None once ended, so that what was read is still sent."""
        if self.ended:
            return None
        records: list[Record] | None = self._source.take()
        for record in records or ():
            self.events += 1
            self.bytes += len(record.value)
        return records


class Demo:
    """One run of the demo.

    Args:
        file: Pipeline file.
        pipeline: What it says.
        settings: Where bus and store are.
        backing: These, being opened; they outlive the run.
        spawner: Starts the workers; it outlives the run.
        rate_hz: Readings per second of every device.
        disturb: Burn CPU for a moment.
        watched: Draw a live view instead of printing lines.
    """

    def __init__(
        self,
        file: Path,
        pipeline: Pipeline,
        settings: Settings,
        backing: Backing,
        spawner: Spawner,
        *,
        rate_hz: float,
        disturb: bool,
        watched: bool,
    ) -> None:
        self._pipeline = pipeline
        self._rate_hz = rate_hz
        self._disturb = disturb
        self._watched = watched
        self._file = file
        self._settings = settings
        self._backing = backing
        self._spawner = spawner
        self._ledger = Ledger(pipeline.model.outputs.label)
        self._began_s = process_start_s()
        self._first_event_s = time.monotonic()
        self._disturbed_s: float | None = None
        self._caught_after_s: float | None = None
        self._tap: Tap | None = None

    async def run(self, seconds: float | None) -> dict[str, Any]:
        """Start everything, run, let what is under way arrive, stop everything; the report."""
        site = Site(
            self._file,
            self._pipeline,
            self._settings,
            stages=STAGES,
            on_status=lambda status: self._ledger.statuses.__setitem__(status.stage, status),
            backing=self._backing,
            spawner=self._spawner,
        )
        if not self._watched:
            click.echo(
                f"starting {self._pipeline.name}: {self._pipeline.description or 'a pipeline'}"
            )
        console = Console(self._settings.console, lambda: shown_of([site]))
        try:
            source = HostSource(wall_clock)
            source.take()  # what the first rates are measured from
            endpoints = await site.start()
            if (url := console.listen()) is not None:
                click.echo(f"console: {url}")
            return await self._watch(site, endpoints, source, seconds)
        finally:
            await console.stop()
            await site.stop()

    async def _watch(
        self, site: Site, endpoints: Endpoints, source: HostSource, seconds: float | None
    ) -> dict[str, Any]:
        tap = self._tap = Tap(source)
        bus = endpoints.bus
        async with AsyncExitStack() as stack:
            _, consumer, producer = await asyncio.gather(
                self._mark_begin(site),
                stack.enter_async_context(Consumer(bus, self._pipeline)),
                stack.enter_async_context(Producer(bus, self._pipeline)),
            )
            receiving = asyncio.create_task(self._receive(consumer))
            sending = asyncio.create_task(
                produce(tap, producer, rate_hz=self._rate_hz, seconds=seconds)
            )
            showing = asyncio.create_task(self._show(site))
            upset = asyncio.create_task(self._upset())
            failing = asyncio.create_task(site.failed())
            watching = asyncio.create_task(self._backing.watch())
            stopped = asyncio.create_task(until_signal())
            readying = asyncio.create_task(self._await_ready(site))
            tasks: list[asyncio.Task[Any]] = [
                receiving, sending, showing, upset, failing, watching, stopped, readying,
            ]  # fmt: skip
            try:
                await asyncio.wait(
                    {sending, failing, watching, stopped, receiving},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in (failing, watching, receiving):
                    if task.done():
                        task.result()
                tap.ended = True
                await sending
                await producer.flush()
                await self._drained(tap)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            self._ledger.repeats = consumer.counts.repeats
        return self._report(site, tap)

    async def _mark_begin(self, site: Site) -> None:
        """Note where this run begins: a bus that is kept may hold the rest of an earlier one."""
        topic = topics_of(self._pipeline).telemetry.name
        options = self._backing.bus.options if self._backing.bus else {}
        for partition, (_, end) in (await log_ranges(options, topic)).items():
            self._ledger.begins[f"{topic}[{partition}]"] = end

    async def _await_ready(self, site: Site) -> None:
        await site.supervisor.ready()
        self._ledger.ready_ms = wall_clock() * 1000

    async def _receive(self, consumer: Consumer) -> None:
        async for batch in consumer.batches():
            predictions = self._ledger.ours(batch)
            if predictions and self._ledger.first_s is None:
                self._ledger.first_s = time.monotonic() - self._began_s
            for prediction in predictions:
                if self._ledger.add(prediction):
                    self._caught()

    def _caught(self) -> None:
        if self._disturbed_s is not None and self._caught_after_s is None:
            self._caught_after_s = time.monotonic() - self._disturbed_s

    async def _upset(self) -> None:
        if not self._disturb:
            return
        from headrace.streams.producers.disturb import Disturbance

        await asyncio.sleep(DISTURB_AFTER_S)
        self._disturbed_s = time.monotonic()
        with Disturbance(seconds=DISTURB_S):
            await asyncio.sleep(DISTURB_S)

    async def _drained(self, tap: Tap) -> None:
        """Wait until every event sent has ended somewhere, or no longer than `DRAIN_S`."""
        for _ in range(round(DRAIN_S / DRAIN_LOOK_S)):
            if self._ledger.settled(tap.events):
                return
            await asyncio.sleep(DRAIN_LOOK_S)

    def _report(self, site: Site, tap: Tap) -> dict[str, Any]:
        bus = self._backing.bus.kind if self._backing.bus else "none"
        report = self._ledger.report(bus=bus, events_in=tap.events, bytes_raw=tap.bytes)
        if self._disturb:
            caught = self._caught_after_s
            report["disturbance_caught_s"] = None if caught is None else round(caught, 2)
        if not self._watched:
            click.echo(self._line())
        click.echo(self._verdict(report))
        return report

    def _verdict(self, report: dict[str, Any]) -> str:
        raw, upstream = report["bytes_raw"], report["bytes_upstream"]
        return (
            f"{report['events_in']} events in, {report['predictions_out']} predictions, "
            f"{report['dead']} dead, {report['late']} late, {report['repeated']} repeated: "
            f"{report['lost']} lost, {report['duplicated']} doubled; first prediction after "
            f"{report['first_prediction_s']} s; {raw} bytes stayed here, {upstream} went upstream"
        )

    async def _show(self, site: Site) -> None:
        kind = self._backing.bus.kind if self._backing.bus else ""
        if self._watched:
            from headrace.streams.cli.view import LiveView

            view = LiveView(
                self._ledger,
                f"headrace · {self._pipeline.name} · {kind} bus",
                lambda: self.sent,
                lambda: self.elapsed_s,
            )
            with view:
                while True:
                    view.note = self._note()
                    view.refresh()
                    await asyncio.sleep(0.25)
        while True:
            await asyncio.sleep(2.0)
            click.echo(self._line())

    @property
    def sent(self) -> tuple[int, int]:
        """Events sent so far, and their bytes."""
        return (self._tap.events, self._tap.bytes) if self._tap else (0, 0)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began to send."""
        return time.monotonic() - self._first_event_s

    def _note(self) -> str:
        if self._disturbed_s is None:
            return "a disturbance comes soon: watch the cores" if self._disturb else ""
        if self._caught_after_s is None:
            return "burning CPU now …"
        return f"the disturbance was caught after {self._caught_after_s:.1f} s"

    def _line(self) -> str:
        ledger, (events, raw) = self._ledger, self.sent
        p50, p99, _ = map(shown_ms, ledger.percentiles().values())
        top = ", ".join(f"{name} {device.score:.2f}" for name, device in ledger.top(3))
        upstream = ledger.statuses["serve"].sent_upstream_bytes if "serve" in ledger.statuses else 0
        return (
            f"{self.elapsed_s:5.1f} s  in {events}  out {ledger.predictions}  "
            f"flagged {ledger.flagged}  p50 {p50} ms  p99 {p99} ms  "
            f"raw {raw} B  upstream {upstream} B  top {top}  {self._note()}".rstrip()
        )


def process_start_s() -> float:
    """When this process began, on the monotonic clock; Linux knows, elsewhere it is now."""
    try:
        fields = Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()
        since_boot_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot_s
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
    return time.monotonic() - age_s
