"""JSON records that differ in the characters of their texts and the digits of their numbers only.

They are of one length, so that each value is at the same place in all of them, and a batch of them
is a matrix of bytes: what is between the values is compared, and the values are read, by columns of
it. A record that fits has the tokens of the first one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.streams.arrow import arrow
from headrace.streams.replay.outline import Outline, Slot, outline_of

Bools = NDArray[np.bool_]
Matrix = NDArray[np.uint8]

MOST_DIGITS = 15
"""Of a number: an integer below 2^53 over a power of ten below 10^22 is rounded once, so right.

Source: Clinger, "How to read floating point numbers accurately", the fast path.
"""

_SMALL_DIGITS = 9
"""Of an integer that is below 2^31."""

_STRIP_ROWS = 512
"""Compared at a time: what is made on the way is as large as they are, and stays in the cache."""

_QUOTE, _BACKSLASH, _ZERO = b'"\\0'
_TEXT = (0x20, 0x7F)
"""First and last of the characters that stand for themselves."""


class Layout:
    """How records of one length are laid out.

    Args:
        value: The record that shows it.
        outline: Of that.

    Attributes:
        outline: Likewise.
        slots: By path.
    """

    def __init__(self, value: bytes, outline: Outline) -> None:
        self.outline = outline
        self.slots = {slot.path: slot for slot in outline.slots}
        self._quotes = value.count(b'"')
        low = np.frombuffer(value, np.uint8).copy()
        high = low.copy()
        for slot in outline.slots:
            if slot.is_text:
                low[slot.start : slot.stop], high[slot.start : slot.stop] = _TEXT
                continue
            places, whole = _digits(value, slot)
            low[places], high[places] = _ZERO, _ZERO + 9
            if whole > 1:
                low[places[0]] = _ZERO + 1  # 01 is no JSON
        self._low, self._span = low, high - low
        self._value = value

    @classmethod
    def of(cls, value: bytes) -> Layout | None:
        """The layout of a record; None where it has none (`outline_of`)."""
        outline = outline_of(value)
        return None if outline is None else cls(value, outline)

    def fits(self, records: Matrix) -> Bools:
        """Which records are laid out so; uint8 (N, length) to bool (N,)."""
        strips = [records[at : at + _STRIP_ROWS] for at in range(0, len(records), _STRIP_ROWS)]
        return np.concatenate([self._fits(strip) for strip in strips])

    def _fits(self, records: Matrix) -> Bools:
        bad = (records - self._low) > self._span  # below `low` it wraps around
        fit: Bools = np.ones(len(records), np.bool_)
        if bad.any():
            fit &= ~bad.any(axis=1)
        quotes = records == _QUOTE
        if np.count_nonzero(quotes) != self._quotes * len(records):
            fit &= np.count_nonzero(quotes, axis=1) == self._quotes
        slashes = records == _BACKSLASH
        if slashes.any():
            fit &= ~slashes.any(axis=1)
        return fit

    def width(self, path: str) -> int:
        """Characters of a text; -1 where there is none."""
        slot = self.slots.get(path)
        return slot.stop - slot.start if slot is not None and slot.is_text else -1

    def raw(self, records: Matrix, path: str) -> Matrix:
        """A column of texts; uint8 (N, width)."""
        slot = self.slots[path]
        return np.ascontiguousarray(records[:, slot.start : slot.stop])

    def texts(self, records: Matrix, path: str) -> Any:
        """A column of texts; Arrow string (N,)."""
        raw = self.raw(records, path)
        pa = arrow()
        ends = np.arange(len(raw) + 1, dtype=np.int32) * np.int32(raw.shape[1])
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(raw)]
        return pa.Array.from_buffers(pa.string(), len(raw), buffers)

    def decimals(self, path: str) -> int:
        """Digits behind the point of a number that can be read; -1 where there is none."""
        slot = self.slots.get(path)
        if slot is None or slot.is_text:
            return -1
        places, whole = _digits(self._value, slot)
        return len(places) - whole if len(places) <= MOST_DIGITS else -1

    def integers(self, records: Matrix, path: str) -> I64:
        """A column of numbers without their points; int64 (N,)."""
        return self._whole(records, path).astype(np.int64)

    def numbers(self, records: Matrix, path: str) -> F64:
        """A column of numbers, negative zero as zero; float64 (N,)."""
        found: F64 = self._whole(records, path) / 10.0 ** self.decimals(path) + 0.0
        return found

    def _whole(self, records: Matrix, path: str) -> NDArray[np.int32 | np.int64]:
        slot = self.slots[path]
        places, _ = _digits(self._value, slot)
        digits = np.ascontiguousarray(records[:, slot.start : slot.stop].T) - np.uint8(_ZERO)
        # A processor multiplies several of the small ones at once.
        kind = np.int32 if len(places) <= _SMALL_DIGITS else np.int64
        found: NDArray[np.int32 | np.int64] = np.zeros(len(records), kind)
        for place in places:
            found *= 10
            found += digits[place - slot.start]
        return -found if self._value[slot.start] == ord("-") else found


def _digits(value: bytes, slot: Slot) -> tuple[list[int], int]:
    """Where the digits of a number are, and how many of them are before its point."""
    places = [at for at in range(slot.start, slot.stop) if value[at] not in b"-."]
    point = value.find(b".", slot.start, slot.stop)
    return places, sum(at < point for at in places) if point >= 0 else len(places)
