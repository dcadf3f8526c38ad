"""What an operator works on: fields of an entity's row, and the events of a batch as a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.runs import Runs
from headrace.schemas.batch import F64, I64

Rows = NDArray[Any]
"""Structured (E,): the rows of the entities a batch touches, a copy that operators write to."""

NEVER = np.iinfo(np.int64).min
"""The time of what has not happened."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an entity's row.

    Attributes:
        name: Its name, unique in the row.
        kind: ``<f8`` or ``<i8``; every field is a multiple of 8 bytes.
        shape: Its shape.
        blank: What it holds before the entity's first event: one number, or an array of `shape`.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    blank: float | int | F64


def columns(places: Sequence[int]) -> slice | list[int]:
    """An index of these columns: a slice, which copies nothing, where they stand side by side.

    Example:
        >>> columns([2, 3, 4]), columns([4, 2])
        (slice(2, 5, None), [4, 2])
    """
    listed = list(places)
    if listed and listed == list(range(listed[0], listed[0] + len(listed))):
        return slice(listed[0], listed[-1] + 1)
    return listed


@dataclass(slots=True)
class Frame:
    """The events of one batch, entity by entity, each entity's in log order.

    Attributes:
        runs: Events of each entity; group g belongs to row g.
        times: int64 (N,), event time, milliseconds since 1970.
        log_times: int64 (N,), broker time, milliseconds since 1970.
        metrics: float64 (N, M); NaN is missing.
    """

    runs: Runs
    times: I64
    log_times: I64
    metrics: F64


class Operator(Protocol):
    """One idea: some fields of the row, some columns of the features."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields it keeps of an entity."""

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Write its columns of `out`, and its fields of `rows` as after the last event.

        Pure but for these two; what an event gets depends on its entity's events before it alone.

        Args:
            rows: Structured (E,), the entities' rows before the batch.
            frame: The events.
            out: float64 (N, F), the features in the frame's order.
        """
