"""Predictions of a batch as JSON: a template with a hole for each column, as Headrace fills one.

Every side with batches writes so: 1.3 µs a prediction, where a struct for each took 1.7. What goes
between quotes is escaped a column at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

ID_DIGITS = 32
NORMAL, ANOMALY = b"normal", b"anomaly"
HALF, ONE = np.float32(0.5), np.float32(1)


def write(
    ids: Sequence[str],
    devices: Sequence[str],
    times: Sequence[str],
    scores: np.ndarray,
    sources: Sequence[str],
    device_ms: np.ndarray,
    ingest_ms: np.ndarray,
    *,
    digest: str,
    served_ms: int,
) -> list[bytes]:
    """One JSON prediction per event, the documented form.

    Args:
        ids: Of the events.
        devices: Entity of each.
        times: RFC 3339 of each.
        scores: float32 (N,), contiguous.
        sources: ``topic[partition]@offset`` of each.
        device_ms: int64 (N,), the devices' times.
        ingest_ms: int64 (N,), the broker's times.
        digest: Of the model, 8 hex digits.
        served_ms: Now.
    """
    names = _strings(ids)
    template = (
        b'{"id":"%%b","rev":0,"event_id":"%%b","device_id":"%%b","event_time":"%%b","score":%%b,'
        b'"label":"%%b","confidence":%%b,"tier":"light","flags":[],"feature_age_ms":%%b,'
        b'"model":{"name":"reference","version":1,"digest":"%b"},"source":"%%b",'
        b'"times_ms":{"device":%%b,"ingest":%%b,"served":%d}}' % (digest.encode(), served_ms)
    )
    columns = (
        [name.rjust(ID_DIGITS, b"0") for name in names],
        names,
        _strings(devices),
        _strings(times),
        _numbers(scores),
        [ANOMALY if high else NORMAL for high in (scores >= HALF).tolist()],
        _numbers(np.maximum(scores, ONE - scores)),
        _numbers(ingest_ms - device_ms),
        _strings(sources),
        _numbers(device_ms),
        _numbers(ingest_ms),
    )
    return [template % row for row in zip(*columns, strict=True)]


def _numbers(column: np.ndarray) -> list[bytes]:
    """A column, contiguous, as JSON: of a float32 the shortest text, as Headrace writes it."""
    return orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def _strings(texts: Sequence[str]) -> list[bytes]:
    """Texts, at least one, as the insides of JSON strings; there a quote follows a backslash."""
    return orjson.dumps(texts)[2:-2].split(b'","')
