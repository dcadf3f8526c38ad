"""The reference job in plain Python, as every side but Headrace does it.

One implementation, so that no side loses by how its job is written: only by how its framework hands
over events. A side that has one event at a time calls it with lists of one. State is kept in the
process, the fastest place there is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

METRICS = ("temperature_c", "vibration_g", "pressure_bar", "current_a")
LIMITS = ((-100.0, 500.0), (0.0, 100.0), (0.0, 1000.0), (0.0, 1000.0))
ALPHA = 0.05
REMEMBERED = 200_000

Event = dict[str, Any]


class Job:
    """State and model of the job.

    Args:
        model: ONNX file.
    """

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options)
        self.digest = blake2b(Path(model).read_bytes(), digest_size=4).hexdigest()
        self.ewma: dict[str, list[float]] = {}
        self.seen: OrderedDict[str, None] = OrderedDict()

    def predict(
        self, values: Iterable[bytes], sources: Sequence[str], ingested_ms: Sequence[int]
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
        events = [orjson.loads(value) for value in values]
        kept, rows = self._features(events)
        if not kept:
            return [], {}, []
        if len(kept) < len(events):
            events, sources, ingested_ms = (
                [column[n] for n in kept] for column in (events, sources, ingested_ms)
            )
        newest = {event["device_id"]: row for event, row in zip(events, rows, strict=True)}
        return (
            self._predictions(events, rows, sources, ingested_ms),
            {f"bench:{device}": row.tobytes() for device, row in newest.items()},
            kept,
        )

    def _features(self, events: list[Event]) -> tuple[list[int], np.ndarray]:
        """Which events are valid and new, and their rows."""
        kept, rows = [], []
        for n, event in enumerate(events):
            metrics = event["metrics"]
            values = [metrics[name] for name in METRICS]
            if not all(low <= v <= high for v, (low, high) in zip(values, LIMITS, strict=True)):
                continue
            if event["id"] in self.seen:
                continue
            self.seen[event["id"]] = None
            state = self.ewma.get(event["device_id"])
            if state is None:
                state = self.ewma[event["device_id"]] = values[:]
            else:
                for k, v in enumerate(values):
                    state[k] += ALPHA * (v - state[k])
            kept.append(n)
            rows.append(values + state)
        while len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        return kept, np.array(rows, np.float32).reshape(-1, 8)

    def _predictions(
        self,
        events: Sequence[Event],
        rows: np.ndarray,
        sources: Sequence[str],
        ingested_ms: Sequence[int],
    ) -> list[bytes]:
        """One JSON prediction per event, the documented form."""
        scores = self.session.run(None, {"x": rows})[0][:, 0].tolist()
        now = time.time_ns() // 1_000_000
        out = []
        for event, score, source, ingest_ms in zip(
            events, scores, sources, ingested_ms, strict=True
        ):
            device_ms = int(datetime.fromisoformat(event["time"]).timestamp() * 1000)
            out.append(
                orjson.dumps(
                    {
                        "id": blake2b(source.encode(), digest_size=16).hexdigest(),
                        "rev": 0,
                        "event_id": event["id"],
                        "device_id": event["device_id"],
                        "event_time": event["time"],
                        "score": score,
                        "label": "anomaly" if score >= 0.5 else "normal",
                        "confidence": max(score, 1 - score),
                        "tier": "light",
                        "flags": [],
                        "feature_age_ms": ingest_ms - device_ms,
                        "model": {"name": "reference", "version": 1, "digest": self.digest},
                        "source": source,
                        "times_ms": {"device": device_ms, "ingest": ingest_ms, "served": now},
                    }
                )
            )
        return out
