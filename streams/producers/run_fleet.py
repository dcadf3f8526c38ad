"""One run of the fleet: into a topic on time, or into a file at once; and its report."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import BusWriter
from headrace.streams.producers.fleet import Block, Fleet
from headrace.streams.producers.ledger_file import Header, LedgerWriter, write_ledger
from headrace.streams.producers.open_loop import OpenLoop, Sent
from headrace.streams.producers.plan import EXPECTED, KINDS, OUTCOMES, Plan
from headrace.streams.producers.signals import ANOMALIES

PROGRESS_S = 5.0


class FleetRun:
    """Counts what a fleet makes, keeps the ledger, and reports.

    Args:
        plan: What is asked for.
        pipeline: Whose telemetry.
        start_ms: When the run begins, milliseconds since 1970.
        ledger: Where the ledger goes; None keeps none.
    """

    def __init__(self, plan: Plan, pipeline: Pipeline, start_ms: int, ledger: Path | None) -> None:
        self.plan, self.pipeline, self.start_ms = plan, pipeline, start_ms
        self._file = ledger
        self._ledger: LedgerWriter | None = None
        self._kinds: Counter[int] = Counter()
        self._anomalies: Counter[int] = Counter()
        self._run = ""

    async def to_topic(
        self, writer: BusWriter, now: Callable[[], float], stop: asyncio.Event
    ) -> dict[str, Any]:
        """Send all of it on time.

        Args:
            writer: Of the pipeline's telemetry topic.
            now: Wall clock, seconds since 1970.
            stop: Ends it early; what was made is sent.

        Returns:
            The report.

        Raises:
            HeadraceError: what the bus raised, unless retryable.

        Delivery: at-least-once; see `OpenLoop`.
        """
        began_s, cpu_s = time.monotonic(), time.process_time()
        async with AsyncExitStack() as stack:
            partitions = await writer.start()
            stack.push_async_callback(writer.stop)
            fleet = self._open(partitions)
            if self._ledger is not None:
                stack.enter_context(closing(self._ledger))
            loop = OpenLoop(writer, partitions, now=now)
            progress = asyncio.create_task(self._progress(loop))
            stack.callback(progress.cancel)
            await loop.run(_blocks(fleet), self.start_ms, stop, self._keep)
        return self._report(loop.sent, time.monotonic() - began_s, time.process_time() - cpu_s)

    def to_file(self, file: Path) -> dict[str, Any]:
        """Write all of it as NDJSON, at once.

        Raises:
            SettingsError: the file cannot be written. Fatal.
        """
        began_s, cpu_s, sent = time.monotonic(), time.process_time(), Sent()
        fleet = self._open(self.pipeline.topics.partitions)
        try:
            with file.open("wb") as lines:
                for block in _blocks(fleet):
                    lines.writelines(value + b"\n" for value in block.values)
                    self._keep(block)
                    sent.events += len(block.values)
                    sent.value_bytes += sum(map(len, block.values))
        except OSError as error:
            raise SettingsError(
                f"writing {str(file)!r} failed: {error.strerror}; name a file in a folder that "
                "can be written and has room"
            ) from error
        finally:
            if self._ledger is not None:
                self._ledger.close()
        return self._report(sent, time.monotonic() - began_s, time.process_time() - cpu_s)

    def _open(self, partitions: int) -> Fleet:
        fleet = Fleet(self.plan, self.pipeline, partitions, self.start_ms)
        self._run = fleet.run
        if self._file is not None:
            header = Header(
                run=fleet.run, pipeline=self.pipeline.name,
                topic=topics_of(self.pipeline).telemetry.name, partitions=partitions,
                start_ms=self.start_ms, plan=asdict(self.plan),
            )  # fmt: skip
            self._ledger = write_ledger(self._file, header)
        return fleet

    def _keep(self, block: Block) -> None:
        self._kinds.update(block.rows.kind.tolist())
        self._anomalies.update(block.rows.anomaly.tolist())
        if self._ledger is not None:
            self._ledger.write(block)

    async def _progress(self, loop: OpenLoop) -> None:
        """A line now and then, for people."""
        before = 0
        while True:
            await asyncio.sleep(PROGRESS_S)
            sent = loop.sent
            rate = (sent.events - before) / PROGRESS_S
            before = sent.events
            sys.stderr.write(
                f"{sent.events:,} events  {rate:,.0f}/s  {loop.waiting:,} waiting  "
                f"sender's p99 lateness {sent.lateness.quantile(0.99):.0f} ms\n"
            )

    def _rate(self, sent: Sent, seconds: float) -> int:
        """Acknowledged per second while readings were made; what waited comes after that."""
        if not sent.by_second:
            return round(sent.events / max(seconds, 1e-9))
        whole = int(self.plan.seconds)
        return round(sum(sent.by_second[second] for second in range(whole)) / max(whole, 1))

    def _report(self, sent: Sent, seconds: float, cpu_s: float) -> dict[str, Any]:
        expected: Counter[str] = Counter()
        for kind, count in self._kinds.items():
            expected[OUTCOMES[EXPECTED[kind]]] += count
        found: dict[str, Any] = {
            "run": self._run,
            "events": sent.events,
            "seconds": round(seconds, 2),
            "events_per_s": self._rate(sent, seconds),
            "most_events_per_s": max(sent.by_second.values(), default=0),
            "value_bytes": round(sent.value_bytes / max(sent.events, 1)),
            "cpu_us_per_event": round(cpu_s * 1e6 / max(sent.events, 1), 2),
            "rss_mb": _rss_mb(),
            "expected": {name: expected[name] for name in OUTCOMES},
            "kinds": {name: self._kinds[number] for number, name in enumerate(KINDS)},
            "anomalies": {name: self._anomalies[n] for n, name in enumerate(ANOMALIES) if n},
            "resent": sent.resent,
            "most_waiting": sent.most_waiting,
        }
        if sent.lateness.count:
            found["sender_late_ms"] = {
                "p50": round(sent.lateness.quantile(0.5), 1),
                "p99": round(sent.lateness.quantile(0.99), 1),
                "max": round(sent.latest_ms, 1),
            }
        return found


def _blocks(fleet: Fleet) -> Iterator[Block]:
    while (block := fleet.take()) is not None:
        yield block


def _rss_mb() -> float:
    """Most memory this process ever held, MiB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(held / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
