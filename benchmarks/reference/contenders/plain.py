"""The reference job in plain Python, as every side but Headrace does it.

One implementation, so that no side loses by how its job is written: only by how its framework hands
over events: a side with batches calls `predict`, which fills a template as Headrace does; a side
with one event at a time `predict_one`, which is the same without lists, columns and dictionaries,
and encodes a struct: a template for one event gained nothing. State is kept in the process, the
fastest place there is. The bytes are those that Headrace writes, but for the id (here the event's
own, filled up to the same length) and the time of serving.
"""

from __future__ import annotations

import gc
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import orjson
from records import ENCODE, Event, Model, Prediction, Times, read, read_one
from template import HALF, ID_DIGITS, ONE, write

ALPHA = 0.05
REMEMBERED = 200_000
SECONDS = 1000
"""Most parsed seconds that are kept."""
SECOND = len("2026-11-21T10:00:00")
MILLIS = slice(SECOND + 1, SECOND + 4)
TIME = "datetime64[ms]"
PACKED = struct.Struct("=8f").pack
"""A row as its float32: half the time of a column of tuples."""
NO_FLAGS: list[str] = []
STORE_KEY = "bench:"

TOLD = ("BUS", "STORE", "TELEMETRY", "OUTPUT", "MODEL")
GC_THRESHOLDS = (100_000, 50, 100)


def told() -> list[str]:
    """Bus, store, topic to read, topic to write, model file: what the benchmark says to a side."""
    return [os.environ[f"BENCH_{name}"] for name in TOLD]


def collect_less() -> None:
    """Keep what is there at start out of the garbage collector's way, and let it come less often.

    Events and predictions hold no cycles; every side calls this when it is about to begin.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class Job:
    """State and model of the job.

    Args:
        model: ONNX file.
    """

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options)
        self.digest = blake2b(Path(model).read_bytes(), digest_size=16).hexdigest()[:8]
        self.model = Model("reference", 1, self.digest)
        self.row = np.empty((1, 8), np.float32)
        self.feed = {"x": self.row}
        self.ewma: dict[str, list[float]] = {}
        self.seen: OrderedDict[str, None] = OrderedDict()
        self.seconds: dict[str, int] = {}

    def predict(
        self, values: Sequence[bytes], sources: Sequence[str], ingested_ms: Sequence[int]
    ) -> tuple[list[bytes], dict[str, bytes], list[int]]:
        """Records to predictions.

        Args:
            values: Of the records, JSON.
            sources: ``topic[partition]@offset`` of each.
            ingested_ms: Broker timestamp of each, ms.

        Returns:
            Prediction bytes; the newest feature row of every device, as bytes for the store; and
            which of the records the predictions belong to.
        """
        events = read(values)
        kept, rows = self._features(events)
        if not kept:
            return [], {}, []
        if len(kept) < len(events):
            events, sources, ingested_ms = (
                [column[n] for n in kept] for column in (events, sources, ingested_ms)
            )
        newest = {event.device_id: n for n, event in enumerate(events)}
        return (
            self._predictions(events, rows, sources, ingested_ms),
            {f"{STORE_KEY}{device}": rows[n].tobytes() for device, n in newest.items()},
            kept,
        )

    def predict_one(
        self, value: bytes, source: str, ingest_ms: int
    ) -> tuple[bytes, str, bytes] | None:
        """One record to its prediction, the bytes that `predict` writes.

        Args:
            value: Of the record, JSON.
            source: ``topic[partition]@offset`` of it.
            ingest_ms: Its broker timestamp, ms.

        Returns:
            Prediction bytes, and key and row for the store; None of an event that is not valid or
            was seen before.
        """
        event = read_one(value)
        if event is None or event.id in self.seen:
            return None
        self.seen[event.id] = None
        if len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        self.row[0] = self._row(event)
        score = self.session.run(None, self.feed)[0][0, 0]
        prediction = self._prediction(
            event, bool(score >= HALF), _text(score), _text(max(score, ONE - score)), source,
            ingest_ms, time.time_ns() // 1_000_000,
        )  # fmt: skip
        return prediction, STORE_KEY + event.device_id, self.row.tobytes()

    def _row(self, event: Event) -> tuple[float, ...]:
        """The four metrics and their EWMAs after this event."""
        metrics = event.metrics
        v0, v1 = metrics.temperature_c, metrics.vibration_g
        v2, v3 = metrics.pressure_bar, metrics.current_a
        state = self.ewma.get(event.device_id)
        if state is None:
            self.ewma[event.device_id] = [v0, v1, v2, v3]
            return v0, v1, v2, v3, v0, v1, v2, v3
        m0, m1, m2, m3 = state
        state[0] = m0 = m0 + ALPHA * (v0 - m0)
        state[1] = m1 = m1 + ALPHA * (v1 - m1)
        state[2] = m2 = m2 + ALPHA * (v2 - m2)
        state[3] = m3 = m3 + ALPHA * (v3 - m3)
        return v0, v1, v2, v3, m0, m1, m2, m3

    def _features(self, events: list[Event | None]) -> tuple[list[int], np.ndarray]:
        """Which events are valid and new, and their rows."""
        kept: list[int] = []
        rows: list[bytes] = []
        seen, row = self.seen, self._row
        for n, event in enumerate(events):
            if event is None or event.id in seen:
                continue
            seen[event.id] = None
            kept.append(n)
            rows.append(PACKED(*row(event)))
        while len(seen) > REMEMBERED:
            seen.popitem(last=False)
        return kept, np.frombuffer(b"".join(rows), np.float32).reshape(-1, 8)

    def _predictions(
        self,
        events: Sequence[Event],
        rows: np.ndarray,
        sources: Sequence[str],
        ingested_ms: Sequence[int],
    ) -> list[bytes]:
        """One JSON prediction per event, the documented form."""
        return write(
            [event.id for event in events],
            [event.device_id for event in events],
            [event.time for event in events],
            np.ascontiguousarray(self.session.run(None, {"x": rows})[0][:, 0]),
            sources,
            np.array([event.time[: MILLIS.stop] for event in events], TIME).astype(np.int64),
            np.array(ingested_ms),
            digest=self.digest,
            served_ms=time.time_ns() // 1_000_000,
        )

    def _prediction(
        self,
        event: Event,
        anomaly: bool,
        score: msgspec.Raw,
        confidence: msgspec.Raw,
        source: str,
        ingest_ms: int,
        now_ms: int,
    ) -> bytes:
        """One JSON prediction."""
        device_ms, name = self._milliseconds(event.time), event.id
        prediction = Prediction(
            name.rjust(ID_DIGITS, "0"), 0, name, event.device_id, event.time, score,
            "anomaly" if anomaly else "normal", confidence, "light", NO_FLAGS,
            ingest_ms - device_ms, self.model, source, Times(device_ms, ingest_ms, now_ms),
        )  # fmt: skip
        return ENCODE(prediction)

    def _milliseconds(self, time_text: str) -> int:
        """Milliseconds since 1970 of RFC 3339 UTC with milliseconds; a second is parsed once."""
        second = time_text[:SECOND]
        at_ms = self.seconds.get(second)
        if at_ms is None:
            if len(self.seconds) >= SECONDS:
                self.seconds.clear()
            at_ms = int(datetime.fromisoformat(f"{second}Z").timestamp()) * 1000
            self.seconds[second] = at_ms
        return at_ms + int(time_text[MILLIS])


def _text(number: np.float32) -> msgspec.Raw:
    """One float32 as JSON, the text that a column of them gives it."""
    return msgspec.Raw(orjson.dumps(number, option=orjson.OPT_SERIALIZE_NUMPY))
