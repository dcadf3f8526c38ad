"""A loaded model: session and signature, rows in, picked outputs out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from headrace.schemas.errors import ModelError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import ModelIdentity
from headrace.serving.session import Session
from headrace.serving.signature import F32, Rows, read_signature

ROW_MULTIPLE = 16
"""Rows of a session call are padded to a multiple of this: kernels take another path, with other
roundings, for the rows that are left over."""


def pad_rows(rows: Rows) -> Rows:
    """Rows padded to the next multiple of 16 with copies of the last one.

    A copy fails only if its original does, and moves no minimum or maximum of the batch. Padding
    never reaches the caller: cut the result to the row count.

    Args:
        rows: (N, F), N at least 1.

    Returns:
        (B, F) of the same dtype, B a multiple of 16; `rows` itself where N is one.

    Delivery: pure.

    Example:
        >>> pad_rows(np.zeros((17, 2), np.float32)).shape
        (32, 2)
    """
    over = -len(rows) % ROW_MULTIPLE
    return np.concatenate([rows, np.repeat(rows[-1:], over, axis=0)]) if over else rows


class Model:
    """A model that can be run; safe to call from one thread at a time.

    Args:
        content: Bytes of the ONNX file.
        pipeline: What it is served for.

    Raises:
        ModelError: bytes or signature do not fit. Fatal.
    """

    def __init__(self, content: bytes, pipeline: Pipeline) -> None:
        name = pipeline.model.name or pipeline.name
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        self.digest = digest
        """32 hex digits over the file."""
        self.identity = ModelIdentity(name, pipeline.model.version, digest[:8])
        self.max_batch_rows = pipeline.serving.max_batch_rows
        self._session = Session(content, model=name)
        self.signature = read_signature(self._session, pipeline)

    def run(self, rows: Rows) -> F32:
        """Picked outputs of `rows`, in session calls of at most `max_batch_rows`.

        Args:
            rows: (N, F) of the signature's dtype.

        Returns:
            float32 (N, K), columns in the order of the signature's picks.

        Raises:
            ModelFailedError: the model raised. Poison.
        """
        if len(rows) <= self.max_batch_rows:
            return self._run(rows)
        starts = range(0, len(rows), self.max_batch_rows)
        return np.concatenate([self._run(rows[s : s + self.max_batch_rows]) for s in starts])

    def _run(self, rows: Rows) -> F32:
        if not len(rows):
            return np.empty((0, len(self.signature.picks)), np.float32)
        return self.signature.run(self._session, pad_rows(rows))[: len(rows)]


def read_model(pipeline: Pipeline, folder: Path) -> Model:
    """The pipeline's model from its file in `folder`.

    Raises:
        ModelError: the file is missing, unreadable or not servable. Fatal.
    """
    file = folder / pipeline.model.file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"reading model file {pipeline.model.file!r} failed: {error.strerror}, expected an "
            f"ONNX file beside the pipeline file; set model.file"
        ) from error
    return Model(content, pipeline)
