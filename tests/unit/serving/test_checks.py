"""Before a model is ready: warm-up, golden pairs, batch invariance."""

import numpy as np
import pytest
from fakes import onnx_models

from headrace.schemas.errors import ModelError
from headrace.serving.checks import check_model
from headrace.serving.model import Model, read_model


def check(content, folder, **model):
    pipeline = onnx_models.pipeline(model=model)
    check_model(Model(content, pipeline), pipeline, folder)


@pytest.mark.parametrize(
    "content",
    [
        onnx_models.mlp(width=4),
        onnx_models.mlp(width=4, dtype=np.float64),
        onnx_models.trees(),
        onnx_models.classifier(),
        onnx_models.column_inputs(["m0", "m1", "m2", "m3"]),
    ],
    ids=["mlp", "mlp double", "trees", "softmax", "column inputs"],
)
def test_ordinary_models_are_bit_equal_in_any_company(content, tmp_path):
    """MLPs, trees and classifiers pass without a tolerance."""
    check(content, tmp_path)


def test_dynamic_int8_is_refused_with_the_difference(tmp_path):
    """A scale taken from the batch lets one row's neighbours move its score."""
    with pytest.raises(ModelError, match=r"differ by up to [\d.e+]+ .* dynamic quantization"):
        check(onnx_models.dynamic_int8(), tmp_path)


def test_dynamic_int8_is_served_by_who_opts_in(tmp_path):
    """A stated tolerance is the opt-in; one that is too small is not enough."""
    check(onnx_models.dynamic_int8(), tmp_path, batch_tolerance=1e6)

    with pytest.raises(ModelError, match="expected at most 1e-06"):
        check(onnx_models.dynamic_int8(), tmp_path, batch_tolerance=1e-6)


def test_golden_pairs_pass_within_their_tolerance(tmp_path):
    """Recorded scores are compared one by one, missing inputs included."""
    pipeline = onnx_models.pipeline()
    model = Model(onnx_models.mlp(width=4), pipeline)
    scores = model.run(model.signature.rows(np.array([[1, 2, 3, 4], [0, np.nan, 0, 0]])))[:, 0]
    inputs = [[1, 2, 3, 4], [0, None, 0, 0]]

    onnx_models.write_golden(tmp_path, inputs, scores.tolist())
    check(onnx_models.mlp(width=4), tmp_path, golden="golden.json")

    onnx_models.write_golden(tmp_path, inputs, [float(scores[0]), float(scores[1]) + 0.01])
    with pytest.raises(ModelError, match=r"golden pair 1 of model 'press' is off by 0.01"):
        check(onnx_models.mlp(width=4), tmp_path, golden="golden.json")


def test_another_model_under_the_same_name_is_found(tmp_path):
    """A swapped file does not get past its golden pairs."""
    model = Model(onnx_models.mlp(width=4), onnx_models.pipeline())
    score = float(model.run(np.ones((1, 4), np.float32))[0, 0])
    onnx_models.write_golden(tmp_path, [[1, 1, 1, 1]], [score])

    with pytest.raises(ModelError, match="golden pair 0"):
        check(onnx_models.mlp(width=4, seed=9), tmp_path, golden="golden.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"inputs": [[1, 2]], "scores": [1]}', r"widths \[2\] and 1 scores, .* width 4"),
        ('{"inputs": [[1, 2, 3, 4]], "scores": []}', "1 inputs .* 0 scores"),
        ('{"inputs": [], "scores": []}', "0 inputs"),
        ('{"inputs": [[1, 2, 3, 4]], "score": [1]}', "reading golden pairs 'golden.json' failed"),
        ("{", "reading golden pairs 'golden.json' failed"),
        (None, "reading golden pairs 'golden.json' failed"),
    ],
)
def test_a_golden_file_that_does_not_fit_is_refused(text, message, tmp_path):
    """Unreadable or mismatched pairs are one line, not a skipped check."""
    if text is not None:
        (tmp_path / "golden.json").write_text(text)

    with pytest.raises(ModelError, match=message):
        check(onnx_models.mlp(width=4), tmp_path, golden="golden.json")


def test_golden_scores_must_be_finite(tmp_path):
    """A model that has no finite score for its own golden inputs is not served."""
    onnx_models.write_golden(tmp_path, [[-1, 1, 1, 1]], [0.0])

    with pytest.raises(ModelError, match="off by inf"):
        check(onnx_models.logarithm(), tmp_path, golden="golden.json")


def test_rows_a_model_was_not_made_for_do_not_condemn_it(tmp_path):
    """A logarithm or a look-up in a small table is checked where it answers."""
    check(onnx_models.logarithm(), tmp_path)
    check(onnx_models.looks_up(), tmp_path)


def test_a_model_that_answers_nothing_is_refused(tmp_path):
    """No finite score for any row is an error with the last failure in it."""
    tensor, helper = onnx_models.tensor, onnx_models.helper
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "nan"], ["score"]),
    ]
    content = onnx_models.model_bytes(
        nodes,
        [tensor("x", ["n", 4])],
        [tensor("score", ["n", 1])],
        [("nan", np.array(np.nan, np.float32))],
    )

    with pytest.raises(ModelError, match=r"failed for each of .*: its scores are not finite"):
        check(content, tmp_path)


def test_a_missing_file_is_one_line(tmp_path):
    """The name from the pipeline file is in the message, the machine's folders are not."""
    with pytest.raises(ModelError, match=r"reading model file 'model.onnx' failed: No such") as e:
        read_model(onnx_models.pipeline(), tmp_path)

    assert str(tmp_path) not in str(e.value)
