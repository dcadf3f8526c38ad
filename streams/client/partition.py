"""Which partition a key goes to: Kafka's default, so that every client agrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = 0xFFFFFFFF
_REMEMBERED = 100_000


def murmur2(data: bytes) -> int:
    """Murmur2 with Kafka's seed, 32 bits unsigned.

    Source: Austin Appleby's MurmurHash2; seed and use as in Kafka's `Utils.murmur2`.

    Example:
        >>> murmur2(b"press-07") & 0x7FFFFFFF
        1481174559
    """
    m, length = 0x5BD1E995, len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & _MASK
        k = (k ^ (k >> 24)) * m & _MASK
        h = (h * m & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & _MASK
    h = (h ^ (h >> 13)) * m & _MASK
    return h ^ (h >> 15)


def partitions_of(keys: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Kafka's default partition of many keys of one length: `murmur2`, column by column.

    Args:
        keys: uint8 (N, L), one key a row.
        count: Partitions of the topic.

    Returns:
        int64 (N,).

    Example:
        >>> partitions_of(np.frombuffer(b"press-07", np.uint8)[None, :], 4).tolist()
        [3]
    """
    m, length = np.uint32(0x5BD1E995), keys.shape[1]
    h = np.full(len(keys), (0x9747B28C ^ length) & _MASK, np.uint32)
    whole = length & ~3
    for i in range(0, whole, 4):
        k = np.ascontiguousarray(keys[:, i : i + 4]).view("<u4")[:, 0] * m
        h = h * m ^ (k ^ (k >> np.uint32(24))) * m
    if whole < length:
        tail = keys[:, whole:].astype(np.uint32)
        for i in range(length - whole):
            h ^= tail[:, i] << np.uint32(8 * i)
        h *= m
    h = (h ^ (h >> np.uint32(13))) * m
    h ^= h >> np.uint32(15)
    return (h & np.uint32(0x7FFFFFFF)).astype(np.int64) % count


class Partitioner:
    """Partition of each key; keys met before cost a look-up.

    Args:
        count: Partitions of the topic.

    Cost: remembers up to 100,000 keys, then begins anew.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._known: dict[bytes, int] = {}
        self._turn = 0

    def of(self, key: bytes | None) -> int:
        """Kafka's default for a key; records without one take turns."""
        if key is None:
            self._turn = (self._turn + 1) % self.count
            return self._turn
        place = self._known.get(key)
        if place is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            place = self._known[key] = (murmur2(key) & 0x7FFFFFFF) % self.count
        return place
