"""Drift of one pipeline: windows of all its workers, closed in order and judged."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from headrace.schemas.observe import Drift
from headrace.schemas.observed import Finding, Image, Reference, SketchTold
from headrace.streams.observe.drift import DriftJudge, WindowSketch, sketch_of
from headrace.streams.observe.drift_sketch import WindowCounts
from headrace.streams.observe.samples import Samples

GRACE = 2
"""A window is judged when one this many windows later was seen: a slower partition has time."""

HISTORY = 288
"""Judged windows that are kept: two days of ten minutes each."""

MOST_UNTOLD = 4096

Teller = tuple[str, int]
"""A worker and the number of its life."""


class DriftBook:
    """Puts together what workers counted, and judges each window once.

    Args:
        settings: How drift is looked for.
        inputs: The model's input columns.

    Attributes:
        history: Findings of each judged window, newest last.
        alarms: Alarms so far, by device class and quantity.
    """

    def __init__(self, settings: Drift, inputs: Sequence[str]) -> None:
        self._settings, self._inputs = settings, inputs
        self._judges: dict[str, DriftJudge] = {}
        self._open: dict[tuple[int, str, str], dict[Teller, WindowCounts]] = {}
        self._judged = -1
        self._untold: list[Finding] = []
        self.history: deque[list[Finding]] = deque(maxlen=HISTORY)
        self.alarms: Counter[tuple[str, str]] = Counter()

    def take(self, teller: Teller, model: str, found: Iterable[WindowCounts]) -> list[Finding]:
        """What one life of a worker counted so far; alarms of the windows that this closed."""
        for counts in found:
            if counts.window > self._judged:
                key = (counts.window, model, counts.device_class)
                self._open.setdefault(key, {})[teller] = counts
        newest = max((window for window, _, _ in self._open), default=0)
        due = sorted({window for window, _, _ in self._open if window <= newest - GRACE})
        return [alarm for window in due for alarm in self._close(window)]

    def finish(self) -> None:
        """Judge what waits: nothing more will come."""
        for window in sorted({window for window, _, _ in self._open}):
            self._close(window)

    def latest(self) -> list[Finding]:
        """Findings of the window judged last."""
        return self.history[-1] if self.history else []

    def untold(self) -> list[Finding]:
        """Findings since this was last asked, at most `MOST_UNTOLD`."""
        told, self._untold = self._untold, []
        return told

    def references(self) -> list[Reference]:
        """What windows are held against, for `restore` in another life."""
        return [found for model, judge in self._judges.items() for found in judge.references(model)]

    @property
    def judged(self) -> int:
        """Number of the window judged last, -1 for none."""
        return self._judged

    def restore(self, image: Image, findings: Sequence[Finding]) -> None:
        """Go on where an earlier life was; harmless once a window was judged in this one.

        Args:
            image: What it kept.
            findings: What it found, oldest first.

        Raises:
            ValueError, IndexError: the image holds bytes that are none of bins.
        """
        if self._judged >= 0:
            return
        for told in image.references:
            self._judge(told.model).restore(told)
        newest = max((finding.window for finding in findings), default=-1)
        self._judged = max(image.judged, newest)
        by_window: dict[int, list[Finding]] = {}
        for finding in findings:
            by_window.setdefault(finding.window, []).append(finding)
        self.history.extend(by_window.values())

    def _judge(self, model: str) -> DriftJudge:
        return self._judges.setdefault(model, DriftJudge(self._settings, self._inputs))

    def _close(self, window: int) -> list[Finding]:
        self._judged = window
        closed = [key for key in self._open if key[0] == window]
        models: dict[str, dict[str, WindowSketch]] = {}
        for key in closed:
            _, model, name = key
            models.setdefault(model, {})[name] = _together(self._open.pop(key).values())
        findings = []
        for model, classes in sorted(models.items()):
            findings += self._judge(model).judge(window, classes)
        if findings:
            self.history.append(findings)
            self._untold = [*self._untold, *findings][-MOST_UNTOLD:]
        alarms = [finding for finding in findings if finding.alarm]
        self.alarms.update((alarm.device_class, alarm.quantity) for alarm in alarms)
        return alarms


def _together(parts: Iterable[WindowCounts]) -> WindowSketch:
    found = [sketch_of(SketchTold(part.rows, part.high, part.bins)) for part in parts]
    total = found[0]
    for other in found[1:]:
        total = total.merged(other)
    return total


def drift_samples(pipeline: str, book: DriftBook) -> Samples:
    """The newest indicators, and alarms so far."""
    found: Samples = {
        ("headrace_drift_psi_ratio", (pipeline, f.device_class, f.quantity)): f.value
        for f in book.latest()
    }
    for (name, quantity), count in book.alarms.items():
        found["headrace_drift_alarms_total", (pipeline, name, quantity)] = count
    return found


def line_of(pipeline: str, alarm: Finding) -> str:
    """One line for people, of names and numbers alone."""
    return (
        f"{alarm.quantity} of {pipeline}, class {alarm.device_class}, has drifted: distance "
        f"{alarm.distance:.3f}, by chance at most {alarm.limit:.3f}, index {alarm.value:.2f}; "
        f"look at what changed at the devices, or train the model anew"
    )
