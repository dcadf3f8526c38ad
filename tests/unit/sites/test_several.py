"""Pipelines side by side: what is refused before anything starts, and their health together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.schemas.errors import FatalError, PipelineFileError
from headrace.schemas.input import Input, Metric
from headrace.schemas.pipeline import Model, Pipeline, Topics
from headrace.schemas.topics import topics_of
from headrace.schemas.views import Feature, View
from headrace.streams.health.several import SeveralHealth
from headrace.streams.sites.several import check_apart


def pipeline(name: str, **topics: str) -> tuple[Path, Pipeline]:
    """A pipeline file of its own, and what it says."""
    made = Pipeline(
        name=name,
        input=Input(metrics={"load": Metric()}, rekey=True),
        views={"now": View(features=(Feature(op="raw", metrics=("*",)),))},
        model=Model(file="m.onnx"),
        topics=Topics(**topics),
    )
    return Path(f"{name}-{id(made)}.toml"), made


def test_different_pipelines_are_let_through() -> None:
    """Also two that read one telemetry topic, and one that reads another's predictions."""
    check_apart(
        [
            pipeline("press"),
            pipeline("shops", telemetry="all-telemetry"),
            pipeline("spare", telemetry="all-telemetry"),
            pipeline("second", telemetry="headrace.press.predictions.v1"),
        ]
    )


def test_one_name_twice_is_refused() -> None:
    """One line with both files and the name."""
    first, second = pipeline("press"), pipeline("press")

    with pytest.raises(PipelineFileError) as caught:
        check_apart([first, pipeline("shops"), second])

    line = str(caught.value)
    assert "\n" not in line
    for part in (str(first[0]), str(second[0]), "'press'"):
        assert part in line


@pytest.mark.parametrize(
    "stage",
    ["keyed", "deadletter", "late", "features", "predictions", "partials", "summaries", "observed"],
)
def test_one_output_topic_twice_is_refused(stage: str) -> None:
    """Whichever it is, the default name of the other included."""
    [taken] = [spec.name for spec in topics_of(pipeline("press")[1]).all() if spec.stage == stage]

    with pytest.raises(PipelineFileError, match=rf"'press' and 'shops' both write .*{taken}"):
        check_apart([pipeline("press"), pipeline("shops", **{stage: taken})])


class Told:
    """A pipeline's health, as a test tells it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead: list[str] = []
        self.unready: list[str] = []

    def not_live(self) -> list[str]:
        return self.dead

    def not_ready(self) -> list[str]:
        return self.unready

    def facts(self) -> dict[str, Any]:
        return {"pipeline": self.name, "ready": not self.unready, "live": not self.dead}


@pytest.fixture
def press() -> Told:
    return Told("press")


@pytest.fixture
def shops() -> Told:
    return Told("shops")


@pytest.fixture
def ended() -> dict[str, Exception]:
    return {}


@pytest.fixture
def health(press: Told, shops: Told, ended: dict[str, Exception]) -> SeveralHealth:
    return SeveralHealth({"press": press, "shops": shops}, ended)


def test_each_pipeline_answers_for_itself(health: SeveralHealth, press: Told, shops: Told) -> None:
    """Together they give every line, a shared dependency's once; alone each gives its own."""
    press.unready = ["bus: no answer", "press/serve is starting"]
    shops.unready = ["bus: no answer"]
    shops.dead = ["shops/serve is stuck"]

    assert health.not_ready() == ["bus: no answer", "press/serve is starting"]
    assert health.not_live() == ["shops/serve is stuck"]
    assert (one := health.of("press")) is not None
    assert (list(one.not_ready()), list(one.not_live())) == (press.unready, [])
    assert health.of("hosts") is None
    assert [facts["pipeline"] for facts in health.facts()["pipelines"]] == ["press", "shops"]


def test_a_pipeline_that_ended_is_unready_and_calls_for_no_restart(
    health: SeveralHealth, shops: Told, ended: dict[str, Exception]
) -> None:
    """Its own stopped workers are not reasons to end the others' process."""
    shops.dead = ["shops/serve is silent"]
    ended["shops"] = FatalError("model is not there")

    assert health.not_live() == []
    assert health.not_ready() == ["pipeline shops ended: model is not there"]
    facts = health.facts()
    assert (facts["live"], facts["ready"]) == (True, False)
    assert [one["ready"] for one in facts["pipelines"]] == [True, False]


def test_one_pipeline_alone_answers_as_before(press: Told) -> None:
    """What reads the facts of one pipeline need not know that there may be several."""
    assert SeveralHealth({"press": press}, {}).facts() == press.facts()
