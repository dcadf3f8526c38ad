"""Which bucket of the online store an entity lives in, and which cluster slot a key is in."""

from __future__ import annotations

from binascii import crc_hqx

BUCKETS = 1024
"""Buckets of one view: enough to spread over any cluster, few enough to share a request."""

SLOTS = 16_384
"""Hash slots of a Redis cluster."""


def bucket_of(entity: str) -> int:
    """Bucket of an entity, 0 to 1023: CRC-16/XMODEM of its UTF-8 bytes, modulo 1024.

    Any service in any language finds an entity's row from this and the view's name.

    Source: CRC-16/XMODEM is the checksum of Redis Cluster's key slots.

    Example:
        >>> bucket_of("press-07")
        476
        >>> crc_hqx(b"123456789", 0) == 0x31C3  # the CRC's published check value
        True
    """
    return crc_hqx(entity.encode(), 0) % BUCKETS


class BucketKeys(dict[str, bytes]):
    """Key of each entity's bucket in one view, computed once per entity and kept up to a bound.

    Indexing is a plain dict look-up for an entity seen before. At the bound everything is
    forgotten and computed anew, so that a stream of ever new entities holds no memory.

    Args:
        prefix: What the key begins with: ``pipeline/view``.
        bound: Most entities remembered.

    Example:
        >>> BucketKeys("press/host")["press-07"]
        b'{press/host/476}'
    """

    def __init__(self, prefix: str, *, bound: int = 1 << 17) -> None:
        super().__init__()
        self._keys = [f"{{{prefix}/{bucket}}}".encode() for bucket in range(BUCKETS)]
        self._bound = bound

    def __missing__(self, entity: str) -> bytes:
        if len(self) >= self._bound:
            self.clear()
        key = self[entity] = self._keys[bucket_of(entity)]
        return key


def slot_of(key: bytes) -> int:
    """Cluster slot of a key, 0 to 16383: of its hash tag where it has one.

    Source: "Hash tags" in the Redis Cluster specification.

    Example:
        >>> slot_of(b"123456789"), slot_of(b"a{123456789}b")
        (12739, 12739)
    """
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS
