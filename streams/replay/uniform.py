"""Telemetry that is all laid out alike, from bytes to columns without an object for each event.

A stream's records mostly differ in their values only. The first record of a batch tells how it is
laid out (`outline.py`); Arrow's CSV reader cuts all of them at their commas, and each piece must
begin and end with the bytes of the first one's. Quotes, backslashes and control characters are
counted over the whole batch, so that a record that passes is that layout around plain values and
nothing else. What does not pass, or holds anything that could make an event dead, is left to
`enrichers.decode.Decoder`: this gives its columns, bit for bit, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.decode import LONGEST_TEXT, Decoder, clean_labels
from headrace.enrichers.registry import Registry
from headrace.enrichers.times import parse_iso, parse_iso_bytes, parse_numbers
from headrace.schemas.batch import I64, RecordBatch
from headrace.schemas.input import Input
from headrace.streams.arrow import arrow
from headrace.streams.replay.forms import stamps
from headrace.streams.replay.outline import Outline, Piece, outline_of

_END = 2**31 - 1  # of a slice: pyarrow 26 overflows where it is left open
_QUOTE, _BACKSLASH, _SPACE, _MINUS, _DOT, _ZERO = b'"\\ -.0'
_MOST_PASSED = 64


class NotAlikeError(Exception):
    """Some record is laid out otherwise, or may be dead: decode the batch exactly."""


class Uniform:
    """Columns of telemetry tables of batches that are laid out alike.

    Args:
        spec: Says how a record becomes an event.
        registry: Device registry whose columns become attributes.
        decode: The exact decoder of both.

    Cost: half of the exact decoder's, 0.7 µs an event of 200 bytes and 4 metrics; a batch that is
        not alike costs up to that in vain, so after each of them more batches are not tried.
    """

    def __init__(self, spec: Input, registry: Registry, decode: Decoder) -> None:
        self._spec, self._registry, self._decode = spec, registry, decode
        self._pass = self._passed = 0

    def columns(self, records: RecordBatch) -> list[Any] | None:
        """Event time, id, entity, metrics and attributes as Arrow arrays; None: not alike."""
        if self._spec.format != "json" or self._passed < self._pass:
            self._passed += 1
            return None
        try:
            found = self._columns(records)
            self._pass = 0
        except NotAlikeError:
            found = None
            self._pass, self._passed = min(2 * self._pass + 1, _MOST_PASSED), 0
        return found

    def _columns(self, records: RecordBatch) -> list[Any]:
        spec, values = self._spec, records.values
        found = _cut(values, spec.max_event_bytes)
        entities = found.texts(spec.entity)
        if spec.key == "entity":
            _must(arrow("compute").all(_equal(records.keys, entities)).as_py())
        times = self._times(found)
        _must(not self._decode.ahead(times, records.log_times_ms).any())
        columns = [stamps(times), self._ids(found, records), entities]
        columns += [self._metric(found, name, row) for row, name in enumerate(spec.metrics)]
        columns += [
            _mapped(found.texts(spec.attribute_path(name), 0), self._labels(name))
            for name in spec.attributes
        ]
        return columns + [
            _mapped(entities, self._registered(name)) for name in self._registry.tables
        ]

    def _ids(self, found: _Found, records: RecordBatch) -> Any:
        if self._spec.id:
            return found.texts(self._spec.id)
        _must(not self._spec.rekey)  # a header may say where the event came in
        text = arrow().string()
        places = arrow().array(records.offsets).cast(text)
        head = arrow().scalar(f"{records.topic}/{records.partition}/")
        return arrow("compute").binary_join_element_wise(head, places, arrow().scalar(""))

    def _times(self, found: _Found) -> I64:
        spec = self._spec
        if spec.time_unit == "iso":
            times, valid = _iso(found.texts(spec.time))
        else:
            whole = found.integers(spec.time)
            times, valid = parse_numbers(whole.to_pylist(), spec.time_unit)
        _must(valid.all())
        return times

    def _metric(self, found: _Found, name: str, row: int) -> Any:
        path = self._spec.metric_path(name)
        if path not in found.outline.scalars:
            _must(found.outline.lacks(path) and not self._spec.metrics[name].required)
            return arrow().nulls(found.count, arrow().float64())
        numbers = found.numbers(path)
        _must(numbers.min() >= self._decode.low[row] and numbers.max() <= self._decode.high[row])
        return arrow().array(numbers + 0.0)

    def _labels(self, name: str) -> Any:
        spec = self._spec.attributes[name]
        return lambda texts: clean_labels(texts, spec)

    def _registered(self, name: str) -> Any:
        return lambda entities: self._registry.attributes(entities)[name]


class _Found:
    """A batch, cut into pieces."""

    def __init__(self, outline: Outline, columns: Sequence[Any], count: int) -> None:
        self.outline, self.count = outline, count
        self._texts: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        for piece, column in zip(outline.pieces, columns, strict=True):
            inner = _inner(piece, column)
            if piece.path is not None:
                (self._texts if piece.is_text else self._numbers)[piece.path] = inner
        self._floats = {path: _floats(column) for path, column in self._numbers.items()}

    def texts(self, path: str, least: int = 1) -> Any:
        """A column of texts of `least` to `LONGEST_TEXT` characters; string (N,)."""
        _must(path in self._texts)
        lengths = np.diff(_ends(self._texts[path]))
        _must(lengths.min() >= least and lengths.max() <= LONGEST_TEXT)
        return self._texts[path]

    def numbers(self, path: str) -> NDArray[np.float64]:
        """A column of numbers; float64 (N,)."""
        _must(path in self._floats)
        return self._floats[path]

    def integers(self, path: str) -> Any:
        """A column of numbers that are all integers; int64 (N,)."""
        _must(path in self._numbers)
        return _cast(self._numbers[path], "int64")


def _cut(values: Sequence[bytes | None], longest: int) -> _Found:
    """Cut records into the pieces of the first of them.

    Raises:
        NotAlikeError: they are not all laid out like it.
    """
    first = values[0]
    try:
        whole = b"\n".join(values)  # type: ignore[arg-type] # None raises
    except TypeError:
        raise NotAlikeError from None
    _must(max(map(len, values)) <= longest and whole.isascii())  # type: ignore[arg-type]
    outline = None if first is None or b"\\" in first else outline_of(first)
    if outline is None:
        raise NotAlikeError
    signs, count = np.frombuffer(whole, np.uint8), len(values)
    quotes = sum((piece.head + piece.tail).count(b'"') for piece in outline.pieces)
    _must(np.count_nonzero(signs == _QUOTE) == count * quotes)
    _must(np.count_nonzero(signs < _SPACE) == count - 1)  # the line feeds between them
    _must(not (signs == _BACKSLASH).any())
    names = [str(number) for number in range(len(outline.pieces))]
    csv, error = arrow("csv"), arrow("lib").ArrowInvalid
    try:
        table = csv.read_csv(
            arrow().BufferReader(whole),
            csv.ReadOptions(use_threads=False, block_size=len(whole) + 1, column_names=names),
            csv.ParseOptions(quote_char=False),
            csv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(names, arrow().binary())
            ),
        )
    except error:
        raise NotAlikeError from None
    _must(table.num_rows == count)
    return _Found(outline, [column.combine_chunks() for column in table.columns], count)


def _inner(piece: Piece, column: Any) -> Any:
    """The values between a piece's head and tail; string (N,). No value holds a quote."""
    pc, text = arrow("compute"), arrow().string()
    ends, outer = _ends(column), len(piece.head) + len(piece.tail)
    _must(np.diff(ends).min() >= outer)
    _must(pc.all(pc.starts_with(column, pattern=piece.head)).as_py())
    if piece.path is None:
        _must(ends[-1] - ends[0] == len(ends[1:]) * outer)
        return None
    inner = pc.binary_slice(column, len(piece.head), _END).view(text)
    if piece.tail:
        _must(pc.all(pc.ends_with(column, pattern=piece.tail)).as_py())
        # Braces and spaces first: those of a text are behind its quote.
        inner = pc.ascii_rtrim(inner, characters="} ")
        inner = pc.ascii_rtrim(inner, characters='"') if piece.is_text else inner
    return inner


def _floats(column: Any) -> NDArray[np.float64]:
    """Numbers as JSON has them, exponents excepted; float64 (N,).

    Raises:
        NotAlikeError: some is none. Arrow reads more than JSON allows, such as 01, .5 and nan.
    """
    ends = _ends(column)
    signs = np.frombuffer(column.buffers()[2], np.uint8)
    begins, size = ends[:-1], np.diff(ends)
    _must(size.min() > 0)
    negative = signs[begins] == _MINUS
    body = signs[ends[0] : ends[-1]]
    _must(np.count_nonzero(body == _MINUS) == np.count_nonzero(negative))
    _must(((body - _ZERO <= 9) | (body == _DOT) | (body == _MINUS)).all())
    begins, size = begins + negative, size - negative
    _must(size.min() > 0)
    first, last = signs[begins], signs[ends[1:] - 1]
    second = signs[begins + (size > 1)]
    _must((first != _DOT).all() and (last != _DOT).all())
    _must(not ((first == _ZERO) & (size > 1) & (second != _DOT)).any())
    found: NDArray[np.float64] = _cast(column, "float64").to_numpy()
    return found


def _cast(column: Any, kind: str) -> Any:
    try:
        return column.cast(kind)
    except arrow("lib").ArrowInvalid:
        raise NotAlikeError from None


def _iso(texts: Any) -> tuple[I64, NDArray[np.bool_]]:
    ends = _ends(texts)
    size = np.diff(ends)
    if (size != size[0]).any():
        return parse_iso(texts.to_pylist())
    signs = np.frombuffer(texts.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    return parse_iso_bytes(signs.reshape(len(size), -1))


def _equal(keys: Sequence[bytes | None], entities: Any) -> Any:
    pa = arrow()
    same = arrow("compute").equal(pa.array(keys, pa.binary()), entities.view(pa.binary()))
    return same.fill_null(False)


def _mapped(texts: Any, by: Any) -> Any:
    """Texts that depend on others, made once for each of these."""
    coded = texts.dictionary_encode()
    return arrow().array(by(coded.dictionary.to_pylist()), arrow().string()).take(coded.indices)


def _ends(column: Any) -> NDArray[np.int32]:
    """Where each value of a binary or string column begins, and where the last ends; (N + 1,)."""
    return np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]


def _must(claim: Any) -> None:
    if not claim:
        raise NotAlikeError
