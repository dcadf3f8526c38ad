"""Buckets and cluster slots."""

from __future__ import annotations

from collections import Counter

import pytest
from redis.crc import key_slot

from headrace.feature_store.buckets import BUCKETS, BucketKeys, bucket_of, slot_of


@pytest.mark.parametrize(
    "key", [b"", b"a", b"{", b"{}", b"{}a", b"{a}b", b"x{a}y{b}", b"{{a}}", b"a}b{c}", b"\xff{\0}"]
)
def test_slots_are_those_of_the_cluster(key: bytes) -> None:
    """Our slot of a key is the one of the client library, hash tags and their corners included."""
    assert slot_of(key) == key_slot(key)


def test_a_bucket_is_the_checksum_of_the_name() -> None:
    """The bucket is CRC-16/XMODEM modulo 1024, so that any service finds it (pinned values)."""
    assert bucket_of("123456789") == 0x31C3 % 1024
    assert bucket_of("ä") == key_slot("ä".encode()) % 1024


def test_buckets_are_evenly_filled() -> None:
    """Numbered devices spread over all buckets: none holds four times its share."""
    filled = Counter(bucket_of(f"press-{n:05d}") for n in range(50_000))
    assert len(filled) == BUCKETS
    assert max(filled.values()) < 4 * 50_000 / BUCKETS


def test_what_is_remembered_is_bounded() -> None:
    """Ever new entities leave at most `bound` of them in memory, and every key stays right."""
    keys = BucketKeys("p/v", bound=10)
    for number in range(1_000):
        name = f"e{number % 37}"
        assert keys[name] == b"{p/v/%d}" % bucket_of(name)
        assert len(keys) <= 10
