"""Records to events: JSON bytes to columns, a whole batch at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from headrace.enrichers import cloudevents
from headrace.enrichers.cloudevents import CloudEventsReader
from headrace.enrichers.depth import DEEPEST, is_too_deep
from headrace.enrichers.paths import LABEL, NUMBER, STAMP, TEXT, WORD, Shape, merge_leaves, text_of
from headrace.enrichers.registry import NO_REGISTRY, Registry
from headrace.enrichers.times import Bools, parse_iso, parse_numbers
from headrace.enrichers.verdicts import Verdicts
from headrace.schemas.batch import F64, I64, EventBatch, Headers, RecordBatch, join_records
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.input import Attribute, Input
from headrace.schemas.rekeyed import origin

LONGEST_TEXT = 256
"""Characters of an entity or event id: they become keys in the store and in memory."""
LONGEST_LABEL = 64
LARGEST = 1e100
"""Largest magnitude of a metric: beyond it, sums of squares over a window are no float."""

_UNREADABLE = (ValueError, TypeError, RecursionError)
"""What reading one record may raise; msgspec's errors and UnicodeDecodeError are ValueErrors."""


class Reader(Protocol):
    """Turns records into structs of one type."""

    def all(self, records: RecordBatch) -> list[Any]:
        """Every record of a batch; any error is the whole batch's."""

    def one(self, value: bytes | None, headers: Headers) -> Any:
        """One record."""


class JsonReader:
    """One JSON object a record, one call of one decoder each; records are never joined."""

    def __init__(self, shape: Shape) -> None:
        self._decode = msgspec.json.Decoder(shape.type).decode

    def all(self, records: RecordBatch) -> list[Any]:
        """Every record of a batch; any error is the whole batch's."""
        decode = self._decode
        return [decode(value) for value in records.values]  # type: ignore[arg-type] # None raises

    def one(self, value: bytes | None, headers: Headers) -> Any:
        """One record."""
        return self._decode(value)  # type: ignore[arg-type] # None raises


@dataclass(slots=True)
class Decoded:
    """What became of a record batch.

    Attributes:
        events: The valid events, in log order.
        rows: int64 (N,), the record row of each of them.
        dead: Record row to dead letter code, for every other row.
    """

    events: EventBatch
    rows: I64
    dead: dict[int, str]

    def part(self, records: RecordBatch, begin: int, end: int) -> Decoded:
        """What became of record rows `begin` to `end`, which are `records`."""
        first, last = np.searchsorted(self.rows, (begin, end)).tolist()
        events = self.events.slice(first, last)
        events.topic, events.partition = records.topic, records.partition
        dead = {row - begin: code for row, code in self.dead.items() if begin <= row < end}
        return Decoded(events, self.rows[first:last] - begin, dead)


class Decoder:
    """Decodes record batches by the `[input]` part of a pipeline file.

    Only the fields `[input]` names are built. A record that cannot be an event gets a code of
    `verdicts.CODES` and its neighbours are unharmed. Negative zero becomes zero, so that no
    result depends on which of the two a minimum meets first. Nesting is limited to
    `depth.DEEPEST` levels (`json.depth`), wherever it is read.

    Delivery: pure; events + dead = records, and no event depends on its neighbours.
    Cost: about 1 µs an event of 200 bytes and 4 metrics.

    Args:
        spec: The mapping.
        registry: Device registry whose columns become attributes.

    Attributes:
        low: float64 (M,), smallest value of each metric.
        high: Largest.

    Raises:
        PipelineFileError: two paths contradict each other, or one reaches into a raw or personal
            field, or reads a metric from a CloudEvents attribute. Fatal.
    """

    def __init__(self, spec: Input, registry: Registry = NO_REGISTRY) -> None:
        _refuse_withheld(spec)
        _refuse_envelope(spec)
        self._spec = spec
        self._registry = registry
        self._cloudevents = spec.format == "cloudevents"
        place = cloudevents.place if self._cloudevents else str
        paths = [spec.metric_path(name) for name in spec.metrics]
        self._metrics = list(dict.fromkeys([*map(place, paths), *paths]))
        time = place(spec.time)
        self._unit = "iso" if self._cloudevents and time in cloudevents.ENVELOPE else spec.time_unit
        labels = {name: place(spec.attribute_path(name)) for name in spec.attributes}
        leaves = [(place(spec.entity), TEXT), (time, WORD if self._unit == "iso" else STAMP)]
        leaves += [(place(spec.id), TEXT)] if spec.id else []
        leaves += [(cloudevents.VERSION, WORD)] if self._cloudevents else []
        leaves += [(place(path), NUMBER) for path in paths]
        leaves += [(path, LABEL) for path in labels.values()]
        shape = Shape(merge_leaves(leaves))
        self._reader: Reader = CloudEventsReader(shape) if self._cloudevents else JsonReader(shape)
        self._read_entity = shape.reader(place(spec.entity))
        self._read_time = shape.reader(time)
        self._read_id = shape.reader(place(spec.id)) if spec.id else None
        self._read_version = shape.reader(cloudevents.VERSION) if self._cloudevents else None
        self._read_metrics = [shape.reader(place(path)) for path in paths]
        self._read_table = shape.table([place(path) for path in paths])
        self._read_labels = {name: shape.reader(path) for name, path in labels.items()}
        bounds = spec.metrics.values()
        self.low = np.array([-LARGEST if m.min is None else max(m.min, -LARGEST) for m in bounds])
        self.high = np.array([LARGEST if m.max is None else min(m.max, LARGEST) for m in bounds])
        self._required = np.array([m.required for m in bounds])

    def __call__(self, records: RecordBatch) -> Decoded:
        """Decode one batch.

        Args:
            records: Any number of records of one partition.
        """
        return self.all([records])[0]

    def all(self, parts: Sequence[RecordBatch]) -> list[Decoded]:
        """Decode a batch of each of several partitions at once; each as it would be alone.

        A small batch costs as much as its calls, not as its events: four cost hardly more than one.
        """
        found, begin = self._joined(join_records(parts)), 0
        decoded = []
        for records in parts:
            own = found if len(parts) == 1 else found.part(records, begin, begin + len(records))
            self._name(own, records)
            decoded.append(own)
            begin += len(records)
        return decoded

    def _joined(self, records: RecordBatch) -> Decoded:
        """Events of one or several partitions; those without an id have an empty one."""
        structs, kept, dead = self._parse(records)
        count = len(structs)
        if count == len(records):
            rows, keys = np.arange(count), records.keys
        else:
            rows, keys = np.array(kept, np.int64), [records.keys[row] for row in kept]
        verdicts = Verdicts(count)
        offsets, log_times = records.offsets[rows], records.log_times_ms[rows]
        if self._read_version is not None:
            verdicts.mark("event.type", _not_version_1(self._read_version(structs), count))
        entities = self._entities(structs, verdicts)
        ids = self._ids(structs, verdicts)
        if self._spec.key == "entity":
            _check_keys(keys, entities, verdicts)
        times = self._times(structs, log_times, verdicts)
        metrics = self._columns(structs, verdicts)
        alive = verdicts.alive
        events = EventBatch(
            records.topic, records.partition, offsets, log_times, times, ids, entities, metrics,
            self._attributes(structs, entities),
        ).take(alive)  # fmt: skip
        dead |= {int(rows[row]): code for row, code in verdicts.dead().items()}
        return Decoded(events, rows if len(events) == count else rows[alive], dead)

    def _parse(self, records: RecordBatch) -> tuple[list[Any], list[int], dict[int, str]]:
        """Structs of the readable records, their rows (unless all), and codes of the others."""
        values, limit = records.values, self._spec.max_event_bytes
        try:
            longest = max(map(len, values), default=0)  # type: ignore[arg-type] # None raises
            if longest <= limit and (longest <= DEEPEST or not any(map(is_too_deep, values))):  # type: ignore[arg-type]
                return self._reader.all(records), [], {}
        except _UNREADABLE:
            pass  # some record of the batch is at fault: find out which
        structs, kept, dead = [], [], {}
        for row, value in enumerate(values):
            headers = records.headers[row] if records.headers is not None else ()
            if not value:
                dead[row] = "record.empty"
            elif len(value) > limit:
                dead[row] = "record.size"
            elif is_too_deep(value):
                dead[row] = "json.depth"
            else:
                try:
                    structs.append(self._reader.one(value, headers))
                    kept.append(row)
                except _UNREADABLE as error:
                    dead[row] = self._why(error, value)
        return structs, kept, dead

    def _why(self, error: Exception, value: bytes) -> str:
        if isinstance(error, RecursionError):
            return "json.depth"
        if isinstance(error, msgspec.ValidationError):
            text = str(error)
            beyond = "out of range" in text and any(f"`$.{p}`" in text for p in self._metrics)
            return "metric.range" if beyond else "event.type"
        return "metric.range" if _not_finite(value, self._metrics) else "json.invalid"

    def _entities(self, structs: list[Any], verdicts: Verdicts) -> list[str]:
        entities = _texts(list(self._read_entity(structs)), verdicts)
        if "" in entities:
            verdicts.mark("entity.missing", _each(entities, lambda e: not e))
        if max(map(len, entities), default=0) > LONGEST_TEXT:
            verdicts.mark("entity.size", _each(entities, lambda e: len(e) > LONGEST_TEXT))
        return entities

    def _ids(self, structs: list[Any], verdicts: Verdicts) -> list[str]:
        if self._read_id is None:
            return [""] * len(structs)
        ids = _texts(list(self._read_id(structs)), verdicts)
        if max(map(len, ids), default=0) > LONGEST_TEXT:
            verdicts.mark("id.size", _each(ids, lambda i: len(i) > LONGEST_TEXT))
        return ids

    def _name(self, found: Decoded, records: RecordBatch) -> None:
        """Give the events without an id their place as one."""
        events = found.events
        if "" in events.ids:
            places = self._places(records, found.rows)
            events.ids = [own or place for own, place in zip(events.ids, places, strict=True)]

    def _places(self, records: RecordBatch, rows: I64) -> list[str]:
        """Topic, partition and offset at which each event came in, also behind the intake stage."""
        if self._spec.rekey and records.headers is not None:
            headers = records.headers
            found = [origin(headers[row]) or records.source(row) for row in rows.tolist()]
            return [f"{place.topic}/{place.partition}/{place.offset}" for place in found]
        head = f"{records.topic}/{records.partition}/"
        return [f"{head}{offset}" for offset in records.offsets[rows].tolist()]

    def _times(self, structs: list[Any], log_times: I64, verdicts: Verdicts) -> I64:
        found = list(self._read_time(structs))
        kinds, blank = ({str}, "") if self._unit == "iso" else ({int, float}, 0)
        if not set(map(type, found)) <= kinds:
            verdicts.mark("time.missing", _each(found, lambda t: t is None))
            verdicts.mark("event.type", _each(found, lambda t: type(t) not in kinds))
            found = [t if type(t) in kinds else blank for t in found]
        parsed = parse_iso(found) if self._unit == "iso" else parse_numbers(found, self._unit)
        times, valid = parsed
        verdicts.mark("time.invalid", ~valid)
        verdicts.mark("time.future", self.ahead(times, log_times))
        return times

    def ahead(self, times: I64, log_times: I64) -> Bools:
        """Whether times are later than the broker's by more than devices may be; both in ms."""
        # A broker's time may be any int64 where producers set it: what is added to it wraps around.
        return times - round(self._spec.max_skew_s * 1000) > log_times

    def _columns(self, structs: list[Any], verdicts: Verdicts) -> F64:
        columns = self._numbers(structs)
        absent: Bools = np.isnan(columns) & self._required
        verdicts.mark("metric.missing", np.logical_or.reduce(absent, axis=1))
        outside: Bools = (columns < self.low) | (columns > self.high)
        verdicts.mark("metric.range", np.logical_or.reduce(outside, axis=1))
        columns += 0.0
        return columns

    def _numbers(self, structs: list[Any]) -> F64:
        """(N, metrics) as they were sent; absent and null are NaN."""
        shape = len(structs), len(self._read_metrics)
        if self._read_table is not None:
            with suppress(TypeError):  # an explicit null
                flat = np.fromiter(self._read_table(structs), np.float64, shape[0] * shape[1])
                return flat.reshape(shape)
        columns = np.empty(shape)
        for place, read in enumerate(self._read_metrics):
            columns[:, place] = np.array(list(read(structs)), np.float64)
        return columns

    def _attributes(self, structs: list[Any], entities: list[str]) -> dict[str, list[str]]:
        labels = {
            name: clean_labels(list(read(structs)), self._spec.attributes[name])
            for name, read in self._read_labels.items()
        }
        return labels | self._registry.attributes(entities)


def _refuse_withheld(spec: Input) -> None:
    """Refuse a mapping that reads what it declares as raw or personal."""
    personal = set(spec.raw) | set(spec.personal)
    paths = [(spec.time, personal), (spec.id or "", personal)]
    paths.append((spec.entity, set(spec.raw) if spec.entity_personal else personal))
    paths += [(spec.metric_path(name), personal) for name in spec.metrics]
    paths += [(spec.attribute_path(name), personal) for name in spec.attributes]
    for path, withheld in paths:
        if path.partition(".")[0] in withheld:
            raise PipelineFileError(
                f"[input] reads the path {path!r}, which lies in a field that it declares raw or "
                "personal and so is never decoded; take the field out of either"
            )


def _refuse_envelope(spec: Input) -> None:
    """Refuse a metric that is read from a CloudEvents attribute, which is always text."""
    for name in spec.metrics if spec.format == "cloudevents" else ():
        if spec.metric_path(name) in cloudevents.ENVELOPE:
            raise PipelineFileError(
                f"[input] reads metric {name!r} from the CloudEvents attribute "
                f"{spec.metric_path(name)!r}, which is text, expected a number; name a path into "
                "the data"
            )


def _each(values: list[Any], claim: Callable[[Any], bool]) -> Bools:
    return np.fromiter(map(claim, values), np.bool_, len(values))


def _texts(values: list[Any], verdicts: Verdicts) -> list[str]:
    """Identifiers as text; what is absent is empty."""
    kinds = set(map(type, values))
    if kinds <= {str}:
        return values
    if kinds & {bool, float}:
        verdicts.mark("event.type", _each(values, lambda v: type(v) in (bool, float)))
    return [text_of(value) for value in values]


def clean_labels(values: list[Any], spec: Attribute) -> list[str]:
    """Attribute texts, cut or restricted to the declared ones."""
    default, known = spec.default, frozenset(spec.values)
    if set(map(type, values)) != {str}:
        values = [_label(value) for value in values]
    if known:
        return [label if label in known else default for label in values]
    return [label[:LONGEST_LABEL] or default for label in values]


def _label(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _not_version_1(versions: Iterator[Any], count: int) -> Bools:
    found = (type(v) is not str or not v.startswith("1.") for v in versions)
    return np.fromiter(found, np.bool_, count)


def _check_keys(keys: list[bytes | None], entities: list[str], verdicts: Verdicts) -> None:
    if keys == list(map(str.encode, entities)):
        return
    pairs = list(zip(keys, entities, strict=True))
    verdicts.mark("key.missing", _each(keys, lambda k: k is None))
    verdicts.mark("key.mismatch", _each(pairs, lambda p: p[0] != p[1].encode()))


def _not_finite(value: bytes, metrics: list[str]) -> bool:
    """Whether this is JSON but for a ``NaN`` or ``Infinity`` as one of the metrics."""
    try:
        found = json.loads(value.decode())
    except _UNREADABLE:
        return False
    return any(_is_not_finite(found, path.split(".")) for path in metrics)


def _is_not_finite(found: Any, path: list[str]) -> bool:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return isinstance(found, float) and not math.isfinite(found)
