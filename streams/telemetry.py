"""OpenTelemetry's door: metrics, spans and log lines to a collector by OTLP over HTTP, protobuf.

Imported only where somebody exports: no worker needs it. What comes in here has passed
`observe.attributes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)

from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.client.latency import count_within, total_ms
from headrace.streams.observe.exposition import BOUNDS_MS
from headrace.streams.observe.log_lines import LogLine
from headrace.streams.observe.samples import Histograms, Sample, Samples
from headrace.streams.observe.traces import SpanRecord

_SCOPE = InstrumentationScope("headrace")
_CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE
_SEVERITIES = {
    10: SeverityNumber.DEBUG,
    20: SeverityNumber.INFO,
    30: SeverityNumber.WARN,
    40: SeverityNumber.ERROR,
    50: SeverityNumber.FATAL,
}


class Otlp:
    """One collector. Calls block until it has answered or `timeout_s` is over; none raises.

    Args:
        url: Where it is; ``/v1/metrics``, ``/v1/traces`` and ``/v1/logs`` are put behind.
        headers: Sent along, for credentials.
        timeout_s: Longest time for one request and its repetitions, seconds.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout_s: float) -> None:
        self._resource = Resource({"service.name": "headrace"})
        given = dict(headers)
        base = url.rstrip("/")
        self._metrics = OTLPMetricExporter(f"{base}/v1/metrics", headers=given, timeout=timeout_s)
        self._spans = OTLPSpanExporter(f"{base}/v1/traces", headers=given, timeout=timeout_s)
        self._logs = OTLPLogExporter(f"{base}/v1/logs", headers=given, timeout=timeout_s)

    def send_metrics(
        self, samples: Samples, histograms: Histograms, *, start_ns: int, now_ns: int
    ) -> bool:
        """Send every metric, counted since `start_ns`; whether the collector took them."""
        names = dict.fromkeys(name for name, _ in (*samples, *histograms))
        metrics = [_metric(name, samples, histograms, start_ns, now_ns) for name in names]
        scope = sdk.ScopeMetrics(_SCOPE, metrics, "")
        data = sdk.MetricsData([sdk.ResourceMetrics(self._resource, [scope], "")])
        return self._metrics.export(data) is sdk.MetricExportResult.SUCCESS

    def send_spans(self, spans: Sequence[SpanRecord]) -> bool:
        """Send spans; whether the collector took them."""
        made = [_span(span, self._resource) for span in spans]
        return self._spans.export(made) is SpanExportResult.SUCCESS

    def send_logs(self, lines: Sequence[tuple[str, LogLine]]) -> bool:
        """Send log lines and whose they are; whether the collector took them."""
        made = [
            ReadableLogRecord(_log(worker, line), self._resource, _SCOPE) for worker, line in lines
        ]
        return self._logs.export(made) is LogRecordExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is being sent."""
        self._metrics.shutdown()
        self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._logs.shutdown()  # type: ignore[no-untyped-call]


def _metric(
    name: MetricName, samples: Samples, histograms: Histograms, start_ns: int, now_ns: int
) -> sdk.Metric:
    spec = CATALOGUE[name]
    points = [
        sdk.NumberDataPoint(_labels(sample), start_ns, now_ns, value)
        for sample, value in samples.items()
        if sample[0] == name
    ]
    data: sdk.Sum | sdk.Gauge | sdk.Histogram
    if spec.kind == "histogram":
        data = sdk.Histogram(
            [
                _distribution(sample, histograms, start_ns, now_ns)
                for sample in histograms
                if sample[0] == name
            ],
            _CUMULATIVE,
        )
    elif spec.kind == "counter":
        data = sdk.Sum(points, _CUMULATIVE, is_monotonic=True)
    else:
        data = sdk.Gauge(points)
    return sdk.Metric(name, spec.meaning, spec.unit, data)


def _distribution(
    sample: Sample, histograms: Histograms, start_ns: int, now_ns: int
) -> sdk.HistogramDataPoint:
    counts = histograms[sample]
    total = int(counts.sum())
    within = [0, *(count_within(counts, bound) for bound in BOUNDS_MS), total]
    buckets = [high - low for low, high in pairwise(within)]
    bounds = [bound / 1000 for bound in BOUNDS_MS]
    none = float("nan")
    return sdk.HistogramDataPoint(
        _labels(sample),
        start_ns,
        now_ns,
        total,
        total_ms(counts) / 1000,
        buckets,
        bounds,
        none,
        none,
    )


def _labels(sample: Sample) -> dict[str, str]:
    return dict(zip(CATALOGUE[sample[0]].labels, sample[1], strict=True))


def _span(span: SpanRecord, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        _context(span.traceparent),
        _context(span.parent) if span.parent else None,
        resource,
        span.attributes,
        links=[Link(_context(text)) for text in span.links],
        kind=SpanKind.CONSUMER,
        start_time=span.begin_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(traceparent: str) -> SpanContext:
    _, trace, span, _ = traceparent.split("-")
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=sampled)


def _log(worker: str, line: LogLine) -> LogRecord:
    span = _context(line.traceparent) if line.traceparent else INVALID_SPAN_CONTEXT
    return LogRecord(
        timestamp=line.time_ns,
        context=set_span_in_context(NonRecordingSpan(span)),
        severity_number=_SEVERITIES.get(line.level, SeverityNumber.UNSPECIFIED),
        body=line.text,
        attributes={"headrace.worker": worker, "headrace.logger": line.logger},
    )
