"""What a serving worker counts for drift: bins of each quantity by window and device class."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from headrace.schemas.batch import F64, I64
from headrace.schemas.block import Labels
from headrace.schemas.observe import Drift
from headrace.schemas.timed import Timed
from headrace.streams.observe.hops import ALL, MOST_CLASSES, OTHER
from headrace.streams.upstream.quantiles import Bins

FOLD_ROWS = 4096
"""Rows are folded together: each folding sorts, and has a fixed cost."""

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


class DriftSketch:
    """Samples the events of one serving worker, by their offsets.

    Args:
        settings: How drift is looked for.
    """

    def __init__(self, settings: Drift) -> None:
        self._settings = settings
        self._waiting: list[tuple[I64, list[str], F64, I64]] = []
        self._rows = 0
        self._found: dict[tuple[int, str], tuple[int, int, Bins]] = {}

    def record(self, timed: Timed) -> None:
        """Look at the sampled events of a batch that became durable."""
        if timed.features is None or timed.score is None or timed.confidence is None:
            return
        rows = np.flatnonzero(timed.offsets % self._settings.sample_every == 0)
        if not len(rows) or timed.high is None:
            return
        window_ms = round(self._settings.window_s * 1000)
        outputs = np.stack([timed.score[rows], timed.confidence[rows]], axis=1)
        values = np.hstack([timed.features[rows], outputs.astype(np.float64)])
        windows = timed.log_times_ms[rows] // window_ms
        classes = _names(timed.classes, rows)
        self._waiting.append((windows, classes, values, timed.high[rows].astype(np.int64)))
        self._rows += len(rows)
        if self._rows >= FOLD_ROWS:
            self._fold()

    def counted(self) -> list[WindowCounts]:
        """The newest windows, everything counted of them so far."""
        self._fold()
        newest = max((window for window, _ in self._found), default=0)
        self._found = {k: v for k, v in self._found.items() if k[0] > newest - KEPT_WINDOWS}
        return [
            WindowCounts(window, name, rows, high, bins.encode())
            for (window, name), (rows, high, bins) in self._found.items()
        ]

    def _fold(self) -> None:
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if not waiting:
            return
        windows = np.concatenate([part[0] for part in waiting])
        classes = Labels.encode([name for part in waiting for name in part[1]])
        values = np.concatenate([part[2] for part in waiting])
        high = np.concatenate([part[3] for part in waiting])
        places = windows * len(classes.names) + classes.codes
        for place in np.unique(places).tolist():
            chosen = places == place
            window, code = divmod(place, len(classes.names))
            self._add((window, self._class(classes.names[code])), values[chosen], high[chosen])

    def _add(self, key: tuple[int, str], values: F64, high: I64) -> None:
        size = values.shape[1]
        rows, before, bins = self._found.get(key, (0, 0, Bins.empty(size)))
        place = np.tile(np.arange(size), len(values))
        folded = bins.folded(place, values.reshape(-1))
        self._found[key] = (rows + len(values), before + int(high.sum()), folded)

    def _class(self, name: str) -> str:
        known = {found for _, found in self._found}
        return name if name in known or len(known) < MOST_CLASSES - 1 else OTHER


def _names(classes: Labels | None, rows: Sequence[int] | I64) -> list[str]:
    if classes is None:
        return [ALL] * len(rows)
    return [classes.names[code] for code in classes.codes[rows].tolist()]
