"""The only door to ONNX Runtime: a session made for equal bits, and its errors as ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Asked once, at its import: else it gives the machine a name, keeps events in the home folder and
# sends them to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime  # type: ignore[import-untyped]  # it ships none
from onnxruntime.capi import (  # type: ignore[import-untyped]  # it ships none
    onnxruntime_pybind11_state as _state,
)

from headrace.schemas.errors import ModelError, PoisonError

# ONNX Runtime's own log quotes values of the rows it fails on.
_SILENT = 4
onnxruntime.set_default_logger_severity(_SILENT)

RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    _state.DeviceReset,
    _state.EPFail,
    _state.EngineError,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.ModelLoadCanceled,
    _state.ModelLoaded,
    _state.ModelRequiresCompilation,
    _state.NoModel,
    _state.NoSuchFile,
    _state.NotFound,
    _state.NotImplemented,
    _state.RuntimeException,
)
"""Every exception of ONNX Runtime. It raises Python's own ones as well, see `_RAISED`."""

_RAISED: tuple[type[Exception], ...] = (
    *RUNTIME_ERRORS,
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
)


class ModelFailedError(PoisonError):
    """The model raised for these rows; which of them are at fault is found by splitting them.

    The message holds what kind of error it was and not its text: ONNX Runtime quotes values.
    """

    code = "model.failed"

    def __init__(self, *, model: str, rows: int, found: str) -> None:
        self.model, self.rows = model, rows
        Exception.__init__(
            self, f"model {model!r} raised {found} for {rows} rows; split them to find the one"
        )


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a model.

    Attributes:
        name: Its name.
        type: ONNX Runtime's word for its type: ``tensor(float)``.
        shape: Its dimensions; None where any size will do.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]


class Session:
    """One loaded model.

    One intra-op thread that does not spin, operators one after another, weights prepacked: so that
    a row's score has the same bits whatever rows stand beside it.

    Args:
        content: Bytes of the ONNX file.
        model: Name for messages.

    Raises:
        ModelError: the bytes are no model that this ONNX Runtime can run. Fatal.
    """

    def __init__(self, content: bytes, *, model: str) -> None:
        self.model = model
        try:
            self._session = onnxruntime.InferenceSession(
                content, sess_options=_options(), providers=["CPUExecutionProvider"]
            )
        except _RAISED as error:
            raise ModelError(
                f"loading model {model!r} failed: {_first_line(error)}; export it again as one "
                f"ONNX file, weights inside, for onnxruntime {onnxruntime.__version__} or older"
            ) from error
        self.inputs = tuple(_port(node) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node) for node in self._session.get_outputs())

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[np.generic]]
    ) -> list[NDArray[Any]]:
        """Outputs of these names for these inputs; blocks the calling thread, not the interpreter.

        Raises:
            ModelFailedError: the model raised. Poison.
        """
        try:
            return list(self._session.run(list(outputs), dict(feeds)))
        except _RAISED as error:
            rows = len(next(iter(feeds.values())))
            # The original is not chained: its text may quote feature values.
            found = type(error).__name__
            raise ModelFailedError(model=self.model, rows=rows, found=found) from None


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A pattern is kept for every shape ever seen: up to a thousand of them with our padding.
    options.enable_mem_pattern = False
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "0")
    return options


def _port(node: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape or ())
    return Port(node.name, node.type, shape)


def _first_line(error: Exception) -> str:
    """What ONNX Runtime says of a file, cut to a line of readable length."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
