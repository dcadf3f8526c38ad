"""The door to ONNX Runtime: every error of it becomes ours, none quotes a value."""

import numpy as np
import pytest
from fakes import onnx_models
from onnxruntime.capi import onnxruntime_pybind11_state as state

from headrace.schemas.errors import ModelError, PoisonError
from headrace.serving.session import RUNTIME_ERRORS, ModelFailedError, Session


def test_every_exception_of_the_library_is_mapped():
    """A new exception class of ONNX Runtime is found by this test and not by a user."""
    found = {
        thing
        for thing in vars(state).values()
        if isinstance(thing, type) and issubclass(thing, BaseException)
    }

    assert found == set(RUNTIME_ERRORS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no model at all",
        onnx_models.mlp()[:200],
        onnx_models.mlp().replace(b"Gemm", b"Gomm"),
        onnx_models.model_bytes(
            [onnx_models.helper.make_node("Identity", ["x"], ["y"])],
            [onnx_models.tensor("x", ["n", 1])],
            [onnx_models.tensor("y", ["n", 1])],
            opset=99,
        ),
    ],
    ids=["empty", "text", "cut", "unknown operator", "unsupported opset"],
)
def test_a_file_that_cannot_run_is_one_line(content):
    """Whatever is wrong with the bytes, the operator reads one line with a remedy."""
    with pytest.raises(ModelError, match=r"loading model 'press' failed: .+; export it") as raised:
        Session(content, model="press")

    assert "\n" not in str(raised.value)


def test_a_failing_row_is_poison_and_its_value_is_not_told(capfd):
    """ONNX Runtime quotes the index it could not look up; neither our message nor its log does."""
    session = Session(onnx_models.looks_up(), model="press")
    rows = np.full((2, 4), 731, np.float32)

    with pytest.raises(ModelFailedError) as raised:
        session.run(["score"], {"x": rows})

    assert isinstance(raised.value, PoisonError)
    assert (raised.value.code, raised.value.rows) == ("model.failed", 2)
    told = [str(raised.value), str(raised.value.__cause__), *capfd.readouterr()]
    assert not any("731" in text for text in told)


def test_one_thread_that_does_not_spin():
    """Scores are bit-equal only with one intra-op thread, and a waiting one must cost nothing."""
    options = Session(onnx_models.mlp(), model="press")._session.get_session_options()

    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.disable_prepacking") == "0"
