"""Equal rows run once: those of one batch, those in flight, those the cache remembers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.serving.cache import RowCache, row_keys
from headrace.serving.signature import F32, Rows

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Shared:
    """Answers to N rows.

    Attributes:
        outputs: float32 (N, K).
        cached: bool (N,), answered by an equal row: in the cache, in flight or of this batch.
        spent_s: Time that looking up and keeping took, seconds.
    """

    outputs: F32
    cached: Bools
    spent_s: float


@dataclass(slots=True)
class _Landed:
    """Answers of a flight, float32 (n, K), and the time that keeping them took, seconds."""

    answers: F32
    spent_s: float


_Flight = asyncio.Task[_Landed]


@dataclass(slots=True)
class _Plan:
    """What one caller's rows need.

    Attributes:
        own: Rows that this caller has run, one for each key.
        places: Rows that take an answer of `own`: row to place in it.
        borrowed: Rows that take an answer from another caller's flight: flight to (row, place).
    """

    own: list[int]
    places: dict[int, int]
    borrowed: dict[_Flight, list[tuple[int, int]]]


class SharedRows:
    """Runs each distinct row once.

    What runs belongs to no caller: cancelling the one who asked first leaves those who wait for
    the same rows untouched. A caller whose borrowed flight fails runs these rows by itself.

    Args:
        run: Rows to outputs, as `Batcher.run`.
        cache: Where answers are kept.
        model_digest: Digest of the model's file.
        width: K.
    """

    def __init__(
        self,
        run: Callable[[Rows], Awaitable[F32]],
        cache: RowCache,
        *,
        model_digest: str,
        width: int,
    ) -> None:
        self._run = run
        self._cache = cache
        self._digest = model_digest
        self._width = width
        self._flying: dict[bytes, tuple[_Flight, int]] = {}

    async def run(self, rows: Rows) -> Shared:
        """Answers to `rows` (N, F).

        Raises:
            Exception: what the model raised for these rows.
        """
        began = time.monotonic()
        keys = row_keys(rows, self._digest)
        slots = self._cache.find(keys)
        known = slots >= 0
        outputs = np.empty((len(rows), self._width), np.float32)
        outputs[known] = self._cache.answers(slots[known])
        plan = self._plan(keys, np.flatnonzero(~known).tolist())
        flight = self._fly(keys, rows, plan.own)
        spent_s = time.monotonic() - began
        cached = np.ones(len(rows), np.bool_)
        cached[plan.own] = False
        if flight is not None:
            landed = await asyncio.shield(flight)
            outputs[list(plan.places)] = landed.answers[list(plan.places.values())]
            spent_s += landed.spent_s
        for lent, pairs in plan.borrowed.items():
            borrower = [row for row, _ in pairs]
            await asyncio.wait([lent])
            if lent.cancelled() or lent.exception() is not None:
                outputs[borrower] = await self._run(rows[borrower])
                cached[borrower] = False
            else:
                outputs[borrower] = lent.result().answers[[place for _, place in pairs]]
        return Shared(outputs, cached, spent_s)

    def _plan(self, keys: list[bytes], missing: list[int]) -> _Plan:
        plan = _Plan([], {}, {})
        mine: dict[bytes, int] = {}
        for row in missing:
            key = keys[row]
            if (lent := self._flying.get(key)) is not None:
                plan.borrowed.setdefault(lent[0], []).append((row, lent[1]))
                continue
            if key not in mine:
                mine[key] = len(plan.own)
                plan.own.append(row)
            plan.places[row] = mine[key]
        return plan

    def _fly(self, keys: list[bytes], rows: Rows, own: list[int]) -> _Flight | None:
        """Start running this caller's own rows."""
        if not own:
            return None
        flying = [keys[row] for row in own]

        async def fly() -> _Landed:
            try:
                answers = await self._run(rows[own])
                began = time.monotonic()
                self._cache.put(flying, answers)
                return _Landed(answers, time.monotonic() - began)
            finally:
                for key in flying:
                    del self._flying[key]

        flight = asyncio.create_task(fly(), name="rows in flight")
        # Whoever asked may be gone when it fails: then nobody else takes its error.
        flight.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._flying |= {key: (flight, place) for place, key in enumerate(flying)}
        return flight
