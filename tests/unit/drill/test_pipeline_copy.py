"""A copy decides about features, scores and delivery as its original does."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace.streams
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.drill.pipeline_copy import as_toml, copy_pipeline

EXAMPLES = Path(headrace.streams.__file__).parents[1] / "examples"

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=12
)


@given(values)
def test_what_is_written_is_read_back(value) -> None:
    """Any tree of TOML's values, whatever the texts in it."""
    assert tomllib.loads(f"value = {as_toml(value)}") == {"value": value}


@pytest.mark.parametrize("name", ["hosts", "press"])
def test_the_flow_is_the_same(name, tmp_path) -> None:
    """Name, topics, start, skew and silence apart nothing differs; files are read in place."""
    source = EXAMPLES / name / "pipeline.toml"
    copied = load_pipeline(copy_pipeline(source, tmp_path, "drill-1", telemetry="elsewhere"))
    original = load_pipeline(source)
    same = ("devices", "views", "serving")

    assert [getattr(copied, part) for part in same] == [getattr(original, part) for part in same]
    assert msgspec.structs.replace(copied.input, max_skew_s=original.input.max_skew_s) == (
        original.input
    )
    assert msgspec.structs.replace(copied.summary, idle_s=original.summary.idle_s) == (
        original.summary
    )
    assert msgspec.structs.replace(copied.delivery, start=original.delivery.start) == (
        original.delivery
    )
    assert copied.topics.partitions == original.topics.partitions
    assert Path(copied.model.file) == source.parent / original.model.file
    assert copied.model.name == (original.model.name or original.name)
    assert topics_of(copied).telemetry.name == "elsewhere"


def test_no_topic_of_the_original_is_touched(tmp_path) -> None:
    """Topics that the file names are somebody's: the copy has its own."""
    text = (EXAMPLES / "press" / "pipeline.toml").read_text("utf-8")
    source = tmp_path / "own.toml"
    source.write_text(text.replace("[topics]", '[topics]\npredictions = "theirs"\nlate = "too"'))
    copied = load_pipeline(copy_pipeline(source, tmp_path, "drill-1"))

    assert all(topic.name.startswith("headrace.drill-1.") for topic in topics_of(copied).all())


def test_a_file_that_is_none(tmp_path) -> None:
    """One line, as everywhere."""
    with pytest.raises(PipelineFileError, match=r"reading pipeline file .* failed"):
        copy_pipeline(tmp_path / "none.toml", tmp_path, "drill-1")


def test_a_copy_has_no_intake(tmp_path) -> None:
    """The drill's events have their device's key, and no worker of that stage runs."""
    text = (EXAMPLES / "press" / "pipeline.toml").read_text("utf-8")
    folder = tmp_path / "press"
    shutil.copytree(EXAMPLES / "press", folder)
    source = folder / "pipeline.toml"
    source.write_text(text.replace("[input]\n", "[input]\nrekey = true\n"), "utf-8")

    assert topics_of(load_pipeline(source)).keyed is not None
    assert topics_of(load_pipeline(copy_pipeline(source, tmp_path, "drill-1"))).keyed is None
