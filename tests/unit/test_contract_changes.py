"""A change of a contract that breaks whoever keeps to the old one fails here.

`tests/golden/contracts.json` holds every field of each contract as version 1 has it, with its type,
and ``!`` where it must be there. Fields may be added. What others write (events, files) may never
need more than it did; what others read (predictions, summaries, headers) may never hold less. A
change that is meant to break gets a new version of its topic, and then new lines there.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from headrace.schemas.generate import contents

GOLDEN: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parents[1] / "golden" / "contracts.json").read_text("utf-8")
)
SCHEMAS = {name.removesuffix(".json"): json.loads(text) for name, text in contents().items()}
WRITTEN_BY_OTHERS = ("event", "pipeline", "settings")
READ_BY_OTHERS = ("prediction", "summary", "deadletter-headers")


def fields(schema: dict[str, Any]) -> dict[str, str]:
    """Path of every field to its type; of a field that must be there, ``!`` after its type."""
    found: dict[str, str] = {}

    def walk(node: dict[str, Any], path: str, seen: tuple[str, ...]) -> str:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in seen:
                walk(schema["$defs"][name], path, (*seen, name))
            return "object"
        if "anyOf" in node:
            return "|".join(sorted(walk(one, path, seen) for one in node["anyOf"]))
        for name, one in node.get("properties", {}).items():
            must = "!" if name in node.get("required", ()) else ""
            found[f"{path}.{name}"] = walk(one, f"{path}.{name}", seen) + must
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                return f"{node['type']} of {walk(node[key], f'{path}.*', seen)}"
        values = [str(value) for value in node.get("enum", ())]
        return " ".join((str(node.get("type", "any")), *sorted(values)))

    walk(schema, "", ())
    return found


def breaks(name: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What whoever keeps to `old` would stumble over in `new`."""
    said = [f"{path} is gone" for path in old if path not in new]
    for path in old.keys() & new.keys():
        was, now = (set(re.split("[ |]", kind[path].removesuffix("!"))) for kind in (old, new))
        if not (was <= now if name in WRITTEN_BY_OTHERS else now <= was):
            said.append(f"{path} was {old[path]!r} and is {new[path]!r}")
    if name in READ_BY_OTHERS:
        weak = [path for path in old.keys() & new.keys() if old[path][-1] == "!" != new[path][-1]]
        return said + [f"{path} may be missing now" for path in weak]
    for path, kind in new.items():
        inside = path.rpartition(".")[0]
        asked = kind[-1] == "!" and (path in old or not inside or inside in old)
        if asked and old.get(path, "")[-1:] != "!":
            said.append(f"{path} must be there now")
    return said


@pytest.mark.parametrize("name", [*WRITTEN_BY_OTHERS, *READ_BY_OTHERS])
def test_nobody_who_keeps_to_the_first_version_is_broken(name: str) -> None:
    """Every field that was there is there, of its type; nothing more is asked of who writes."""
    assert breaks(name, GOLDEN[name], fields(SCHEMAS[name])) == []


def changed(name: str, change: str) -> dict[str, Any]:
    """A contract with one change."""
    schema = copy.deepcopy(SCHEMAS[name])
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if change == "a field more":
        root["properties"]["more"] = {"type": "string"}
    elif change == "a field less":
        root["properties"].popitem()
    elif change == "another type":
        root["properties"][root["required"][0]] = {"type": "array"}
    elif change == "a field that must be there":
        root["properties"]["more"] = {"type": "string"}
        root["required"] = [*root["required"], "more"]
    elif change == "a field that may be missing":
        root["required"] = root["required"][1:]
    return schema


@pytest.mark.parametrize(
    ("name", "change", "is_broken"),
    [
        ("prediction", "a field more", False),
        ("event", "a field more", False),
        ("prediction", "a field less", True),
        ("event", "a field less", True),
        ("prediction", "another type", True),
        ("event", "another type", True),
        ("prediction", "a field that must be there", False),
        ("event", "a field that must be there", True),
        ("prediction", "a field that may be missing", True),
        ("event", "a field that may be missing", False),
    ],
)
def test_a_breaking_change_is_told_from_one_that_is_none(
    name: str, change: str, is_broken: bool
) -> None:
    """Whoever writes is broken by what is asked more, whoever reads by what is there less."""
    now = fields(SCHEMAS[name])

    assert bool(breaks(name, now, fields(changed(name, change)))) is is_broken
