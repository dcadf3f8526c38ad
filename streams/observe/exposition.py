"""Samples as Prometheus reads them: its text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.schemas.batch import I64
from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.client.latency import count_within, total_ms
from headrace.streams.observe.samples import Histograms, Sample, Samples

CONTENT_TYPE = "text/plain; version=0.0.4"


BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 15.0, 25.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0,
             2000.0, 4000.0, 8000.0, 16000.0, 32000.0, 64000.0)  # fmt: skip
"""Buckets of every histogram, milliseconds: each is a bound of our bins, so its count is exact."""


def exposition(samples: Samples, histograms: Histograms | None = None) -> str:
    """The whole answer: every metric that has samples, with its kind and meaning.

    Args:
        samples: Values by metric and labels.
        histograms: Counts of latencies by metric and labels; their sums are made from the bins and
            are off by less than 1 %.

    Delivery: pure; the same samples give the same text.

    Example:
        >>> lag = ("headrace_stream_lag_events", ("press", "enrich", "0"))
        >>> print(exposition({lag: 5.0}).splitlines()[-1])
        headrace_stream_lag_events{pipeline="press",stage="enrich",partition="0"} 5
    """
    by_name: dict[MetricName, list[Sample]] = {}
    for sample in sorted(samples):
        by_name.setdefault(sample[0], []).append(sample)
    lines: list[str] = []
    for name, found in by_name.items():
        lines += _head(name)
        lines += (f"{name}{_labels(sample)} {_number(samples[sample])}" for sample in found)
    for name in sorted({name for name, _ in histograms or {}}):
        lines += _head(name)
        for sample, counts in sorted((histograms or {}).items(), key=lambda found: found[0]):
            lines += _histogram(sample, counts) if sample[0] == name else ()
    return "".join(f"{line}\n" for line in lines)


def _histogram(sample: Sample, counts: I64) -> Iterator[str]:
    name, labels = sample[0], _labels(sample)
    for bound_ms in BOUNDS_MS:
        within = count_within(counts, bound_ms)
        yield f'{name}_bucket{labels[:-1]},le="{bound_ms / 1000:g}"}} {within}'
    total = int(counts.sum())
    yield f'{name}_bucket{labels[:-1]},le="+Inf"}} {total}'
    yield f"{name}_sum{labels} {_number(total_ms(counts) / 1000)}"
    yield f"{name}_count{labels} {total}"


def _head(name: MetricName) -> Iterator[str]:
    spec = CATALOGUE[name]
    yield f"# HELP {name} {_escaped(spec.meaning)}"
    yield f"# TYPE {name} {spec.kind}"


def _labels(sample: Sample) -> str:
    name, values = sample
    pairs = zip(CATALOGUE[name].labels, values, strict=True)
    return "{" + ",".join(f'{key}="{_quoted(value)}"' for key, value in pairs) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
