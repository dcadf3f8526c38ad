"""Sends what is known of every pipeline to a collector, again and again, beside the workers."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.schemas.errors import MissingExtraError
from headrace.schemas.settings import OtlpSettings
from headrace.streams.client.clock import wall_clock
from headrace.streams.observe.log_lines import LogKeeper, LogLine
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.samples import Histograms, Samples, added
from headrace.streams.observe.site_watch import SiteWatch
from headrace.streams.observe.traces import SpanRecord

if TYPE_CHECKING:
    from headrace.streams.telemetry import Otlp

log = logging.getLogger("headrace.telemetry")

ANSWER_S = 5.0
"""Longest time for one of the three requests."""


def check_otlp(settings: OtlpSettings) -> None:
    """Refuse a collector that cannot be spoken to.

    Raises:
        MissingExtraError: the exporter is not installed. Fatal.
        SettingsError: the file of headers cannot be read. Fatal.
    """
    if settings.url is None:
        return
    settings.headers()
    package = "opentelemetry-exporter-otlp-proto-http"
    if importlib.util.find_spec("opentelemetry.exporter") is None:
        raise MissingExtraError(package=package, extra="otlp", needed_for="HEADRACE_OTLP")


class OtlpExport:
    """Metrics, spans and log lines of one `up`, sent every `every_s` from a thread.

    A collector that is away costs spans and lines beyond what waits (`outgoing`), never a batch.

    Args:
        settings: Where the collector is.
        readings: What is known of each pipeline, and what was judged of it.
        now: Wall clock, seconds since 1970.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        readings: Sequence[tuple[Readings, SiteWatch]],
        *,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        self._settings, self._readings, self._now = settings, readings, now
        self._start_ns = self._ns()
        self._logs = LogKeeper()
        self._failing = False

    async def run(self) -> None:
        """Send until cancelled, and once more then."""
        logging.getLogger().addHandler(self._logs)
        # The exporter's import takes a third of a second: of a thread, not of this loop.
        collector = await asyncio.to_thread(self._connect)
        try:
            while True:
                await asyncio.sleep(self._settings.every_s)
                await asyncio.to_thread(self._send, collector)
        finally:
            logging.getLogger().removeHandler(self._logs)
            await asyncio.to_thread(self._send, collector)
            collector.close()

    def _connect(self) -> Otlp:
        from headrace.streams.telemetry import Otlp

        # It tells of every try, in a form of its own; we tell once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        return Otlp(self._settings.url or "", self._settings.headers(), timeout_s=ANSWER_S)

    def _send(self, collector: Otlp) -> None:
        samples: Samples = added(watch.samples() for _, watch in self._readings)
        histograms: Histograms = {}
        spans: list[SpanRecord] = []
        lines: list[tuple[str, LogLine]] = [("supervisor", line) for line in self._logs.take()]
        for readings, _ in self._readings:
            histograms |= readings.histograms()
            found = readings.outgoing.take()
            spans += found[0]
            lines += found[1]
        began = time.monotonic()
        sent = collector.send_metrics(
            samples, histograms, start_ns=self._start_ns, now_ns=self._ns()
        )
        sent = (not spans or collector.send_spans(spans)) and sent
        sent = (not lines or collector.send_logs(lines)) and sent
        self._tell(sent, time.monotonic() - began)

    def _tell(self, sent: bool, took_s: float) -> None:
        """One line when it begins to fail, one when it goes again."""
        if sent is not self._failing:
            return
        self._failing = not sent
        if sent:
            log.warning("the collector takes telemetry again")
        else:
            log.warning(
                "sending telemetry to the collector failed after %.1f s; see HEADRACE_OTLP; "
                "spans and log lines of that time are lost",
                took_s,
            )

    def _ns(self) -> int:
        return int(self._now() * 1e9)
