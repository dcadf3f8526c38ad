"""Chance that is a function of what it is about: the same for any cut of the work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 0xFFFFFFFFFFFFFFFF


def drawn(numbers: I64, seed: int, salt: int) -> F64:
    """A number in [0, 1) for each of `numbers`, under a seed and a purpose.

    Args:
        numbers: int64, any shape.
        seed: Of the run.
        salt: One per purpose, so that they do not depend on one another.

    Returns:
        float64 of the same shape.

    Source: SplitMix64 (Steele, Lea, Flood 2014), its output function over a counter.

    Example:
        >>> drawn(np.array([1, 2, 1]), 7, 0).round(3).tolist()
        [0.518, 0.489, 0.518]
    """
    start = ((seed * 2 + 1) * _GOLDEN + salt * _SECOND) & _MASK
    mixed = numbers.astype(np.uint64) * np.uint64(_GOLDEN)
    mixed += np.uint64(start)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_FIRST)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)


def stream(seed: int, block: int) -> np.random.Generator:
    """Random numbers of one block of a run, whatever blocks were made before it."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, block]))
