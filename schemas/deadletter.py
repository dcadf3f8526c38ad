"""The dead letter: original bytes, and in the headers why, where and how often it was tried.

A dead letter's headers are those of the record as read, then ours. A redriven record has its own
headers, then three of ours, so that it keeps its history if it dies again. That it was redriven is
one more record on the dead-letter topic: a mark, under the code `redriven`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from headrace.schemas.batch import Headers
from headrace.schemas.errors import Source

KEPT_BYTES = 64 << 10
LIMIT_BYTES = 1 << 20

TOO_LATE = "time.late"
"""Code on a late event, which has the headers of a dead letter on a topic of its own."""

CUTS = ("original_bytes", "original_key_bytes", "original_headers_bytes")
"""Headers of a dead letter that is not the whole record."""

REDRIVE, REDRIVEN = "redrive", "redriven"
"""Stage and code of a mark: its `source` is a dead letter that was redriven."""

_ATTEMPT, _FROM, _FIRST_SEEN = "headrace-attempt", "headrace-redriven", "headrace-first-seen"
_SOURCE = re.compile(r"(.+)\[(\d{1,9})\]@(\d{1,18})")
_COUNT = re.compile(rb"[1-9]\d{0,5}")
_TIME = re.compile(rb"\d{1,15}")


def deadletter_headers(
    code: str,
    source: Source,
    *,
    stage: str,
    pipeline: str,
    pipeline_digest: str,
    first_seen_ms: int,
    attempt: int = 1,
    model: str | None = None,
) -> list[tuple[str, bytes]]:
    """Headers of one dead letter.

    Args:
        code: Reason, part of the wire contract.
        source: The record it was.
        stage: Stage that gave up on it.
        pipeline: Pipeline name.
        pipeline_digest: Digest of the pipeline file.
        first_seen_ms: Broker time of the original record, milliseconds since 1970.
        attempt: How often it has been tried, from 1.
        model: Digest of the model that refused it; None where none did.
    """
    headers = [
        ("code", code.encode()),
        ("source", str(source).encode()),
        ("stage", stage.encode()),
        ("attempt", str(attempt).encode()),
        ("pipeline", f"{pipeline}@{pipeline_digest}".encode()),
        ("first_seen", str(first_seen_ms).encode()),
    ]
    return headers if model is None else [*headers, ("model", model.encode())]


def deadletter_value(value: bytes | None) -> tuple[bytes, Headers]:
    """The bytes a dead letter keeps, and the headers that say what was cut.

    Values over 1 MiB are cut to their first 64 KiB; headers then hold the whole one's size and
    BLAKE2b digest, so that the producer's copy can be recognised.
    """
    if value is None:
        return b"", [("tombstone", b"1")]
    if len(value) <= LIMIT_BYTES:
        return value, ()
    digest = hashlib.blake2b(value, digest_size=16).hexdigest()
    return value[:KEPT_BYTES], [
        ("original_bytes", str(len(value)).encode()),
        ("original_digest", digest.encode()),
    ]


def kept_key(key: bytes | None) -> tuple[bytes | None, Headers]:
    """The key a dead letter keeps, its first 64 KiB, and a header that says what was cut."""
    if key is None or len(key) <= KEPT_BYTES:
        return key, ()
    return key[:KEPT_BYTES], [("original_key_bytes", str(len(key)).encode())]


def kept_headers(headers: Headers) -> tuple[Headers, Headers]:
    """The headers of the record that a dead letter keeps, and one that says what was cut.

    All of them up to 1 MiB, else none: compressed on the wire, a record may be any number of times
    larger than the topic takes when it is written again.

    Example:
        >>> kept_headers([("a", b"1")])
        ([('a', b'1')], ())
    """
    size = sum(len(name) + len(value or b"") for name, value in headers)
    if size <= LIMIT_BYTES:
        return headers, ()
    return (), [("original_headers_bytes", str(size).encode())]


def parse_source(text: str) -> Source:
    """Coordinates from their text.

    Raises:
        ValueError: it is none.

    Example:
        >>> parse_source("headrace.press.telemetry.v1[2]@8812").offset
        8812
    """
    found = _SOURCE.fullmatch(text)
    if found is None:
        raise ValueError("expected topic[partition]@offset")
    return Source(found[1], int(found[2]), int(found[3]))


def split_headers(headers: Headers) -> tuple[Headers, dict[str, bytes]]:
    """A dead letter's headers: those of the record as read, and ours by name.

    Ours begin with the last `code`, so a record may well have had a header of that name itself.

    Example:
        >>> split_headers([("code", b"mine"), ("code", b"json.depth"), ("stage", b"enrich")])
        ([('code', b'mine')], {'code': b'json.depth', 'stage': b'enrich'})
    """
    starts = [place for place, (name, _) in enumerate(headers) if name == "code"]
    start = starts[-1] if starts else len(headers)
    return headers[:start], {name: value or b"" for name, value in headers[start:]}


@dataclass(frozen=True, slots=True)
class Tried:
    """What is known of a record's earlier tries.

    Attributes:
        attempt: Which try this is, from 1.
        first_seen_ms: Broker time of the first one, milliseconds since 1970.
    """

    attempt: int
    first_seen_ms: int


def tried(headers: Headers, log_time_ms: int) -> Tried:
    """Which try a telemetry record is.

    A record that was never redriven is the first; so is one whose headers are no numbers, since a
    producer may write what it likes.

    Args:
        headers: Its headers.
        log_time_ms: Its own broker time, milliseconds since 1970.

    Example:
        >>> tried([("headrace-attempt", b"2"), ("headrace-first-seen", b"70")], 90)
        Tried(attempt=2, first_seen_ms=70)
        >>> tried([("headrace-attempt", b"many")], 90)
        Tried(attempt=1, first_seen_ms=90)
    """
    ours = dict(headers)
    attempt, first_seen = ours.get(_ATTEMPT) or b"", ours.get(_FIRST_SEEN) or b""
    if not (_COUNT.fullmatch(attempt) and _TIME.fullmatch(first_seen)):
        return Tried(1, log_time_ms)
    return Tried(int(attempt), int(first_seen))


def redrive_headers(original: Headers, at: Source, again: Tried) -> Headers:
    """Headers of a record that is tried again: its own, and three of ours.

    Args:
        original: Those of the record as read, at whichever try.
        at: The dead letter's own coordinates.
        again: Which try it will be.
    """
    ours = [
        (_ATTEMPT, str(again.attempt).encode()),
        (_FROM, str(at).encode()),
        (_FIRST_SEEN, str(again.first_seen_ms).encode()),
    ]
    names = {name for name, _ in ours}
    return [*(pair for pair in original if pair[0] not in names), *ours]
