"""Device times: every RFC 3339 form, and nothing else."""

from __future__ import annotations

import pytest

from headrace.enrichers.times import parse_iso, parse_numbers

TEN = 1_795_255_200_000
"""2026-11-21T10:00:00Z."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T10:00:00Z", TEN),
        ("2026-11-21T10:00:00.1Z", TEN + 100),
        ("2026-11-21T10:00:00.123Z", TEN + 123),
        ("2026-11-21T10:00:00.123999Z", TEN + 123),
        ("2026-11-21T10:00:00.123456789Z", TEN + 123),
        ("2026-11-21t10:00:00z", TEN),
        ("2026-11-21 10:00:00Z", TEN),
        ("2026-11-21T12:30:00+02:30", TEN),
        ("2026-11-21T00:00:00.5-10:00", TEN + 500),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000),
    ],
)
def test_valid(text: str, expected: int) -> None:
    """Each form gives the moment it names; digits below a millisecond are cut off."""
    times, valid = parse_iso([text])

    assert (times.tolist(), valid.tolist()) == ([expected], [True])


@pytest.mark.parametrize(
    "text",
    [
        "", "Z", "now", "2026-11-21", "2026-11-21T10:00:00", "2026-11-21T10:00Z",
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T10:60:00Z",
        "2026-11-21T10:00:60Z", "2026-11-21T10:00:00.Z", "2026-11-21T10:00:00.1234567890Z",
        "2026-11-21T10:00:00,123Z", "2026/11/21T10:00:00Z", "2026-11-21X10:00:00Z",
        "2026-11-21T10:00:00.12aZ", "2026-11-21T10:00:00.123z ", "٢٠٢٦-11-21T10:00:00Z",
        "2026-11-21T10:00:00+24:00", "2026-11-21T10:00:00+01:60", "2026-11-21T10:00:00+0100",
        "+026-11-21T10:00:00Z", "2026-11-21T10:00:00.123Z\n", "2026-11-21T10:00:00.1é3Z",
    ],
)  # fmt: skip
def test_invalid(text: str) -> None:
    """Whatever is not exactly RFC 3339 on a calendar day is invalid, also between good ones."""
    good = "2026-11-21T10:00:00.123Z"

    assert parse_iso([text])[1].tolist() == [False]
    assert parse_iso([good, text, good])[1].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_795_255_200, "s", TEN),
        (1_795_255_200.123, "s", TEN + 123),
        (TEN, "ms", TEN),
        (TEN + 0.6, "ms", TEN + 1),
        (TEN * 1000 + 999, "us", TEN),
        (TEN * 10**6 + 999_999, "ns", TEN),
        (-1, "us", -1),
    ],
)
def test_numbers(value: float, unit: str, expected: int) -> None:
    """Integers are cut to the millisecond, floats rounded to it."""
    times, valid = parse_numbers([value], unit)

    assert (times.tolist(), valid.tolist()) == ([expected], [True])


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 1e308, -1e308, 253_402_300_800])
def test_numbers_beyond_the_calendar(value: float) -> None:
    """A number outside the years 1 to 9999 is invalid and never wraps around."""
    assert parse_numbers([value], "s")[1].tolist() == [False]
