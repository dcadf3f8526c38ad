"""Shops: what the stream adds to a payment or a scan is what decides. Taken away, it is missed."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.examples import EXAMPLES, simulated
from fit import score
from numpy.typing import NDArray
from stream import Featured, featured

from headrace.schemas.pipeline import load_pipeline

SHOPS = EXAMPLES / "shops"
PIPELINE = load_pipeline(SHOPS / "pipeline.toml")
MODEL = (SHOPS / "model.onnx").read_bytes()

SIGNALS = {
    "what this card commonly spends": ("amount_eur_zscore", "amount_eur_usual"),
    "how often it was tried and declined": ("count_120s", "declined_sum_600s"),
    "what was taken off the basket": ("voided_eur_sum_600s", "voided_eur_max_600s"),
}
"""Who pays (identity), and what speaks against it (risk): no event carries any of them."""
LOSSES = ("sweetheart", "stolen", "tested")


def looks(found: Featured, without: str | None = None) -> NDArray[np.bool_]:
    """Which rows the model asks to look at; `without` a signal, each row has the ordinary one."""
    inputs, paying = found.inputs.copy(), found.inputs[:, PIPELINE.model_inputs.index("paying_raw")]
    for name in SIGNALS[without] if without else ():
        column = PIPELINE.model_inputs.index(name)
        for kind in (paying == 0, paying == 1):
            inputs[kind, column] = np.median(found.inputs[kind & (found.labels == 0), column])
    return score(MODEL, inputs) >= PIPELINE.model.outputs.threshold


def share(found: Featured, flagged: NDArray[np.bool_], loss: str) -> float:
    """How much of a loss is found."""
    return float(flagged[(found.kinds == loss) & (found.labels == 1)].mean())


@pytest.mark.parametrize(
    ("signal", "loss"), list(zip(SIGNALS, ("stolen", "tested", "sweetheart"), strict=True))
)
def test_without_a_signal_the_decision_is_another(signal: str, loss: str) -> None:
    """The same events, one signal made ordinary: what it tells of is missed."""
    found = featured(SHOPS / "pipeline.toml", simulated("shops", 3, count=6, minutes=90.0))

    whole, without = looks(found), looks(found, signal)

    assert share(found, without, loss) < share(found, whole, loss) - 0.5
    assert whole[found.labels == 0].mean() < 0.001
    assert without[found.labels == 0].mean() < 0.001


@pytest.mark.slow
def test_the_page_states_what_each_signal_is_worth() -> None:
    """README.md has the shares found with and without each, of the seed for testing."""
    page = (SHOPS / "README.md").read_text("utf-8")
    found = featured(SHOPS / "pipeline.toml", simulated("shops", 2, count=24, minutes=240.0))

    for name, without in (("the whole", None), *((f"without {one}", one) for one in SIGNALS)):
        flagged = looks(found, without)
        shares = " | ".join(f"{share(found, flagged, loss):.2f}" for loss in LOSSES)
        assert f"| {name} | {shares} |" in page
