"""A model's signature against the pipeline: what fits is bound, what does not is refused."""

import numpy as np
import pytest
from fakes import onnx_models
from fakes.onnx_models import INT64, TensorProto, helper, model_bytes, tensor

from headrace.schemas.errors import ModelError
from headrace.serving.session import Session
from headrace.serving.signature import read_signature


def signature(content, pipeline=None):
    session = Session(content, model="press")
    return session, read_signature(session, pipeline or onnx_models.pipeline())


def run(content, features, pipeline=None):
    session, found = signature(content, pipeline)
    return found.run(session, found.rows(np.array(features, np.float64)))


def identity(kind=TensorProto.FLOAT, shape=("n", 4), out=("n", 4)):
    node = helper.make_node("Identity", ["x"], ["score"])
    return model_bytes([node], [tensor("x", shape, kind)], [tensor("score", out, kind)])


def test_label_comes_before_probabilities_and_is_passed_over():
    """Of a converted sklearn classifier the last column of the probabilities is the score."""
    picked = run(onnx_models.classifier(), [[0.1, 0.2, 0.3, 0.4]])
    session, _ = signature(onnx_models.classifier())
    rows = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    (probabilities,) = session.run(["probabilities"], {"x": rows})

    assert picked.tolist() == probabilities[:, -1:].tolist()
    assert 0 < picked[0, 0] < 1


def test_columns_and_named_values_are_picked_as_the_file_says():
    """Column, confidence and values of model.outputs are float32 columns after the score."""
    outputs = {"score": "probabilities", "column": 0, "values": {"class": "label"}}
    pipeline = onnx_models.pipeline(model={"outputs": outputs})

    picked = run(onnx_models.classifier(), [[0.1, 0.2, 0.3, 0.4]], pipeline)
    other = run(onnx_models.classifier(), [[0.1, 0.2, 0.3, 0.4]])

    assert picked.dtype == np.float32
    assert picked[0, 0] == pytest.approx(1 - other[0, 0])
    assert picked[0, 1] == float(other[0, 0] > 0.5)


def test_missing_becomes_what_the_file_says():
    """NaN is a missing feature and never reaches the model."""
    pipeline = onnx_models.pipeline(model={"missing": -7.0})
    nan = float("nan")

    assert run(identity(), [[1, 2, 3, nan]], pipeline).tolist() == [[-7.0]]


@pytest.mark.parametrize("flat", [False, True])
def test_one_input_per_column_is_bound_by_name(flat):
    """Inputs called like the columns take them in whatever order the model lists them."""
    names = ["m3", "m2", "m1", "m0"]

    picked = run(onnx_models.column_inputs(names, flat=flat), [[1, 10, 100, 1000]])

    assert picked.tolist() == [[1 * 1000 + 2 * 100 + 3 * 10 + 4 * 1]]


def test_inputs_of_other_names_are_bound_by_position():
    """Inputs none of which is a column's name are taken in the order of model.inputs."""
    picked = run(onnx_models.column_inputs(["a", "b", "c", "d"]), [[1, 10, 100, 1000]])

    assert picked.tolist() == [[4321]]


def test_double_inputs_keep_their_precision():
    """A model of doubles is fed doubles."""
    session, found = signature(onnx_models.mlp(width=4, dtype=np.float64))

    assert found.rows(np.array([[0.1, 0, 0, 0]])).dtype == np.float64
    assert found.run(session, found.rows(np.zeros((3, 4)))).dtype == np.float32


def test_values_past_float32_become_infinite_without_a_warning():
    """An absurd reading is the model's to judge; it must not end the batch."""
    _, found = signature(onnx_models.mlp(width=4))

    assert np.isinf(found.rows(np.array([[1e300, 0, 0, 0]]))[0, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (onnx_models.mlp(width=5), r"input 'x' of shape \(any, 5\), expected one input \(batch, 4"),
        (onnx_models.column_inputs(["a", "b"]), r"2 inputs of \(any, 1\), \(any, 1\)"),
        (onnx_models.column_inputs(["m0", "b", "c", "d"]), r"only \['m0'\] are feature columns"),
        (identity(TensorProto.STRING), r"input 'x' of type tensor\(string\)"),
        (identity(INT64), r"input 'x' of type tensor\(int64\)"),
        (identity(shape=(1, 4), out=(1, 4)), r"input 'x' of fixed shape \(1, 4\)"),
        (identity(shape=("n", 4, 4), out=("n", 4, 4)), r"1 inputs of \(any, 4, 4\)"),
        (onnx_models.classifier(zipmap=True), r"seq\(map.*zipmap=False"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_was_found(content, message):
    """The message names what the model takes, what was expected and how to mend it."""
    with pytest.raises(ModelError, match=message) as raised:
        signature(content)

    assert ";" in str(raised.value)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"score": "nothing"}, r"no output 'nothing', its outputs are \['label', 'prob"),
        ({"score": "label"}, r"output 'label' .* is tensor\(int64\), expected a tensor of floats"),
        ({"confidence": "nothing"}, "no output 'nothing'"),
        ({"values": {"a": "nothing"}}, "no output 'nothing'"),
    ],
)
def test_an_output_that_is_not_there_is_refused(outputs, message):
    """model.outputs is checked against the model before anything is served."""
    with pytest.raises(ModelError, match=message):
        signature(onnx_models.classifier(), onnx_models.pipeline(model={"outputs": outputs}))


def test_a_column_that_is_not_there_is_refused():
    """A column beyond the output's width is found at warm-up."""
    pipeline = onnx_models.pipeline(model={"outputs": {"column": 2}})

    with pytest.raises(ModelError, match="2 columns, column 2 was asked for"):
        run(onnx_models.classifier(), [[0.1, 0.2, 0.3, 0.4]], pipeline)


def test_an_output_that_mixes_rows_is_refused():
    """An output that is not one entry per row is no score."""
    node = helper.make_node("ReduceMean", ["x"], ["score"], axes=[0], keepdims=0)
    content = model_bytes([node], [tensor("x", ["n", 4])], [tensor("score", [4])])

    with pytest.raises(ModelError, match=r"shape \(4,\) for 3 rows"):
        run(content, np.zeros((3, 4)))
