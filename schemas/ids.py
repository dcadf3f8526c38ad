"""Deterministic prediction ids: the same event, the same id, whoever computes it."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64

U64 = NDArray[np.uint64]


def prediction_ids(pipeline: str, topic: str, partition: int, offsets: I64) -> list[bytes]:
    """Ids of the predictions of these source records: 32 hex digits each.

    A keyed hash of 128 bits: key = BLAKE2b over (pipeline, topic, partition), message = offset.
    Each half is a bijection of the offset, so two offsets of one partition never share an id;
    between partitions the chance is that of any 128-bit hash.

    Args:
        pipeline: Pipeline name.
        topic: Source topic.
        partition: Source partition.
        offsets: int64 (N,), source offsets.

    Returns:
        N ids of 32 lower-case hex digits, ASCII.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over offset XOR key.

    Example:
        >>> prediction_ids("press", "t", 2, np.array([8812, 8813]))[0]
        b'64cb3ac709d58712273355adfade4830'
    """
    halves = np.empty((len(offsets), 2), dtype=">u8")
    for half, key in enumerate(_keys(pipeline, topic, partition)):
        halves[:, half] = _mix(offsets.astype(np.uint64) ^ key)
    text = halves.tobytes().hex().encode()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def source_offset(prediction: str, pipeline: str, topic: str, partition: int) -> int | None:
    """Offset of the source record behind a prediction id; None where it is of another partition.

    Nothing is looked up: either half of an id is a bijection of the offset, and both must agree.

    Args:
        prediction: 32 hex digits.
        pipeline: Pipeline name.
        topic: Source topic.
        partition: Source partition to try.

    Example:
        >>> source_offset("64cb3ac709d58712273355adfade4830", "press", "t", 2)
        8812
        >>> source_offset("64cb3ac709d58712273355adfade4830", "press", "t", 3) is None
        True
    """
    try:
        halves = np.frombuffer(bytes.fromhex(prediction), ">u8").astype(np.uint64)
    except ValueError:
        return None
    if len(halves) != 2:
        return None
    first, second = (_unmix(halves) ^ _keys(pipeline, topic, partition)).tolist()
    return int(first) if first == second and first < 1 << 63 else None


def _keys(pipeline: str, topic: str, partition: int) -> U64:
    name = f"{pipeline}\0{topic}\0{partition}".encode()
    digest = hashlib.blake2b(name, digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _unmix(x: U64) -> U64:
    """The inverse of `_mix`: each shift is undone by itself, each factor by its inverse."""
    x = x ^ (x >> np.uint64(31)) ^ (x >> np.uint64(62))
    x = x * np.uint64(pow(0x94D049BB133111EB, -1, 1 << 64))
    x = x ^ (x >> np.uint64(27)) ^ (x >> np.uint64(54))
    x = x * np.uint64(pow(0xBF58476D1CE4E5B9, -1, 1 << 64))
    found: U64 = x ^ (x >> np.uint64(30)) ^ (x >> np.uint64(60))
    return found


def _mix(x: U64) -> U64:
    """SplitMix64's finaliser, elementwise modulo 2**64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
