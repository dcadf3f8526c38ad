"""What a model must show before it is ready: it runs, as recorded, bit-equal in any company."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from headrace.schemas.batch import F64
from headrace.schemas.errors import ModelError
from headrace.schemas.pipeline import Pipeline
from headrace.serving.model import Model
from headrace.serving.session import ModelFailedError
from headrace.serving.signature import F32, Rows

_SCALES = (0.01, 1.0, 100.0, 10_000.0)
_ROWS_PER_SCALE = 12
_GOLDEN_ROWS = 48
"""Golden rows that take part in the invariance check; all of them are compared with their score."""
_SIZES = (2, 16, 17, 63, 256, 1000, 4096)
"""Batch sizes: both sides of the padding's multiple, and up to where kernels block their loops."""
_SEED = 20_231


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs and the scores they must have.

    Attributes:
        inputs: Rows of features, null where one is missing.
        scores: Score of each row.
        tolerance: Largest difference allowed.
    """

    inputs: list[list[float | None]]
    scores: list[float]
    tolerance: float = 1e-5

    def features(self) -> F64:
        """Its inputs as float64 (N, F), NaN where one is missing."""
        return np.array(self.inputs, np.float64)


def check_model(model: Model, pipeline: Pipeline, folder: Path) -> None:
    """Golden pairs, warm-up and batch invariance; the model is ready when this returns.

    Raises:
        ModelError: one line with the check that failed and by how much. Fatal.
    """
    golden = _read_golden(pipeline, folder, model.signature.width)
    if golden is not None:
        _check_golden(model, golden)
    rows = _probe_rows(model, golden)
    alone, rows = _alone(model, rows)
    _check_invariance(model, rows, alone, pipeline.model.batch_tolerance)


def _read_golden(pipeline: Pipeline, folder: Path, width: int) -> Golden | None:
    name = pipeline.model.golden
    if name is None:
        return None
    try:
        golden = msgspec.json.decode((folder / name).read_bytes(), type=Golden)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"reading golden pairs {name!r} failed: {error}; set model.golden") from (
            error
        )
    widths = {len(row) for row in golden.inputs}
    if widths != {width} or len(golden.inputs) != len(golden.scores):
        raise ModelError(
            f"golden pairs {name!r} hold {len(golden.inputs)} inputs of widths {sorted(widths)} "
            f"and {len(golden.scores)} scores, expected as many of both and width {width}; make "
            f"them again for model.inputs"
        )
    return golden


def _check_golden(model: Model, golden: Golden) -> None:
    name = model.identity.name
    try:
        scores = model.run(model.signature.rows(golden.features()))[:, 0].astype(np.float64)
    except ModelFailedError as error:
        raise ModelError(f"golden pairs of model {name!r} failed: {error}; export it again") from (
            error
        )
    off = np.abs(scores - np.array(golden.scores))
    # A score that is not finite is as far off as can be.
    off[~np.isfinite(off)] = np.inf
    worst = int(off.argmax())
    if off[worst] > golden.tolerance:
        raise ModelError(
            f"golden pair {worst} of model {name!r} is off by {off[worst]:.3g}, expected at most "
            f"{golden.tolerance:g}; the file is another model, or its pairs are to be made again"
        )


def _probe_rows(model: Model, golden: Golden | None) -> Rows:
    """Rows for the invariance check: golden ones, and random ones at several scales."""
    random = np.random.default_rng(_SEED)
    width = model.signature.width
    parts = [random.normal(0.0, scale, (_ROWS_PER_SCALE, width)) for scale in _SCALES]
    parts.append(np.abs(parts[1]))
    parts.append(np.full((1, width), np.nan))
    if golden is not None:
        parts.insert(0, golden.features()[:_GOLDEN_ROWS])
    return model.signature.rows(np.concatenate(parts))


def _alone(model: Model, rows: Rows) -> tuple[F32, Rows]:
    """Outputs of each row run alone, and the rows: those the model takes and scores finitely.

    Random rows may lie outside what a model was made for; one that takes none of them is wrong.
    """
    outputs, kept = [], []
    failure = "its scores are not finite"
    for row in rows:
        try:
            output = model.run(row[np.newaxis])
        except ModelFailedError as error:
            failure = str(error)
            continue
        if np.isfinite(output[0, 0]):
            outputs.append(output[0])
            kept.append(row)
    if not kept:
        raise ModelError(
            f"warming up model {model.identity.name!r} failed for each of {len(rows)} rows: "
            f"{failure}; export it again, or add model.golden with rows it is made for"
        )
    return np.stack(outputs), np.stack(kept)


def _check_invariance(model: Model, rows: Rows, alone: F32, tolerance: float) -> None:
    random = np.random.default_rng(_SEED)
    for size in _SIZES:
        order = np.resize(random.permutation(len(rows)), size)
        off = _difference(model.run(rows[order]), alone[order])
        if off > tolerance:
            raise ModelError(
                f"scores of model {model.identity.name!r} differ by up to {off:.3g} between a row "
                f"alone and the same row among {size}, expected at most {tolerance:g}; export it "
                f"without dynamic quantization, or accept this with model.batch_tolerance"
            )


def _difference(found: F32, expected: F32) -> float:
    """Largest difference of two outputs; 0 only where their bits are equal."""
    differ = found.view(np.uint32) != expected.view(np.uint32)
    differ &= ~(np.isnan(found) & np.isnan(expected))
    if not differ.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        off = np.abs(found[differ].astype(np.float64) - expected[differ])
    # Zero of another sign, or one side that is not finite.
    off[off == 0.0] = np.finfo(np.float32).tiny
    return float(np.nan_to_num(off, nan=np.inf).max())
