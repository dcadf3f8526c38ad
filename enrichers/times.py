"""Device times to milliseconds since 1970: RFC 3339 text and numbers, whole columns at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64

Bools = NDArray[np.bool_]

FIRST_MS = -62_135_596_800_000
"""0001-01-01T00:00:00Z."""
LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""
_INVALID = FIRST_MS - 1

_SHAPE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_PER_MS = {"ms": 1.0, "us": 1e3, "ns": 1e6}

_ZULU, _OFFSET = 1, 6
_FAST_LENGTHS = {z: frozenset((19 + z, *range(21 + z, 30 + z))) for z in (_ZULU, _OFFSET)}
"""Lengths of a time with no or 1 to 9 digits of fraction, by the length of its zone."""
_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_MARKS = np.array([4, 7, 10, 13, 16])
_MARK_BYTES = np.frombuffer(b"--T::", np.uint8)
_SHARED = slice(0, 14)
_WITHIN = np.array([14, 15, 17, 18])
_WITHIN_MOST = np.array([5, 9, 5, 9], np.uint8)
_WITHIN_MS = np.array([600_000, 60_000, 10_000, 1_000])
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_TENS = np.array([100, 10, 1])


def parse_iso(texts: Sequence[str]) -> tuple[I64, Bools]:
    """RFC 3339 times as milliseconds since 1970; digits below a millisecond are cut off.

    ``YYYY-MM-DDTHH:MM:SS[.f]`` with 1 to 9 digits of fraction and ``Z`` or ``+HH:MM`` is read by
    arithmetic over all texts of a length at once; every other text (leap seconds, lower case)
    one by one.

    Args:
        texts: N texts.

    Returns:
        int64 (N,) and bool (N,): the times, and whether each is a valid one.

    Source: RFC 3339 5.6; days from the civil date as in Hinnant, "chrono-compatible low-level
        date algorithms".

    Example:
        >>> parse_iso(["2026-11-21T10:00:00.123Z", "2026-02-30T00:00:00Z"])[0][0].item()
        1795255200123
    """
    lengths = list(map(len, texts))
    kinds = set(lengths)
    if len(kinds) == 1 and lengths[0] in _FAST_LENGTHS[_zone_of(texts[0])]:
        times = _parse_fixed(texts, lengths[0], _zone_of(texts[0]))
    else:
        times = np.full(len(texts), _INVALID)
        _parse_by_length(texts, np.array(lengths, np.int64), kinds, times)
    for row in np.flatnonzero(times == _INVALID).tolist():
        times[row] = parse_one(texts[row])
    return times, times != _INVALID


def parse_iso_bytes(raw: NDArray[np.uint8]) -> tuple[I64, Bools]:
    """`parse_iso` of texts that are all of one length.

    Args:
        raw: uint8 (N, length), N > 0: their ASCII bytes.

    Example:
        >>> parse_iso_bytes(np.frombuffer(b"2026-11-21T10:00:00Z", np.uint8)[None])[0].item()
        1795255200000
    """
    zone = _ZULU if raw[0, -1:].tobytes() == b"Z" else _OFFSET
    if raw.shape[1] in _FAST_LENGTHS[zone]:
        times = _parse_raw(raw, zone)
    else:
        times = np.full(len(raw), _INVALID)
    for row in np.flatnonzero(times == _INVALID).tolist():
        times[row] = parse_one(raw[row].tobytes().decode("ascii"))
    return times, times != _INVALID


def _zone_of(text: str) -> int:
    return _ZULU if text[-1:] == "Z" else _OFFSET


def _parse_by_length(texts: Sequence[str], lengths: I64, kinds: set[int], times: I64) -> None:
    """Fill in `times` what can be read by arithmetic, the texts of one length at once."""
    for zone in (_ZULU, _OFFSET):
        left = times == _INVALID
        for length in kinds & _FAST_LENGTHS[zone]:
            rows = np.flatnonzero(left & (lengths == length))
            if len(rows):
                times[rows] = _parse_fixed([texts[r] for r in rows.tolist()], length, zone)


def _parse_fixed(texts: Sequence[str], length: int, zone: int) -> I64:
    """Texts of one length and kind of zone; what is not exactly that becomes invalid."""
    joined = "".join(texts)
    if not joined.isascii():
        return np.full(len(texts), _INVALID)
    return _parse_raw(np.frombuffer(joined.encode("ascii"), np.uint8).reshape(-1, length), zone)


def _parse_raw(raw: NDArray[np.uint8], zone: int) -> I64:
    """ASCII texts (N, length) of one kind of zone; what is no time becomes invalid."""
    length = raw.shape[1]
    if (raw[:, _SHARED] == raw[0, _SHARED]).all() and (raw[:, -zone:] == raw[0, -zone:]).all():
        first = raw[0].tobytes().decode("ascii")
        hour = parse_one(f"{first[_SHARED]}00:00{first[-zone:]}")
        if hour != _INVALID:
            return _parse_within(hour, raw, zone)
    columns = raw.T
    digits, fraction = columns[_DIGITS] - 48, columns[20:-zone] - 48
    ok = (digits <= 9).all(0) & (fraction <= 9).all(0)
    ok &= (columns[_MARKS] == _MARK_BYTES[:, None]).all(0)
    if length > 19 + zone:
        ok &= columns[19] == ord(".")
    century, year, month, day, hour, minute, second = (digits[0::2] * 10 + digits[1::2]).astype(
        np.int64
    )  # bytes may wrap where not ok
    ok &= (hour <= 23) & (minute <= 59) & (second <= 59)
    days, valid = _days_of(century * 100 + year, month, day)
    offset_min, known = _zone_minutes(raw[:, -zone:])
    millis = _TENS[: len(fraction)] @ fraction[:3].astype(np.int64)
    times: I64 = (days * 1440 + hour * 60 + minute - offset_min) * 60_000 + second * 1000 + millis
    ok &= valid & known & (times >= FIRST_MS) & (times <= LAST_MS)
    times[~ok] = _INVALID
    return times


def _parse_within(hour: int, raw: NDArray[np.uint8], zone: int) -> I64:
    """Texts (N, length) that differ only in minutes and below: what a running stream sends.

    Args:
        hour: Milliseconds since 1970 at which their hour begins.
        raw: Their bytes.
        zone: Length of their zone.
    """
    fraction = raw[:, 20:-zone] - 48
    digits = raw[:, _WITHIN] - 48  # bytes may wrap where not ok
    ok = (digits <= _WITHIN_MOST).all(1) & (raw[:, 16] == ord(":"))
    times: I64 = hour + digits @ _WITHIN_MS
    if fraction.shape[1]:
        ok &= (fraction <= 9).all(1) & (raw[:, 19] == ord("."))
        millis = fraction[:, :3]
        times += millis @ _TENS[: millis.shape[1]]
    ok &= times <= LAST_MS
    times[~ok] = _INVALID
    return times


def _days_of(year: I64, month: I64, day: I64) -> tuple[I64, Bools]:
    """Days since 1970 of each date, and whether it is one; a batch of one day asks once."""
    date_of = (year * 100 + month) * 100 + day
    if len(date_of) > 1 and (date_of == date_of[0]).all():
        days, valid = _days_of(year[:1], month[:1], day[:1])
        return np.repeat(days, len(date_of)), np.repeat(valid, len(date_of))
    valid = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    valid &= day <= _month_days(year, np.clip(month, 1, 12))
    return _days(year, month, day), valid


def _zone_minutes(raw: NDArray[np.uint8]) -> tuple[I64, Bools]:
    """Minutes east of UTC of each ``Z`` (N, 1) or ``+HH:MM`` (N, 6), and whether it is one."""
    if raw.shape[1] == _ZULU:
        return np.zeros(len(raw), np.int64), raw[:, 0] == ord("Z")
    digits = (raw[:, [1, 2, 4, 5]] - 48).astype(np.int64)
    hours, minutes = digits[:, 0] * 10 + digits[:, 1], digits[:, 2] * 10 + digits[:, 3]
    known = (digits <= 9).all(1) & (raw[:, 3] == ord(":")) & (hours <= 23) & (minutes <= 59)
    east, west = raw[:, 0] == ord("+"), raw[:, 0] == ord("-")
    return (hours * 60 + minutes) * np.where(west, -1, 1), known & (east | west)


def _month_days(year: I64, month: I64) -> I64:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days: I64 = _MONTH_DAYS[month - 1] + (leap & (month == 2))
    return days


def _days(year: I64, month: I64, day: I64) -> I64:
    """Days since 1970-01-01 of a proleptic Gregorian date, years 1 to 9999."""
    year = year - (month <= 2)
    era = year // 400
    in_era = year - era * 400
    in_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: I64 = era * 146_097 + in_era * 365 + in_era // 4 - in_era // 100 + in_year - 719_468
    return days


def parse_one(text: str) -> int:
    """One RFC 3339 time as milliseconds since 1970; one before the year 1 where it is none.

    A leap second (23:59:60 UTC) counts as the first moment of the next day.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        return _INVALID
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return _INVALID
    offset_min = _offset_minutes(match[8])
    if hour > 23 or minute > 59 or second > 60 or offset_min is None:
        return _INVALID
    minutes = days * 1440 + hour * 60 + minute - offset_min
    if second == 60 and minutes % 1440 != 1439:  # leap seconds end a day in UTC
        return _INVALID
    millis = int((match[7] or "").ljust(3, "0")[:3])
    time = (minutes * 60 + second) * 1000 + millis
    return time if FIRST_MS <= time <= LAST_MS else _INVALID


def _offset_minutes(zone: str) -> int | None:
    if zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        return None
    return (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)


def parse_numbers(values: Sequence[int | float], unit: str) -> tuple[I64, Bools]:
    """Numeric times as milliseconds since 1970.

    Integers are exact and cut down to the millisecond; floats (as in ``1795255200.123`` seconds)
    go to the nearest one. Which of the two a value is decides alone, never its neighbours.

    Args:
        values: N integers or finite floats.
        unit: ``s``, ``ms``, ``us`` or ``ns``.

    Returns:
        int64 (N,) and bool (N,): the times, and whether each lies in the years 1 to 9999.
    """
    if set(map(type, values)) == {int}:
        times = _from_integers(np.array(values, np.int64), unit)
    else:
        times = np.empty(len(values), np.int64)
        whole = np.fromiter((type(v) is int for v in values), np.bool_, len(values))
        integers = [v for v in values if type(v) is int]
        times[whole] = _from_integers(np.array(integers, np.int64), unit)
        floats = np.array([v for v in values if type(v) is not int], np.float64).clip(-1e25, 1e25)
        scaled = floats * 1000.0 if unit == "s" else floats / _PER_MS[unit]
        times[~whole] = np.rint(np.clip(scaled, _INVALID, LAST_MS + 1)).astype(np.int64)
    return times, (times >= FIRST_MS) & (times <= LAST_MS)


def _from_integers(values: I64, unit: str) -> I64:
    if unit == "s":
        return np.clip(values, FIRST_MS // 1000 - 1, LAST_MS // 1000 + 1) * 1000
    return values // int(_PER_MS[unit])
