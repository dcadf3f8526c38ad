"""Samples as Prometheus reads them: its text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.observe.samples import Sample, Samples

CONTENT_TYPE = "text/plain; version=0.0.4"


def exposition(samples: Samples) -> str:
    """The whole answer: every metric that has samples, with its kind and meaning.

    Args:
        samples: Values by metric and labels.

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
    return "".join(f"{line}\n" for line in lines)


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
