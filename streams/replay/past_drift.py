"""Drift computed anew from feature blocks and predictions: what `up` told, to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from headrace.schemas.batch import I64
from headrace.schemas.block import FeatureBlock
from headrace.schemas.deadletter import parse_source
from headrace.schemas.observe import Drift
from headrace.schemas.observed import Finding, Image
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prediction import PredictionModel, PredictionTimes
from headrace.schemas.timed import Timed
from headrace.streams.agents.feature_rows import FeatureRows, join_blocks
from headrace.streams.agents.probes import real_rows
from headrace.streams.observe.drift_book import DriftBook
from headrace.streams.observe.drift_sketch import DriftSketch, WindowCounts


class Answer(msgspec.Struct, frozen=True):
    """What drift needs of a prediction; see `Prediction`."""

    source: str
    score: float | None
    label: str
    confidence: float | None
    model: PredictionModel
    times_ms: PredictionTimes


@dataclass(slots=True)
class PartitionLog:
    """What one partition's log says of the sampled events of a range.

    Attributes:
        answers: Offset of the telemetry record to its prediction.
        counts: By model, window and class.
    """

    answers: dict[int, Answer] = field(default_factory=dict)
    counts: dict[tuple[str, int, str], WindowCounts] = field(default_factory=dict)


class PastDrift:
    """Windows from `first` up to but not including `stop`, of partitions one after another.

    What a worker counted hangs on the log alone, and so does this: however it is read, and however
    many workers there were. Other values than live come only of a partition that was more than two
    windows behind when its window was judged, or of more device classes than are told apart.

    Args:
        pipeline: The pipeline.
        drift: How drift was looked for.
        first: Number of the first window.
        stop: Number of the window after the last.
        image: What `up` held windows against before the first; None learns it from the log's start.
    """

    def __init__(
        self, pipeline: Pipeline, drift: Drift, first: int, stop: int, image: Image | None = None
    ) -> None:
        self._drift, self._inputs = drift, pipeline.model_inputs
        self._class_by = pipeline.observe.class_by
        self._label = pipeline.model.outputs.label
        self._window_ms = round(drift.window_s * 1000)
        self._image, self._parts = image, dict[int, PartitionLog]()
        # Windows after the one that the image judged last count, if only to learn from.
        self.first = 0 if image is None else min(first, image.judged + 1)
        self._asked, self._stop = first, stop
        self._decode = msgspec.json.Decoder(Answer).decode

    @property
    def start_ms(self) -> int:
        """Broker time of the first event that counts, milliseconds since 1970."""
        return max(0, self.first * self._window_ms)

    def answered(self, partition: int, values: Sequence[bytes | None]) -> bool:
        """Take records of the predictions topic; whether later ones can still matter."""
        known, latest = self._parts.setdefault(partition, PartitionLog()).answers, 0
        for value in values:
            try:
                found = self._decode(value or b"")
                offset = parse_source(found.source).offset
            except (msgspec.DecodeError, RecursionError, ValueError):
                continue  # somebody else writes to this topic, too
            latest = max(latest, found.times_ms.ingest)
            if offset % self._drift.sample_every == 0:
                known[offset] = found
        return latest < self._stop * self._window_ms

    def featured(self, partition: int, blocks: Iterable[FeatureBlock]) -> None:
        """Take everything that the features topic holds of a partition, after its predictions."""
        part, served = self._parts.setdefault(partition, PartitionLog()), -1
        sketches: dict[str, DriftSketch] = {}
        last: int | None = None
        for block in blocks:
            start = int(np.searchsorted(block.offsets, served, side="right"))
            if start == len(block):
                continue  # a restarted worker wrote it again, or it says a rest
            served = int(block.offsets[-1])
            rows = self._rows(block.slice(start, len(block)))
            for window, model, timed in self._timed(rows, part.answers):
                if last is not None and window != last:
                    _collect(part.counts, sketches)
                last = window
                sketches.setdefault(model, DriftSketch(self._drift)).record(timed)
        _collect(part.counts, sketches)
        part.answers.clear()

    def findings(self) -> list[Finding]:
        """Every window asked for, judged in order."""
        book = DriftBook(self._drift, self._inputs)
        if self._image is not None:
            book.restore(self._image, ())
        found: list[Finding] = []
        for _, partition, model, counts in sorted(
            (
                (window, partition, model, counts)
                for partition, part in self._parts.items()
                for (model, window, _), counts in part.counts.items()
            ),
            key=lambda found: found[:3],
        ):
            book.take((f"{partition} {model}", 0), model, [counts])
            found += book.untold()
        book.finish()
        found += book.untold()
        return [finding for finding in found if finding.window >= self._asked]

    def _rows(self, block: FeatureBlock) -> FeatureRows:
        attributes = () if self._class_by is None else (self._class_by,)
        return join_blocks([block], columns=self._inputs, metrics=(), attributes=attributes)

    def _timed(
        self, rows: FeatureRows, answers: Mapping[int, Answer]
    ) -> Iterator[tuple[int, str, Timed]]:
        """The sampled events that were predicted, by window and model, in the order of the log."""
        windows = rows.log_times_ms // self._window_ms
        wanted = (rows.offsets % self._drift.sample_every == 0) & (windows >= self.first)
        wanted &= windows < self._stop
        if (real := real_rows(rows.entities)) is not None:
            wanted &= real
        found = [(row, answers.get(int(rows.offsets[row]))) for row in np.flatnonzero(wanted)]
        groups: dict[tuple[int, str], list[tuple[int, Answer]]] = {}
        for row, answer in found:
            if answer is not None and answer.score is not None and answer.confidence is not None:
                key = (int(windows[row]), answer.model.digest)
                groups.setdefault(key, []).append((int(row), answer))
        for (window, model), chosen in sorted(groups.items(), key=lambda group: group[0][0]):
            yield window, model, self._one(rows, chosen)

    def _one(self, rows: FeatureRows, chosen: Sequence[tuple[int, Answer]]) -> Timed:
        keep: I64 = np.array([row for row, _ in chosen], np.int64)
        classes = rows.attributes[-1] if self._class_by is not None else None
        score = np.array([answer.score for _, answer in chosen], np.float32)
        return Timed(
            rows.blocks[0].topic,
            rows.blocks[0].partition,
            rows.offsets[keep],
            rows.event_times_ms[keep],
            rows.log_times_ms[keep],
            None if classes is None else type(classes)(classes.names, classes.codes[keep]),
            features=rows.features[keep],
            score=score,
            confidence=np.array([answer.confidence for _, answer in chosen], np.float32),
            high=np.array([answer.label == self._label for _, answer in chosen]),
        )


def _collect(
    counts: dict[tuple[str, int, str], WindowCounts], sketches: Mapping[str, DriftSketch]
) -> None:
    """What the sketches hold now; of a window that goes on, all of it so far."""
    for model, sketch in sketches.items():
        for found in sketch.counted():
            counts[model, found.window, found.device_class] = found
