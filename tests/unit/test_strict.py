"""Unknown keys are refused with the nearest known key of the place they stand in."""

from __future__ import annotations

import msgspec
import pytest

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.strict import convert

PIPELINE = {
    "name": "p",
    "input": {"metrics": {"load": {}}},
    "views": {"now": {"features": [{"op": "raw", "metrics": ["load"]}]}},
    "model": {"file": "m.onnx"},
}


def with_key(place: tuple[str | int, ...], key: str) -> dict[str, object]:
    """The pipeline above with one key more at `place`."""
    tree = msgspec.json.decode(msgspec.json.encode(PIPELINE))
    node = tree
    for step in place:
        node = node[step]
    node[key] = 1
    return tree


@pytest.mark.parametrize(
    ("place", "key", "nearest"),
    [
        ((), "modell", "model"),
        (("input",), "alowed_lateness_s", "allowed_lateness_s"),
        (("input", "metrics", "load"), "minn", "min"),
        (("views", "now"), "ttl", "ttl_s"),
        (("views", "now", "features", 0), "windows_s", "window_s"),
        (("model",), "goldn", "golden"),
    ],
)
def test_the_nearest_key_of_the_right_place_is_named(place, key, nearest) -> None:
    """However deep: the hint comes from the struct the key stands in."""
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'") as raised:
        convert(with_key(place, key), Pipeline)

    assert key in str(raised.value)


def test_the_tree_itself_is_right() -> None:
    """Without the extra key nothing is refused."""
    assert convert(PIPELINE, Pipeline).name == "p"
