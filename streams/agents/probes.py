"""What a batch says of devices, without its probes: they are predicted, and counted nowhere else.

A probe moves neither a watermark nor a summary; a partition that has nothing but probes rests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.block import Labels
from headrace.schemas.canary import probes_of
from headrace.streams.agents.scored_rows import Rest, ScoredRows


def real_rows(entities: Labels) -> NDArray[np.bool_] | None:
    """Which rows are of devices, bool (N,); None where all are."""
    probes = probes_of(entities.names)
    if not probes:
        return None
    found: NDArray[np.bool_] = ~np.isin(entities.codes, probes)
    return None if found.all() else found


def without_probes(
    rows: ScoredRows, rests: Sequence[Rest], real: NDArray[np.bool_]
) -> tuple[ScoredRows | None, list[Rest]]:
    """The rows of devices alone, None where there are none; and the rests among them.

    Args:
        rows: M rows and N predictions.
        rests: Where among them the partition was said to rest, in log order.
        real: bool (M,), rows of devices.
    """
    before = np.concatenate([[0], np.cumsum(real)])
    moved = [Rest(int(before[rest.place]), rest.log_ms) for rest in rests]
    if not real.any():
        return None, moved
    kept = real[rows.served]
    left = replace(
        rows,
        event_times_ms=rows.event_times_ms[real],
        log_times_ms=rows.log_times_ms[real],
        served=before[rows.served[kept]],
        entities=Labels(rows.entities.names, rows.entities.codes[kept]),
        groups=Labels(rows.groups.names, rows.groups.codes[kept]),
        score=rows.score[kept],
        high=rows.high[kept],
        metrics=rows.metrics[kept],
    )
    return left, moved
