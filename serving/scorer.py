"""The scorer: features in, scores out; all of serving behind one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64
from headrace.schemas.errors import ModelError, PoisonRecordsError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Scores
from headrace.serving.batcher import Batcher
from headrace.serving.cache import RowCache
from headrace.serving.checks import check_model
from headrace.serving.gain import CacheGain
from headrace.serving.model import Model, read_model
from headrace.serving.session import ModelFailedError
from headrace.serving.sharing import SharedRows
from headrace.serving.signature import F32, Rows

TIERS = ("light", "cache")
"""Who answered: the model, or an equal row's answer."""


class OnnxScorer:
    """Batched, cached inference (`protocols.Scorer`); all of it on one event loop.

    Args:
        model: A model that has passed its checks.
        pipeline: What it is served for.
        cache: Where answers are kept; default one of its own, by the pipeline file.
    """

    def __init__(self, model: Model, pipeline: Pipeline, cache: RowCache | None = None) -> None:
        self.model = model.identity
        self.gain = CacheGain(always=pipeline.serving.cache == "on")
        self.cached_rows = 0
        """Rows answered by an equal row."""
        self.saved_cpu_s = 0.0
        """CPU time of session calls that these saved, at the mean cost of a scored row, seconds."""
        self._signature = model.signature
        self._outputs = pipeline.model.outputs
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self.batcher = Batcher(
            model.run,
            self._executor,
            max_batch_rows=pipeline.serving.max_batch_rows,
            max_queue_delay_s=pipeline.serving.max_queue_delay_ms / 1000,
        )
        self._shared: SharedRows | None = None
        if pipeline.serving.cache != "off":
            width = len(model.signature.picks)
            self._shared = SharedRows(
                self.batcher.run,
                new_cache(pipeline, width) if cache is None else cache,
                model_digest=model.digest,
                width=width,
            )

    async def score(self, features: F64) -> Scores:
        """Scores of float64 (N, F) features, columns in the order of the model's inputs.

        Cancelling one caller leaves every other one untouched.

        Raises:
            ModelFailedError: the model raised for these rows. Poison.
            PoisonRecordsError: it gave these rows no finite score.
            ModelError: features of another width. Fatal.
        """
        if features.ndim != 2 or features.shape[1] != self._signature.width:
            raise ModelError(
                f"features have shape {features.shape}, expected (N, {self._signature.width}) for "
                f"model {self.model.name!r}; arrange them by model.inputs"
            )
        rows = self._signature.rows(features)
        tier = np.zeros(len(rows), np.uint8)
        asked = 0
        if self._shared is not None and len(rows):
            asked = self.gain.ask(len(rows), row_s=self.batcher.time.per_row_s)
            self.gain.skipped(len(rows) - asked)
        if self._shared is None or not asked:
            return self._scores(await self.batcher.run(rows), tier)
        outputs = await self._from_cache(self._shared, rows[:asked], tier[:asked])
        if asked < len(rows):
            outputs = np.concatenate([outputs, await self.batcher.run(rows[asked:])])
        return self._scores(outputs, tier)

    async def close(self) -> None:
        """Answer whoever waits, then end the inference thread."""
        await self.batcher.close()
        self._executor.shutdown()

    def cache_share(self) -> float | None:
        """Share of all rows that the cache answered; None while it does not pay."""
        if self._shared is None or not self.gain.pays:
            return None
        return self.cached_rows / max(self.cached_rows + self.batcher.rows, 1)

    async def _from_cache(self, shared: SharedRows, rows: Rows, tier: NDArray[np.uint8]) -> F32:
        found = await shared.run(rows)
        answered = int(found.cached.sum())
        self.cached_rows += answered
        self.saved_cpu_s += answered * self.batcher.cpu_s / max(self.batcher.rows, 1)
        self.gain.observe(
            rows=len(rows),
            answered=answered,
            spent_s=found.spent_s,
            row_s=self.batcher.time.per_row_s,
        )
        tier[found.cached] = TIERS.index("cache")
        return found.outputs

    def _scores(self, outputs: F32, tier: NDArray[np.uint8]) -> Scores:
        score = np.ascontiguousarray(outputs[:, 0])
        finite = np.isfinite(score)
        if not finite.all():
            bad = np.flatnonzero(~finite).tolist()
            raise PoisonRecordsError(dict.fromkeys(bad, ModelFailedError.code))
        named = outputs.T[1:]
        if self._outputs.confidence is None:
            confidence = confidence_of(score, self._outputs.threshold)
        else:
            confidence, named = np.ascontiguousarray(named[0]), named[1:]
        values = {
            name: np.ascontiguousarray(column)
            for name, column in zip(self._outputs.values, named, strict=True)
        }
        high = high_of(score, self._outputs.threshold)
        return Scores(score, confidence, high, tier, TIERS, values)


def high_of(score: F32, threshold: float) -> NDArray[np.bool_]:
    """Which scores get the label: bool (N,) of float32 (N,), at or above the threshold.

    Example:
        >>> high_of(np.array([0.1, 0.7], np.float32), 0.7).tolist()
        [False, True]
    """
    return score >= np.float32(threshold)


def confidence_of(score: F32, threshold: float) -> F32:
    """How far a score is from the threshold: 0.5 at it, 1 at the end of the scale.

    A threshold between 0 and 1 makes the score a probability: linear from the threshold to 0 on
    one side, to 1 on the other, scores beyond count as the end. Any other threshold leaves the
    scale open: ``0.5 + 0.5 d / (1 + d)`` with d the distance in units of ``max(1, |threshold|)``.

    Args:
        score: float32 (N,), finite.
        threshold: The pipeline's threshold.

    Returns:
        float32 (N,), 0.5 to 1; each from its own score alone.

    Example:
        >>> confidence_of(np.array([0.0, 0.4, 0.8, 0.9, 1.0], np.float32), 0.8).round(3).tolist()
        [1.0, 0.75, 0.5, 0.75, 1.0]
    """
    off = score.astype(np.float64) - np.float64(np.float32(threshold))
    if 0.0 < threshold < 1.0:
        share = np.where(off >= 0, off / (1.0 - threshold), -off / threshold).clip(0.0, 1.0)
    else:
        distance = np.abs(off) / max(1.0, abs(threshold))
        share = distance / (1.0 + distance)
    return (0.5 + 0.5 * share).astype(np.float32)


def new_cache(
    pipeline: Pipeline, width: int, now: Callable[[], float] = time.monotonic
) -> RowCache:
    """The cache that a pipeline file asks for; `width` is the number of outputs picked."""
    serving = pipeline.serving
    return RowCache(rows=serving.cache_rows, width=width, ttl_s=serving.cache_ttl_s, now=now)


def load_scorer(pipeline: Pipeline, folder: Path) -> OnnxScorer:
    """The pipeline's model, ready: signature, golden pairs and batch invariance are checked.

    Args:
        pipeline: The pipeline.
        folder: Where its model and golden files are.

    Raises:
        ModelError: one line with what is wrong with the model. Fatal.
    """
    model = read_model(pipeline, folder)
    check_model(model, pipeline, folder)
    return OnnxScorer(model, pipeline)
