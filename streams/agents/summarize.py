"""The summarize step: SERVE's predictions folded into windows and groups, while in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from operator import itemgetter

import numpy as np
import orjson
from msgspec.structs import replace
from numpy.typing import NDArray

from headrace.enrichers.late import BEGINNING, watermarks
from headrace.schemas.batch import F64, I64
from headrace.schemas.block import Labels
from headrace.schemas.partial import Part, Passed, Seen, encode_partial
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Output
from headrace.schemas.topics import PipelineTopics
from headrace.streams.agents.moments import Running
from headrace.streams.agents.scored_rows import Change, Rest, ScoredRows
from headrace.streams.agents.windows import Cell, CellKey, Reach, Windows, WindowsDelta
from headrace.streams.upstream.quantiles import Bins

ALL = "all"
NO_TIMES = np.empty(0, np.int64)
PIECE_BYTES = 256 << 10
"""A part is cut into pieces of about this many bytes of devices, so that it fits any broker."""
_LABEL = 64
_GROUP = 260
_BESIDE_NAME = 20  # bytes of a device in a part, beside its name


@dataclass(slots=True)
class Placed:
    """Rows of one partition, by cell.

    Attributes:
        delta: Where the cells' new content goes.
        rows: The rows.
        keys: The cells.
        place: (N,), the cell of each prediction.
    """

    delta: WindowsDelta
    rows: ScoredRows
    keys: list[CellKey]
    place: NDArray[np.intp]


class Summarizer:
    """Folds predictions into tumbling event-time windows and groups, and hands on what is over.

    A window is over once the partition's watermark has reached its end and the allowed lateness.
    The watermark is that of ENRICH; and where a record says that the partition has rested for
    `summary.idle_s`, by the broker's times, event time is taken to have gone on since the last row
    as the broker's clock did. A row that comes after its window was over, judged by the records
    before it alone, is handed on with the next window that is. What is handed on depends on the
    log and not on how it was cut, nor on when it is read.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.
    """

    def __init__(self, pipeline: Pipeline, topics: PipelineTopics) -> None:
        self._topic = topics.partials.name
        self._layout = layout_of(pipeline)
        self._quantiles = pipeline.summary.quantiles
        self._window_ms = pipeline.summary.window_ms
        self._lateness_ms = round(pipeline.input.allowed_lateness_s * 1000)
        self._follows = pipeline.input.follows_broker
        self._idle_ms = round(pipeline.summary.idle_s * 1000)
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
        """What `rows` and `rests` change in the open windows, and the parts that are over.

        Args:
            windows: State before the rows; not changed.
            rows: Rows in log order; None where there are none.
            partition: Source partition.
            rests: Where among the rows the partition was said to rest, in log order.
        """
        return self.fold_all([Change(windows, rows, partition, rests)])[0]

    def fold_all(self, changes: Sequence[Change]) -> list[tuple[WindowsDelta, list[Output]]]:
        """`fold` of several partitions at once, each as it would be alone."""
        deltas, told, placed = [], [], []
        for change in changes:
            rows, before = change.rows, change.windows.reach
            times = NO_TIMES if rows is None else rows.event_times_ms
            logged = NO_TIMES if rows is None else rows.log_times_ms
            reached, reach, said = self._reached(before, times, logged, change.rests)
            deltas.append(WindowsDelta(change.windows, reach))
            told.append(said)
            if rows is not None and len(rows.served):
                starts = (times - times % self._window_ms)[rows.served]
                over = np.maximum(self._over(reached[:-1])[rows.served], before.over)
                closes = np.maximum(starts, over + self._window_ms)
                cells = self._cells(starts, closes, rows.groups)
                placed.append(Placed(deltas[-1], rows, *cells))
        if placed:
            self._fold(placed)
        return [
            (delta, self._handed_on(delta, change.partition, said))
            for delta, change, said in zip(deltas, changes, told, strict=True)
        ]

    def _over(self, watermark: I64) -> I64:
        """Start of the last window that is over at this watermark."""
        behind = watermark - self._lateness_ms
        return behind // self._window_ms * self._window_ms - self._window_ms

    def _reached(
        self, before: Reach, times: I64, logged: I64, rests: Sequence[Rest]
    ) -> tuple[I64, Reach, bool]:
        """The watermark before each row and after the last, how far it is then, rest or no rest.

        A rest before any row moves no watermark: nothing is known of event time yet.
        """
        reached = watermarks(times, logged if self._follows else times, before.watermark)
        rest, heard, at, resting, told = before.rest, before.heard, 0, before.resting, False
        for said in (*rests, None):
            place = len(times) if said is None else said.place
            if place > at:
                rest, heard, at = int(reached[place]), int(logged[place - 1]), place
                resting = False
            if said is not None and (heard == BEGINNING or said.log_ms - heard >= self._idle_ms):
                resting = told = True
                if heard != BEGINNING:
                    reached[place:] = np.maximum(reached[place:], rest + said.log_ms - heard)
        over = before.over
        if reached[-1] != BEGINNING:
            over = max(over, int(self._over(reached[-1:])[0]))
        return reached, Reach(int(reached[-1]), rest, heard, over, resting), told

    def _fold(self, placed: Sequence[Placed]) -> None:
        """Fold the cells of all of them at once; each cell has rows of one partition only."""
        cells = [(each, key) for each in placed for key in each.keys]
        known = [each.delta.windows.cells.get(key) for each, key in cells]
        bases = np.cumsum([0, *(len(each.keys) for each in placed)]).tolist()
        place = np.concatenate([p.place + base for p, base in zip(placed, bases, strict=False)])
        score = np.concatenate([each.rows.score for each in placed]).astype(np.float64)
        high = np.concatenate([each.rows.high for each in placed])
        metrics = np.concatenate([each.rows.metrics[:, : len(self.metrics)] for each in placed])
        quantities = [score, *metrics.T]
        running = _folded(known, place, quantities)
        bins = self._binned(known, place, quantities)
        counts = np.bincount(place, minlength=len(cells)).tolist()
        anomalies = np.bincount(place[high], minlength=len(cells)).tolist()
        for c, ((each, key), cell) in enumerate(zip(cells, known, strict=True)):
            old, model = cell or Cell(0, 0, {}, Running.empty(0)), each.rows.model
            each.delta.cells[key] = Cell(
                old.rows + counts[c],
                old.anomalies + anomalies[c],
                old.models | {model: old.models.get(model, 0) + counts[c]},
                running[c],
                bins=bins[c],
            )
        for each in placed:
            own = each.rows.score.astype(np.float64)
            _see(each.delta, each.keys, each.place, each.rows.entities, own, each.rows.high)

    def _cells(
        self, starts: I64, closes: I64, groups: Labels
    ) -> tuple[list[CellKey], NDArray[np.intp]]:
        """The rows' cells, and which of them each row is in."""
        first, width = int(starts.min()), len(groups.names)
        used, place = _ranks((starts - first) // self._window_ms * width + groups.codes)
        later = np.zeros(len(used), np.int64)
        if not np.array_equal(closes, starts):
            delays, delay = _ranks((closes - starts) // self._window_ms)
            both, place = _ranks(place * len(delays) + delay)
            used, later = used[both // len(delays)], delays[both % len(delays)] * self._window_ms
        at = first + used // width * self._window_ms
        cells = zip((at + later).tolist(), at.tolist(), (used % width).tolist(), strict=True)
        return [(closes, start, groups.names[group]) for closes, start, group in cells], place

    def _binned(
        self, known: list[Cell | None], place: NDArray[np.intp], quantities: list[F64]
    ) -> list[Bins]:
        """The cells' bins, with each quantity's values folded in, for all of them at once."""
        if not self._quantiles:
            return [Bins.empty(0)] * len(known)
        empty = Bins.empty(1 + len(self.metrics))
        carried = Bins.stacked([empty if cell is None else cell.bins for cell in known])
        width = len(empty.levels)
        places = place[:, None] * width + np.arange(len(quantities))
        return carried.folded(places.ravel(), np.stack(quantities, axis=1).ravel()).split(width)

    def _handed_on(self, delta: WindowsDelta, partition: int, told: bool) -> list[Output]:
        """Parts of the cells that are over, window by window, and behind each that we are past it.

        How far we are is also said where it changes without them, and whenever the partition is
        said to rest: the other half may have begun anew meanwhile.
        """
        before, over_ms = delta.windows.reach.over, delta.reach.over
        was_quiet = delta.windows.reach.resting and not delta.windows.cells
        open_keys = {**delta.windows.cells, **delta.cells}
        delta.closed = sorted(key for key in open_keys if key[0] <= over_ms)
        quiet = delta.reach.resting and len(delta.closed) == len(open_keys)
        if (over_ms, quiet) == (before, was_quiet) and not told:
            return []
        said: list[Part | Passed] = []
        passed = Passed(layout=self._layout, partition=partition, over_ms=before)
        for closes, keys in groupby(delta.closed, key=itemgetter(0)):
            said += (part for key in keys for part in self._parts(key, delta.whole(key), partition))
            passed = replace(passed, over_ms=closes, after_ms=passed.over_ms)
            said.append(passed)
        if not said or (over_ms, quiet) != (passed.over_ms, False):
            said.append(replace(passed, over_ms=over_ms, after_ms=passed.over_ms, quiet=quiet))
        return [
            Output(self._topic, 0, [_key(one) for one in said], list(map(encode_partial, said)))
        ]

    def _parts(self, key: CellKey, cell: Cell, partition: int) -> Iterator[Part]:
        closes, start, group = key
        for piece, devices in enumerate(_pieces(sorted(cell.devices.items()))):
            part = Part(
                layout=self._layout,
                partition=partition,
                window_start_ms=start,
                group=group,
                closes_ms=closes,
                piece=piece,
                devices=devices,
            )
            if not piece:
                part = replace(
                    part,
                    rows=cell.rows,
                    anomalies=cell.anomalies,
                    models=cell.models,
                    running=cell.running.encode(),
                    bins=cell.bins.encode() if len(cell.bins.levels) else b"",
                )
            yield part


def layout_of(pipeline: Pipeline) -> str:
    """Digest of what the content of a window hangs on; parts of another one do not fit together."""
    summary = pipeline.summary
    listed = [(name, pipeline.input.attributes.get(name)) for name in summary.group_by]
    groups = [(name, spec and (spec.values, spec.default)) for name, spec in listed]
    kept = [summary.window_ms, groups, summary.metrics, summary.quantiles]
    return hashlib.blake2b(orjson.dumps(kept), digest_size=8).hexdigest()


def _key(said: Part | Passed) -> bytes:
    """Window and group of a part, else the partition."""
    if isinstance(said, Part):
        return f"{said.window_start_ms}/{said.group}".encode()
    return str(said.partition).encode()


def _pieces(devices: Sequence[tuple[str, Seen]]) -> Iterator[dict[str, Seen]]:
    """The devices in pieces of at most about `PIECE_BYTES`, at least one."""
    piece: dict[str, Seen] = {}
    size = 0
    for name, seen in devices:
        size += len(name) + _BESIDE_NAME
        if size > PIECE_BYTES and piece:
            yield piece
            piece, size = {}, len(name) + _BESIDE_NAME
        piece[name] = seen
    yield piece


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
    entities: Labels,
    score: F64,
    high: NDArray[np.bool_],
) -> None:
    """Devices that are new in their cell, score higher than before, or are anomalous."""
    names, width = entities.names, len(entities.names)
    used, pair = _ranks(place.astype(np.int64) * width + entities.codes)
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
