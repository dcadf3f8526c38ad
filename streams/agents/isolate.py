"""Score rows; find those that make the model fail, and let their neighbours pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.schemas.batch import F64, I64
from headrace.schemas.errors import FatalError, PoisonRecordsError, RetryableError
from headrace.schemas.protocols import Scorer, Scores

FAILED = "model.failed"


@dataclass(slots=True)
class Isolated:
    """What became of N rows.

    Attributes:
        served: int64 (n,), rows with a score, ascending.
        scores: Scores of these n rows; None where there are none.
        failed: Row to dead-letter code, for all the others.
    """

    served: I64
    scores: Scores | None
    failed: dict[int, str]


async def score_rows(scorer: Scorer, features: F64) -> Isolated:
    """Scores of float64 (N, F) features, row by row where need be.

    One call where every row can be scored. Otherwise rows that the scorer names are taken out,
    and a part that fails as a whole is halved until the row at fault stands alone: about
    ``2 log2(N)`` calls for each such row.

    Raises:
        RetryableError, FatalError: no verdict on a row; passed on.
    """
    failed: dict[int, str] = {}
    found: list[tuple[I64, Scores]] = []
    parts = [np.arange(len(features), dtype=np.int64)]
    while parts:
        rows = parts.pop()
        if not len(rows):
            continue
        try:
            whole = len(rows) == len(features)
            found.append((rows, await scorer.score(features if whole else features[rows])))
        except PoisonRecordsError as error:
            failed |= {int(rows[row]): code for row, code in error.rows.items()}
            parts.append(np.delete(rows, list(error.rows)))
        except (RetryableError, FatalError):
            raise
        # A task boundary: whatever a model raises is a verdict on one of its rows.
        except Exception:  # noqa: BLE001
            if len(rows) == 1:
                failed[int(rows[0])] = FAILED
            else:
                middle = len(rows) // 2
                parts += [rows[middle:], rows[:middle]]
    if not found:
        return Isolated(np.empty(0, np.int64), None, failed)
    served = np.concatenate([rows for rows, _ in found])
    return Isolated(served, join_scores([scores for _, scores in found]), failed)


def split(found: Isolated, sizes: Sequence[int]) -> list[Isolated]:
    """What became of the rows of several callers, as each would have it alone.

    Args:
        found: Of all rows, one caller's behind the other's.
        sizes: How many rows each has.
    """
    parts, begin = [], 0
    for size in sizes:
        end = begin + size
        first, last = np.searchsorted(found.served, (begin, end)).tolist()
        failed = {row - begin: code for row, code in found.failed.items() if begin <= row < end}
        scores = None
        if found.scores is not None and first < last:
            scores = slice_scores(found.scores, first, last)
        parts.append(Isolated(found.served[first:last] - begin, scores, failed))
        begin = end
    return parts


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Scores one after another; all of one scorer."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Scores(
        np.concatenate([s.score for s in parts]),
        np.concatenate([s.confidence for s in parts]),
        np.concatenate([s.high for s in parts]),
        np.concatenate([s.tier for s in parts]),
        first.tiers,
        {name: np.concatenate([s.values[name] for s in parts]) for name in first.values},
    )


def slice_scores(scores: Scores, start: int, stop: int) -> Scores:
    """Scores of rows `start` to `stop` (arrays are views)."""
    return Scores(
        scores.score[start:stop],
        scores.confidence[start:stop],
        scores.high[start:stop],
        scores.tier[start:stop],
        scores.tiers,
        {name: column[start:stop] for name, column in scores.values.items()},
    )
