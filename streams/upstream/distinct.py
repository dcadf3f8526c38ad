"""How many devices are different, also where two sites have seen the same one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.summary import Distinct
from headrace.streams.upstream.varints import pack, unpack

_BITS = 11
_REGISTERS = 1 << _BITS
_REST = 64 - _BITS

RELATIVE_ERROR = 1.04 / math.sqrt(_REGISTERS)
"""Standard error of an estimate, 2.3 %; three times that holds for 997 of 1,000 sets."""

Registers = NDArray[np.uint8]


def distinct_of(names: Iterable[str]) -> Distinct:
    """The sketch of these names; repeats and order change nothing.

    Source: Flajolet et al., "HyperLogLog" (2007), with 64-bit hashes (BLAKE2b).
    """
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    hashes = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
    rest = hashes & np.uint64((1 << _REST) - 1)
    # Below 2**53 a float64 is exact, so its exponent is the number of bits.
    _, bits = np.frexp(rest.astype(np.float64))
    registers = np.zeros(_REGISTERS, np.uint8)
    ranks = (_REST + 1 - bits).astype(np.uint8)
    np.maximum.at(registers, (hashes >> np.uint64(_REST)).astype(np.intp), ranks)
    return _sketch(registers)


def merge_distinct(a: Distinct, b: Distinct) -> Distinct:
    """The sketch of all names of both, the same bits as of all of them at once.

    Raises:
        ValueError: one of them is malformed.
    """
    return _sketch(np.maximum(read_distinct(a), read_distinct(b)))


def estimate(sketch: Distinct) -> float:
    """How many different names there were, see `RELATIVE_ERROR`.

    Raises:
        ValueError: it is malformed.

    Source: Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017),
        algorithm 6: one formula from none to many, without tables.
    """
    counts = np.bincount(read_distinct(sketch), minlength=_REST + 2).tolist()
    z = _REGISTERS * _tau(1 - counts[_REST + 1] / _REGISTERS)
    for k in range(_REST, 0, -1):
        z = 0.5 * (z + counts[k])
    z += _REGISTERS * _sigma(counts[0] / _REGISTERS)
    return _REGISTERS**2 / (2 * math.log(2) * z)


def read_distinct(sketch: Distinct) -> Registers:
    """Its registers, uint8 (2048,).

    Raises:
        ValueError: its bytes are not what `distinct_of` writes, to the letter.
    """
    value = sketch.registers
    registers = np.zeros(_REGISTERS, np.uint8)
    if len(value) == _REGISTERS:
        registers = np.frombuffer(value, np.uint8)
    else:
        numbers = unpack(value)
        half = len(numbers) // 2
        places, ranks = np.cumsum(numbers[:half]), numbers[half:]
        if len(ranks) == half and (places < _REGISTERS).all() and (ranks < 256).all():
            registers[places] = ranks
    if registers.max() > _REST + 1 or _sketch(registers) != sketch:
        raise ValueError("a distinct sketch is not in its one valid form")
    return registers


def _sketch(registers: Registers) -> Distinct:
    """The shorter of two forms: the registers in use, or all."""
    places = np.flatnonzero(registers)
    few = pack(np.concatenate([np.diff(places, prepend=0), registers[places].astype(np.int64)]))
    return Distinct(few if len(few) < _REGISTERS else registers.tobytes())


def _sigma(x: float) -> float:
    """Ertl's correction for registers that are empty."""
    if x == 1:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z, y = z + x * y, y + y
    return z


def _tau(x: float) -> float:
    """Ertl's correction for registers that are full."""
    if x in (0, 1):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before, y = math.sqrt(x), z, y / 2
        z -= (1 - x) ** 2 * y
    return z / 3
