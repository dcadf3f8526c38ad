"""Many small numbers in few bytes: base 128, low digits first, a high bit where more follow."""

from __future__ import annotations

import numpy as np

from headrace.schemas.batch import I64

_MOST_BYTES = 9


def pack(values: I64) -> bytes:
    """Bytes of int64 (N,), none negative.

    Source: Protocol Buffers, "Base 128 Varints".

    Example:
        >>> pack(np.array([1, 300])).hex()
        '01ac02'
    """
    sizes, largest = np.ones(len(values), np.int64), int(values.max(initial=0))
    for bits in range(7, largest.bit_length(), 7):
        sizes += values >= 1 << bits
    ends = np.cumsum(sizes)
    at, packed = ends - sizes, np.empty(int(sizes.sum()), np.uint8)
    # Most numbers have one digit: each round is for those that have another.
    while len(values):
        more = values > 127
        packed[at] = (values & 127) | (more.view(np.uint8) << 7)
        values, at = values[more] >> 7, at[more] + 1
    return packed.tobytes()


def unpack(value: bytes) -> I64:
    """What `pack` got, int64 (N,).

    Raises:
        ValueError: these are no such bytes.
    """
    if not value:
        return np.empty(0, np.int64)
    data = np.frombuffer(value, np.uint8)
    ends = np.flatnonzero(data < 128)
    if not len(ends) or ends[-1] != len(data) - 1:
        raise ValueError("numbers in base 128 end before their last digit")
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > _MOST_BYTES:
        raise ValueError(f"a number in base 128 has more than {_MOST_BYTES} digits")
    digit = np.arange(len(data)) - np.repeat(starts, sizes)
    parts: I64 = np.add.reduceat((data & 127).astype(np.int64) << (7 * digit), starts)
    return parts
