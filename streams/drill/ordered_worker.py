"""A worker whose model and wall clock obey a drill: ``python -m … STAGE PIPELINE.toml``.

Everything else of it is the worker that `headrace up` runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Scorer, Scores
from headrace.streams.client import clock
from headrace.streams.drill.orders import OrdersFile, orders_of

ONE_IN = 50
"""Of so many rows one is cursed: far below the share of dead letters that stops a worker."""


class OrderedScorer:
    """The pipeline's scorer, slower or raising where a drill says so.

    Args:
        real: It.
        orders: What is ordered.
    """

    def __init__(self, real: Scorer, orders: OrdersFile) -> None:
        self._real, self._orders = real, orders

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def score(self, features: F64) -> Scores:
        """See `Scorer`.

        Raises:
            RuntimeError: as ordered, for what holds a cursed row.
        """
        orders = self._orders.now()
        if orders.slow_s:
            await asyncio.sleep(orders.slow_s)
        if orders.raises and cursed(features).any():
            raise RuntimeError("the drill has the model raise")
        return await self._real.score(features)


def cursed(features: F64) -> NDArray[np.bool_]:
    """Rows for which a raising model raises: the same rows in whatever batch they come.

    Args:
        features: float64 (N, F).

    Returns:
        bool (N,).
    """
    marks = [zlib.crc32(row.tobytes()) % ONE_IN == 0 for row in np.ascontiguousarray(features)]
    return np.array(marks, np.bool_)


def obey(orders: OrdersFile) -> None:
    """Put model and clock under orders; before the stage's agent is imported, which takes them."""
    from headrace.serving import scorer as serving  # SERVE's alone: onnxruntime takes its time

    load, now = serving.load_scorer, clock.wall_clock

    def loaded(pipeline: Pipeline, folder: Path) -> OrderedScorer:
        return OrderedScorer(load(pipeline, folder), orders)

    def ordered_clock() -> float:
        return now() + orders.now().ahead_s

    _put(serving, "load_scorer", loaded)
    _put(clock, "wall_clock", ordered_clock)


def _put(module: object, name: str, value: Callable[..., object]) -> None:
    setattr(module, name, value)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        obey(orders_of(os.environ))
    from headrace.streams.workers.worker import main

    main()
