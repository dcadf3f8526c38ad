"""What the intake stage adds to a record: where the producer's own record is."""

from __future__ import annotations

from headrace.schemas.batch import Headers
from headrace.schemas.deadletter import parse_source
from headrace.schemas.errors import Source

ORIGIN = "headrace-origin"
"""Header with the coordinates ``topic[partition]@offset`` on telemetry."""


def own_headers(headers: Headers) -> Headers:
    """A producer's headers without ours; one that it wrote itself under that name is dropped."""
    if any(name == ORIGIN for name, _ in headers):
        return [pair for pair in headers if pair[0] != ORIGIN]
    return headers


def origin(headers: Headers) -> Source | None:
    """Where the producer's record is, None for a record that the intake stage did not write.

    Example:
        >>> str(origin([("headrace-origin", b"t[2]@7")]))
        't[2]@7'
    """
    for name, value in reversed(headers):
        if name == ORIGIN:
            try:
                return parse_source((value or b"").decode())
            except ValueError:
                return None
    return None
