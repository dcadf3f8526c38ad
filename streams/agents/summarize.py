"""The summarize step: SERVE's predictions folded into windows and groups, while in memory."""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.late import BEGINNING, watermarks
from headrace.schemas.batch import F64, I64
from headrace.schemas.block import Labels
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Output
from headrace.schemas.summary import Moments, SummaryRecord, TopDevice
from headrace.schemas.topics import PipelineTopics
from headrace.streams.agents.moments import Running
from headrace.streams.agents.windows import Cell, CellKey, Reach, Windows, WindowsDelta
from headrace.streams.upstream.distinct import distinct_of, read_distinct
from headrace.streams.upstream.frequent import frequent_of, read_frequent
from headrace.streams.upstream.quantiles import Bins, read_quantiles

log = logging.getLogger("headrace.summarize")

ALL = "all"
_LABEL = 64
_GROUP = 260
NO_TIMES = np.empty(0, np.int64)


@dataclass(slots=True)
class ScoredRows:
    """N predictions of one partition, in log order, as far as a summary looks at them.

    Attributes:
        event_times_ms: int64 (N,), milliseconds since 1970.
        log_times_ms: int64 (N,), broker times of the events.
        entities: Entity of each.
        groups: Group of each.
        score: float32 (N,).
        high: bool (N,), labelled anomalous.
        metrics: float64 (N, S); NaN is missing.
        model: Digest of the model that answered.
    """

    event_times_ms: I64
    log_times_ms: I64
    entities: Labels
    groups: Labels
    score: NDArray[np.float32]
    high: NDArray[np.bool_]
    metrics: F64
    model: str


@dataclass(frozen=True, slots=True)
class Rest:
    """A record that says: nothing else has come until now (a `FeatureBlock` of no rows).

    Attributes:
        place: Rows before it.
        log_ms: Broker time of it, milliseconds since 1970.
    """

    place: int
    log_ms: int


class Summarizer:
    """Folds predictions into tumbling event-time windows and groups, and releases what is over.

    A window is released once the partition's watermark has reached its end and the allowed
    lateness. The watermark is that of ENRICH; and where a record says that the partition has
    rested for `summary.idle_s`, by the broker's times, event time is taken to have gone on since
    the last row as the broker's clock did. A row that comes after its window was released, judged
    by the records before it alone, is in no summary. What is released depends on the log and not
    on how it was cut, nor on when it is read.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.
    """

    def __init__(self, pipeline: Pipeline, topics: PipelineTopics) -> None:
        self._summary = pipeline.summary
        self._name, self._digest = pipeline.name, pipeline.digest
        self._topic = topics.summaries.name
        self._window_ms = max(1, round(pipeline.summary.window_s * 1000))
        self._lateness_ms = round(pipeline.input.allowed_lateness_s * 1000)
        self._follows = pipeline.input.follows_broker
        self._idle_ms = round(pipeline.summary.idle_s * 1000)
        named = not pipeline.input.entity_personal
        self._top = pipeline.summary.top if named else 0
        # From a hash one can tell whether a known name is among few: as personal as the names.
        self._distinct = pipeline.summary.distinct and named
        self._frequent = pipeline.summary.frequent if named else 0
        self._listed = {
            name: {*spec.values, spec.default} for name, spec in pipeline.input.attributes.items()
        }
        self._other = {name: spec.default for name, spec in pipeline.input.attributes.items()}
        self.group_by = pipeline.summary.group_by
        self.metrics = pipeline.summary.metrics

    def groups(self, attributes: Sequence[Labels], rows: int) -> Labels:
        """Group of each row from the labels of the grouping attributes, in their order.

        A label that the pipeline file does not list counts as its attribute's default: nothing
        else can be a part of a group's name.
        """
        if not attributes:
            return Labels([ALL], np.zeros(rows, np.int32))
        columns = zip(self.group_by, attributes, strict=True)
        names = [[self._label(by, name) for name in labels.names] for by, labels in columns]
        codes = np.zeros(rows, np.int64)
        for labels in attributes:
            codes = codes * len(labels.names) + labels.codes
        used, codes = _ranks(codes)
        texts = ["/".join(parts)[:_GROUP] for parts in product(*names)]
        merged = Labels.encode([texts[code] for code in used.tolist()])
        return Labels(merged.names, merged.codes[codes])

    def _label(self, attribute: str, label: str) -> str:
        listed = self._listed.get(attribute)
        if listed is not None and label not in listed:
            label = self._other[attribute]
        return label[:_LABEL]

    def fold(
        self,
        windows: Windows,
        rows: ScoredRows | None,
        partition: int,
        rests: Sequence[Rest] = (),
    ) -> tuple[WindowsDelta, list[Output]]:
        """What `rows` and `rests` change in the open windows, and the summaries they release.

        Args:
            windows: State before the rows; not changed.
            rows: Rows in log order; None where there are none.
            partition: Source partition.
            rests: Where among the rows the partition was said to rest, in log order.
        """
        times, logged = (rows.event_times_ms, rows.log_times_ms) if rows else (NO_TIMES, NO_TIMES)
        reached, reach = self._reached(windows.reach, times, logged, rests)
        delta = WindowsDelta(windows, reach)
        if rows is not None and len(times):
            starts = times - times % self._window_ms
            in_time = starts + self._window_ms + self._lateness_ms > reached[:-1]
            self._fold(delta, rows, starts, in_time)
        return delta, self._released(delta, partition)

    def _reached(
        self, before: Reach, times: I64, logged: I64, rests: Sequence[Rest]
    ) -> tuple[I64, Reach]:
        """The watermark before each row and after the last, and how far it is then."""
        reached = watermarks(times, logged if self._follows else times, before.watermark)
        rest, heard, at = before.rest, before.heard, 0
        for said in (*rests, None):
            place = len(times) if said is None else said.place
            if place > at:
                rest, heard, at = int(reached[place]), int(logged[place - 1]), place
            if said is not None and heard != BEGINNING and said.log_ms - heard >= self._idle_ms:
                reached[place:] = np.maximum(reached[place:], rest + said.log_ms - heard)
        return reached, Reach(int(reached[-1]), rest, heard)

    def _fold(
        self, delta: WindowsDelta, rows: ScoredRows, starts: I64, in_time: NDArray[np.bool_]
    ) -> None:
        keep: slice | NDArray[np.bool_] = slice(None)
        if not in_time.all():
            delta.missed = len(in_time) - int(in_time.sum())
            log.warning("%d predictions are in no summary: their window was released", delta.missed)
            keep = in_time
            if delta.missed == len(in_time):
                return
        groups, entities = rows.groups.codes[keep], rows.entities.codes[keep]
        score, high = rows.score[keep].astype(np.float64), rows.high[keep]
        first = int(starts[keep].min())
        width = len(rows.groups.names)
        used, place = _ranks((starts[keep] - first) // self._window_ms * width + groups)
        keys: list[CellKey] = [
            (first + code // width * self._window_ms, rows.groups.names[code % width])
            for code in used.tolist()
        ]
        known = [delta.windows.cells.get(key) for key in keys]
        quantities = [score, *rows.metrics[keep].T[: len(self.metrics)]]
        running = _folded(known, place, quantities)
        bins = self._binned(known, place, quantities)
        counts = np.bincount(place, minlength=len(keys)).tolist()
        anomalies = np.bincount(place[high], minlength=len(keys)).tolist()
        for c, (key, cell) in enumerate(zip(keys, known, strict=True)):
            old = cell or Cell(0, 0, {}, Running.empty(0))
            models = old.models | {rows.model: old.models.get(rows.model, 0) + counts[c]}
            delta.cells[key] = Cell(
                old.rows + counts[c],
                old.anomalies + anomalies[c],
                models,
                running[c],
                bins=bins[c],
            )
        _see(delta, keys, place, entities, rows.entities.names, score, high)

    def _binned(
        self, known: list[Cell | None], place: NDArray[np.intp], quantities: list[F64]
    ) -> list[Bins]:
        """The cells' bins, with each quantity's values folded in, for all of them at once."""
        if not self._summary.quantiles:
            return [Bins.empty(0)] * len(known)
        empty = Bins.empty(1 + len(self.metrics))
        carried = Bins.stacked([empty if cell is None else cell.bins for cell in known])
        width = len(empty.levels)
        places = place[:, None] * width + np.arange(len(quantities))
        return carried.folded(places.ravel(), np.stack(quantities, axis=1).ravel()).split(width)

    def _released(self, delta: WindowsDelta, partition: int) -> list[Output]:
        over = delta.reach.watermark - self._lateness_ms - self._window_ms
        open_keys = {**delta.windows.cells, **delta.cells}
        delta.closed = sorted(key for key in open_keys if key[0] <= over)
        if not delta.closed:
            return []
        records = [self._record(key, delta.whole(key), partition) for key in delta.closed]
        keys = [f"{r.window_start_ms}/{r.group}".encode() for r in records]
        return [Output(self._topic, 0, keys, [encode_summary(r) for r in records])]

    def _record(self, key: CellKey, cell: Cell, partition: int) -> SummaryRecord:
        start, group = key
        suppressed = len(cell.devices) < self._summary.min_group
        score, *metrics = cell.running.moments()
        record = SummaryRecord(
            pipeline=self._name,
            pipeline_digest=self._digest,
            window_start_ms=start,
            window_end_ms=start + self._window_ms,
            group=group,
            partition=partition,
            rows=cell.rows,
            anomalies=0 if suppressed else cell.anomalies,
            devices=len(cell.devices),
            suppressed=suppressed,
            score=Moments(0, 0.0, 0.0, None, None) if suppressed else score,
            metrics={} if suppressed else dict(zip(self.metrics, metrics, strict=True)),
            top=() if suppressed else _top(cell, self._top),
            models={} if suppressed else cell.models,
        )
        return record if suppressed else self._sketched(record, cell)

    def _sketched(self, record: SummaryRecord, cell: Cell) -> SummaryRecord:
        """The record and the sketches that are asked for."""
        score, *metrics = cell.bins.sketches() if self._summary.quantiles else [None]
        anomalies: Counter[str] = Counter()
        for name, (_, rows) in cell.devices.items():
            anomalies[name[:_LABEL]] += rows
        return msgspec.structs.replace(
            record,
            score_quantiles=score,
            quantiles=dict(zip(self.metrics, metrics, strict=False)),
            distinct=distinct_of(cell.devices) if self._distinct else None,
            frequent=frequent_of(anomalies, counters=self._frequent) if self._frequent else None,
        )


def encode_summary(record: SummaryRecord) -> bytes:
    """The record as JSON, after every rule of its type was checked against the bytes themselves.

    Raises:
        ValueError: a field holds what its type does not allow; nothing of it is quoted.
    """
    value = msgspec.json.encode(record)
    try:
        read = msgspec.json.decode(value, type=SummaryRecord)
        check_sketches(read)
        allowed = read == record
    except (ValueError, msgspec.DecodeError):
        allowed = False
    if not allowed:
        raise ValueError("a summary holds what its type does not allow; it is not sent")
    return value


def check_sketches(record: SummaryRecord) -> None:
    """Refuse sketches that are not, to the letter, what the sketches' own code writes.

    Raises:
        ValueError: one is not; bytes that no sketch writes would be room for anything.
    """
    scores = [] if record.score_quantiles is None else [record.score_quantiles]
    for sketch in (*scores, *record.quantiles.values()):
        read_quantiles(sketch)
    if record.distinct is not None:
        read_distinct(record.distinct)
    if record.frequent is not None:
        read_frequent(record.frequent)


def _ranks(codes: NDArray[np.int64]) -> tuple[I64, NDArray[np.intp]]:
    """Distinct codes, none negative, and the rank of each row's among them."""
    span = int(codes.max()) + 1 if len(codes) else 0
    if span > 4 * len(codes) + 1024:
        used, rank = np.unique(codes, return_inverse=True)
        return used, rank
    there = np.zeros(span, np.bool_)
    there[codes] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]


def _folded(
    known: list[Cell | None], place: NDArray[np.intp], quantities: list[F64]
) -> list[Running]:
    """The cells' moments, with each quantity's values folded in, for all of them at once."""
    width, empty = len(quantities), Running.empty(len(quantities))
    cells = [empty if cell is None else cell.running for cell in known]
    names = Running.__slots__
    carried = Running(*[np.concatenate([getattr(cell, name) for cell in cells]) for name in names])
    places = place[:, None] * width + np.arange(width)
    folded = carried.folded(places.ravel(), np.stack(quantities, axis=1).ravel())
    columns = [getattr(folded, name).reshape(-1, width) for name in names]
    return [Running(*[column[c].copy() for column in columns]) for c in range(len(known))]


def _see(
    delta: WindowsDelta,
    keys: list[CellKey],
    place: NDArray[np.intp],
    entities: NDArray[np.int32],
    names: list[str],
    score: F64,
    high: NDArray[np.bool_],
) -> None:
    """Devices that are new in their cell, score higher than before, or are anomalous."""
    width = len(names)
    used, pair = _ranks(place.astype(np.int64) * width + entities)
    best = np.full(len(used), -np.inf)
    np.maximum.at(best, pair, score + 0.0)
    anomalies = np.bincount(pair[high], minlength=len(used))
    known = [delta.windows.cells.get(key) for key in keys]
    devices = [cell.devices if cell is not None else {} for cell in known]
    found: list[dict[str, tuple[float, int]]] = [{} for _ in keys]
    for code, top, more in zip(used.tolist(), best.tolist(), anomalies.tolist(), strict=True):
        cell, name = code // width, names[code % width]
        seen = devices[cell].get(name)
        if seen is None:
            found[cell][name] = (top, more)
        elif more or top > seen[0]:
            found[cell][name] = (max(top, seen[0]), seen[1] + more)
    delta.devices = {key: new for key, new in zip(keys, found, strict=True) if new}


def _top(cell: Cell, size: int) -> tuple[TopDevice, ...]:
    """The devices of the highest scores, of equal ones those with the first names."""
    best = heapq.nsmallest(size, cell.devices.items(), key=lambda item: (-item[1][0], item[0]))
    return tuple(TopDevice(name[:_LABEL], score, rows) for name, (score, rows) in best)
