"""The device registry: a CSV text to attributes, or one line that says what is wrong."""

from __future__ import annotations

import pytest

from headrace.enrichers.registry import parse_registry
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.input import Devices

DEVICES = Devices(file="devices.csv", columns=("line", "kind"))


def test_columns_are_found_by_name() -> None:
    """Columns may stand anywhere, extra ones are ignored, an empty cell is unknown."""
    text = 'kind,note,device_id,line\npress,"a, b",d1,north\n\n,x,d2,south\n'
    found = parse_registry(text, DEVICES).attributes(["d2", "d1", "d3"])

    assert found == {"line": ["south", "north", "other"], "kind": ["other", "press", "other"]}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no column 'device_id', found none"),
        ("device_id,line\n", "no column 'kind'"),
        ("device_id,line,kind\nd1,a\n", "line 2 .* has 2 fields, expected 3"),
        ("device_id,line,kind\nd1,a,b\nd1,a,b\n", "line 3 .* repeats an entity"),
    ],
)
def test_a_broken_file_is_refused(text: str, match: str) -> None:
    """What is wrong is named with its line, never with a device's name."""
    with pytest.raises(PipelineFileError, match=match):
        parse_registry(text, DEVICES)
