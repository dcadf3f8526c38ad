"""The model's signature against the pipeline: which inputs it takes, where its scores are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64
from headrace.schemas.errors import ModelError
from headrace.schemas.pipeline import Pipeline
from headrace.serving.session import Port, Session

F32 = NDArray[np.float32]
Rows = NDArray[Any]
"""Model input: float32 or float64 (N, F), C order, no NaN but those the model is to see."""

_DTYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
_SCORE_TYPES = frozenset({"tensor(float)", "tensor(double)", "tensor(float16)"})
_VALUE_TYPES = _SCORE_TYPES | {"tensor(int64)", "tensor(int32)", "tensor(bool)"}


@dataclass(frozen=True, slots=True)
class Feed:
    """One input of the model.

    Attributes:
        name: Input name.
        dtype: Its dtype.
        column: Column it takes of the rows, None for all.
        flat: It takes (N,) and not (N, 1).
    """

    name: str
    dtype: type[np.floating[Any]]
    column: int | None = None
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Pick:
    """One number per row of a model's output: output name, column where it has several."""

    output: str
    column: int


@dataclass(frozen=True, slots=True)
class Signature:
    """How features become a model's inputs, and its outputs scores.

    Attributes:
        width: F, number of feature columns.
        feeds: Inputs.
        picks: Outputs, the score first.
        missing: What NaN becomes.
    """

    width: int
    feeds: tuple[Feed, ...]
    picks: tuple[Pick, ...]
    missing: float

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """Dtype of `Rows`: the widest of the inputs'."""
        return np.float64 if any(f.dtype is np.float64 for f in self.feeds) else np.float32

    def rows(self, features: F64) -> Rows:
        """Float64 (N, F) features as the model's rows, a copy; values past its range become inf."""
        with np.errstate(over="ignore"):
            rows = features.astype(self.dtype, order="C")
        rows[np.isnan(rows)] = self.missing
        return rows

    def run(self, session: Session, rows: Rows) -> F32:
        """Picked outputs of `rows` (N, F): float32 (N, K), K the number of `picks`.

        Raises:
            ModelFailedError: the model raised. Poison.
            ModelError: an output has another row count or rank than the signature said. Fatal.
        """
        names = list(dict.fromkeys(pick.output for pick in self.picks))
        feeds = {feed.name: _fed(feed, rows) for feed in self.feeds}
        found = dict(zip(names, session.run(names, feeds), strict=True))
        picked = np.empty((len(rows), len(self.picks)), np.float32)
        for k, pick in enumerate(self.picks):
            picked[:, k] = _column(session.model, pick, found[pick.output], len(rows))
        return picked


def _fed(feed: Feed, rows: Rows) -> Rows:
    if feed.column is None:
        return rows
    column = rows[:, feed.column].astype(feed.dtype)
    return column if feed.flat else column.reshape(-1, 1)


def _column(model: str, pick: Pick, output: NDArray[Any], rows: int) -> NDArray[Any]:
    """One column of an output of shape (N,), (N, 1) or (N, K)."""
    if output.ndim not in (1, 2) or output.shape[0] != rows:
        raise ModelError(
            f"output {pick.output!r} of model {model!r} has shape {output.shape} for {rows} rows, "
            f"expected ({rows},) or ({rows}, K); name another output in model.outputs"
        )
    if output.ndim == 1:
        return output
    width = output.shape[1]
    if width == 1:
        return output[:, 0]
    if not -width <= pick.column < width:
        raise ModelError(
            f"output {pick.output!r} of model {model!r} has {width} columns, column {pick.column} "
            f"was asked for; set model.outputs.column"
        )
    return output[:, pick.column]


def read_signature(session: Session, pipeline: Pipeline) -> Signature:
    """Check a model's inputs and outputs against the pipeline file.

    Picks are score, then confidence where the file names one, then the named values.

    Raises:
        ModelError: the model takes other inputs or lacks an output. Fatal.
    """
    columns = pipeline.model_inputs
    feeds = _feeds(session, columns)
    outputs = pipeline.model.outputs
    score = _score_output(session, outputs.score)
    picks = [Pick(score, outputs.column)]
    named = [outputs.confidence] if outputs.confidence else []
    named += outputs.values.values()
    picks += [Pick(_output(session, n, _VALUE_TYPES).name, outputs.column) for n in named]
    return Signature(len(columns), feeds, tuple(picks), pipeline.model.missing)


def _feeds(session: Session, columns: Sequence[str]) -> tuple[Feed, ...]:
    """One input of (batch, F), or F inputs of (batch, 1) or (batch,)."""
    ports = session.inputs
    for port in ports:
        if port.type not in _DTYPES:
            raise _refused(session, columns, f"input {port.name!r} of type {port.type}")
        if not port.shape or port.shape[0] is not None:
            raise _refused(session, columns, f"input {port.name!r} of fixed shape {_text(port)}")
    if len(ports) == 1 and len(ports[0].shape) == 2:
        width = ports[0].shape[1]
        if width not in (None, len(columns)):
            raise _refused(session, columns, f"input {ports[0].name!r} of shape {_text(ports[0])}")
        return (Feed(ports[0].name, _DTYPES[ports[0].type]),)
    if len(ports) != len(columns):
        raise _refused(session, columns, f"{len(ports)} inputs of {', '.join(map(_text, ports))}")
    place = _places(session, columns)
    for port in ports:
        if len(port.shape) > 2 or (len(port.shape) == 2 and port.shape[1] not in (None, 1)):
            raise _refused(session, columns, f"input {port.name!r} of shape {_text(port)}")
    return tuple(
        Feed(p.name, _DTYPES[p.type], place[p.name], flat=len(p.shape) == 1) for p in ports
    )


def _places(session: Session, columns: Sequence[str]) -> dict[str, int]:
    """Column of each input: by name where they are the columns' names, else by position."""
    names = [port.name for port in session.inputs]
    if set(names) == set(columns):
        return {name: list(columns).index(name) for name in names}
    shared = sorted(set(names).intersection(columns))
    if shared:
        raise _refused(session, columns, f"inputs of which only {shared} are feature columns")
    return {name: index for index, name in enumerate(names)}


def _score_output(session: Session, name: str | None) -> str:
    if name is not None:
        return _output(session, name, _SCORE_TYPES).name
    for port in session.outputs:
        if port.type in _SCORE_TYPES:
            return port.name
    raise _unreadable(session, session.outputs[-1])


def _output(session: Session, name: str, types: frozenset[str]) -> Port:
    for port in session.outputs:
        if port.name == name:
            if port.type not in types:
                raise _unreadable(session, port)
            return port
    raise ModelError(
        f"model {session.model!r} has no output {name!r}, its outputs are "
        f"{[port.name for port in session.outputs]}; name one of them in model.outputs"
    )


def _unreadable(session: Session, port: Port) -> ModelError:
    remedy = (
        "convert the classifier with the option zipmap=False"
        if port.type.startswith("seq(")
        else "export the model with an output of floats"
    )
    return ModelError(
        f"output {port.name!r} of model {session.model!r} is {port.type}, expected a tensor of "
        f"floats; {remedy}"
    )


def _refused(session: Session, columns: Sequence[str], found: str) -> ModelError:
    size = len(columns)
    return ModelError(
        f"model {session.model!r} takes {found}, expected one input (batch, {size}) of float or "
        f"double, or {size} inputs (batch, 1), batch left open; export it for the {size} columns "
        f"of model.inputs, or change model.inputs"
    )


def _text(port: Port) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in port.shape) + ")"
