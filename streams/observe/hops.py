"""How long events took, hop by hop and by device class, counted on columns in a worker."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64
from headrace.schemas.timed import Timed
from headrace.streams.client.latency import BINS, bins_of
from headrace.streams.observe.class_numbers import ClassNumbers
from headrace.streams.upstream.varints import pack, unpack

Hop = Literal[
    "device_to_ingest",
    "ingest_to_enrich",
    "enrich_to_features",
    "device_to_features",
    "features_to_inference",
    "inference_to_prediction",
    "ingest_to_prediction",
    "device_to_prediction",
    "prediction_to_consumer",
    "device_to_consumer",
]
"""From when to when. Device: the event's own time. Ingest: the broker's time of its telemetry
record. Enrich: its batch is taken in hand. Features: they are on the bus and in the online store.
Inference: it begins. Prediction: the bus has acknowledged it; towards the consumer: SERVE has made
it. Consumer: a `Consumer` that reports has it in hand."""

HOPS: dict[Hop, str] = {
    "device_to_ingest": "enrich",
    "ingest_to_enrich": "enrich",
    "enrich_to_features": "enrich",
    "device_to_features": "enrich",
    "features_to_inference": "serve",
    "inference_to_prediction": "serve",
    "ingest_to_prediction": "serve",
    "device_to_prediction": "serve",
    "prediction_to_consumer": "consumer",
    "device_to_consumer": "consumer",
}
"""Where each is measured, in the order of the data path."""

CONSUMER_HOPS = frozenset(hop for hop, place in HOPS.items() if place == "consumer")
FOLD_ROWS = 4096
"""Events that wait to be counted, at most, but for the last batch."""

_Durable = tuple[Timed, float, float]
"""A batch, when it was taken in hand and when what it made could be read."""

Counted = dict[str, dict[str, bytes]]
"""Hop, device class, and the bins in use as bytes (`encode_bins`)."""


class HopRecorder:
    """Counts of one stage in one process, for each hop and device class.

    A count costs about ten nanoseconds for each event and hop. Small batches are counted together,
    as counting has a fixed cost of some thirty microseconds.
    """

    def __init__(self) -> None:
        self._classes = ClassNumbers()
        self._counts: dict[Hop, I64] = {}
        self._waiting: list[_Durable] = []
        self._rows = 0

    def record(self, timed: Timed, *, begun_ms: float, readable_ms: float) -> None:
        """Count a batch that became durable.

        Args:
            timed: Its events.
            begun_ms: When it was taken in hand, milliseconds since 1970.
            readable_ms: When what it made could be read.
        """
        begun_ms = begun_ms if timed.begun_ms is None else timed.begun_ms
        self._waiting.append((timed, begun_ms, readable_ms))
        self._rows += len(timed)
        if self._rows >= FOLD_ROWS:
            self._fold()

    def counted(self) -> Counted:
        """Everything counted so far, as it travels."""
        self._fold()
        names = self._classes.names
        return {
            hop: {name: encode_bins(counts[k]) for k, name in enumerate(names[: len(counts)])}
            for hop, counts in self._counts.items()
        }

    def _fold(self) -> None:
        """Count what waits; all batches of a stage have features, or none has."""
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if not waiting:
            return
        batches = [timed for timed, _, _ in waiting]
        sizes = list(map(len, batches))
        begun, readable = (np.repeat([each[k] for each in waiting], sizes) for k in (1, 2))
        device = np.concatenate([timed.event_times_ms for timed in batches])
        ingest = np.concatenate([timed.log_times_ms for timed in batches])
        classes = [self._classes.of(timed.classes, len(timed)) for timed in batches]
        first = np.concatenate(classes) * BINS
        ready = [timed.ready_ms for timed in batches if timed.ready_ms is not None]
        if not ready:
            self._count("device_to_ingest", first, ingest - device)
            self._count("ingest_to_enrich", first, begun - ingest)
            self._count("enrich_to_features", first, readable - begun)
            self._count("device_to_features", first, readable - device)
            return
        self._count("features_to_inference", first, begun - np.concatenate(ready))
        self._count("inference_to_prediction", first, readable - begun)
        self._count("ingest_to_prediction", first, readable - ingest)
        self._count("device_to_prediction", first, readable - device)

    def _count(self, hop: Hop, first: NDArray[np.intp], took_ms: NDArray[Any]) -> None:
        """Count one hop; `first` is the first bin of each event's class, intp (N,)."""
        places = bins_of(np.asarray(took_ms, np.float64))
        places += first
        np.add.at(self._table(hop).reshape(-1), places, 1)

    def _table(self, hop: Hop) -> I64:
        """The counts of one hop, int64 (classes, BINS), as large as there are classes now."""
        table = self._counts.get(hop)
        classes = len(self._classes.names)
        if table is None or len(table) < classes:
            grown = np.zeros((classes, BINS), np.int64)
            if table is not None:
                grown[: len(table)] = table
            table = self._counts[hop] = grown
        return table


def encode_bins(counts: I64) -> bytes:
    """The bins in use of int64 (BINS,), about three bytes for each.

    Example:
        >>> counts = np.zeros(BINS, np.int64)
        >>> counts[[7, 9]] = 1, 300
        >>> encode_bins(counts).hex()
        '070201ac02'
    """
    places = np.flatnonzero(counts)
    return pack(np.concatenate([np.diff(places, prepend=0), counts[places]]))


def decode_bins(value: bytes) -> I64:
    """What `encode_bins` got.

    Raises:
        ValueError: these are no such bytes.
    """
    numbers = unpack(value)
    half = len(numbers) // 2
    places = np.cumsum(numbers[:half])
    if len(numbers) % 2 or (half and not 0 <= places[-1] < BINS):
        raise ValueError("counts of latencies name a bin that does not exist")
    counts = np.zeros(BINS, np.int64)
    counts[places] = numbers[half:]
    return counts
