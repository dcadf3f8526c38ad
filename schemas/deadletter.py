"""The dead letter: original bytes, and in the headers why, where and how often it was tried."""

from __future__ import annotations

import hashlib

from headrace.schemas.batch import Headers
from headrace.schemas.errors import Source

KEPT_BYTES = 64 << 10
LIMIT_BYTES = 1 << 20


def deadletter_headers(
    code: str,
    source: Source,
    *,
    stage: str,
    pipeline: str,
    pipeline_digest: str,
    first_seen_ms: int,
    attempt: int = 1,
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
    """
    return [
        ("code", code.encode()),
        ("source", str(source).encode()),
        ("stage", stage.encode()),
        ("attempt", str(attempt).encode()),
        ("pipeline", f"{pipeline}@{pipeline_digest}".encode()),
        ("first_seen", str(first_seen_ms).encode()),
    ]


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
