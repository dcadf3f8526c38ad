"""What a serving worker counts for drift: bins of each quantity by window and device class."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.schemas.block import Labels
from headrace.schemas.observe import Drift
from headrace.schemas.timed import Timed
from headrace.streams.observe.class_numbers import MOST_CLASSES, ClassNumbers
from headrace.streams.upstream.quantiles import Bins

FOLD_ROWS = 4096
"""Rows are folded together, as each folding passes over all bins in use; some two milliseconds."""

KEPT_WINDOWS = 3
"""The newest windows of a worker: older ones were told of again and again."""

OUTPUTS = ("score", "confidence")


class WindowCounts(msgspec.Struct, frozen=True):
    """One window of one device class, as one worker's life saw it so far.

    Attributes:
        window: Number of the window: broker time divided by its length.
        device_class: Device class.
        rows: Events looked at.
        high: Of those, scored at or above the threshold.
        bins: `Bins.encode` of every quantity: the model's inputs, score, confidence.
    """

    window: int
    device_class: str
    rows: int
    high: int
    bins: bytes


_Looked = tuple[I64, F64, NDArray[np.bool_]]
"""Of each event its window and class in one number, its quantities, and whether it is high."""


class DriftSketch:
    """Samples the events of one serving worker, by their offsets.

    Args:
        settings: How drift is looked for.
    """

    def __init__(self, settings: Drift) -> None:
        self._every = settings.sample_every
        self._window_ms = round(settings.window_s * 1000)
        self._classes = ClassNumbers()
        self._waiting: list[_Looked] = []
        self._rows = 0
        # Windows and classes in one number, at the place that their quantities have in the bins.
        self._keys: list[int] = []
        self._counts = np.zeros((2, 0), np.int64)
        self._bins = Bins.empty(0)
        self._told: dict[int, WindowCounts] = {}

    def record(self, timed: Timed) -> None:
        """Look at the sampled events of a batch that became durable."""
        if timed.features is None or timed.score is None or timed.confidence is None:
            return
        rows = sampled(timed.offsets, self._every)
        windows = timed.log_times_ms[rows] // self._window_ms
        if not len(windows) or timed.high is None:
            return
        known = timed.classes
        classes = self._classes.of(
            None if known is None else Labels(known.names, known.codes[rows]), len(windows)
        )
        size = timed.features.shape[1]
        values = np.empty((len(windows), size + len(OUTPUTS)))
        values[:, :size] = timed.features[rows]
        values[:, size], values[:, size + 1] = timed.score[rows], timed.confidence[rows]
        self._waiting.append((windows * MOST_CLASSES + classes, values, timed.high[rows]))
        self._rows += len(windows)
        if self._rows >= FOLD_ROWS:
            self._fold()

    def counted(self) -> list[WindowCounts]:
        """The newest windows, everything counted of them so far."""
        self._fold()
        if not self._keys:
            return []
        oldest = max(self._keys) // MOST_CLASSES - KEPT_WINDOWS + 1
        parts = self._bins.split(len(self._bins.levels) // len(self._keys))
        kept = [place for place, key in enumerate(self._keys) if key // MOST_CLASSES >= oldest]
        if len(kept) < len(self._keys):
            parts = [parts[place] for place in kept]
            self._keys = [self._keys[place] for place in kept]
            self._counts, self._bins = self._counts[:, kept], Bins.stacked(parts)
        self._told = {
            key: self._tell(key, rows, high, bins)
            for key, rows, high, bins in zip(self._keys, *self._counts.tolist(), parts, strict=True)
        }
        return list(self._told.values())

    def _tell(self, key: int, rows: int, high: int, bins: Bins) -> WindowCounts:
        known = self._told.get(key)
        if known is not None and known.rows == rows:
            return known  # nothing came: encoding is most of what telling costs
        window, number = divmod(key, MOST_CLASSES)
        return WindowCounts(window, self._classes.names[number], rows, high, bins.encode())

    def _fold(self) -> None:
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if not waiting:
            return
        keys, values, high = (np.concatenate(column) for column in zip(*waiting, strict=True))
        size = values.shape[1]
        fresh, inverse = np.unique(keys, return_inverse=True)
        places = np.array([self._place(key, size) for key in fresh.tolist()], np.intp)[inverse]
        self._counts[0] += np.bincount(places, minlength=len(self._keys))
        self._counts[1] += np.bincount(places[high], minlength=len(self._keys))
        quantities = places[:, np.newaxis] * size + np.arange(size)
        self._bins = self._bins.folded(quantities.reshape(-1), values.reshape(-1))

    def _place(self, key: int, size: int) -> int:
        """Where a window of a class is counted; a new one behind the others."""
        if key not in self._keys:
            self._keys.append(key)
            self._counts = np.pad(self._counts, ((0, 0), (0, 1)))
            self._bins = Bins.stacked([self._bins, Bins.empty(size)])
        return self._keys.index(key)


def sampled(offsets: I64, every: int) -> slice | NDArray[np.intp]:
    """The rows whose offset is divisible by `every`.

    Args:
        offsets: int64 (N,), ascending.
        every: At least 1.

    Example:
        >>> sampled(np.array([6, 7, 8, 9]), 4), sampled(np.array([6, 8, 12]), 4)
        (slice(2, None, 4), array([1, 2]))
    """
    if len(offsets) and offsets[-1] - offsets[0] == len(offsets) - 1:
        # No gap, as nearly always: nothing is computed for each event.
        return slice(int(-offsets[0] % every), None, every)
    return np.flatnonzero(offsets % every == 0)
