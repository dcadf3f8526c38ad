"""A drill's own copy of a pipeline file: the same flow under a name and topics of its own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from headrace.schemas.errors import PipelineFileError

KEPT_HOURS = 1.0
"""Retention of a drill's topics: on a bus that is not its own they are empty after that."""

ANY_SKEW_S = 1e9
"""A drill's event times are fixed, so a device's clock may be wrong by any amount."""

NEVER_IDLE_S = 1e9
"""How long a fault holds up the load is no fact of the log: no window is to close by it."""


def copy_pipeline(
    source: Path,
    folder: Path,
    name: str,
    *,
    telemetry: str | None = None,
    mode: str | None = None,
) -> Path:
    """Write the copy of a pipeline file that a drill runs.

    Files that it names are read where they are. Everything that decides about features, scores and
    delivery stays; name, topics, start, the allowed clock skew and the silence after which windows
    close are the drill's, and there is no intake.

    Args:
        source: The pipeline file, which is valid.
        folder: Where the copy goes, as ``<name>.toml``.
        name: A name that is new to bus and store.
        telemetry: Topic to read instead of one of its own.
        mode: Delivery mode instead of the file's.

    Raises:
        PipelineFileError: `source` cannot be read. Fatal.
    """
    try:
        tree = tomllib.loads(source.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PipelineFileError(f"reading pipeline file {str(source)!r} failed: {error}") from error
    # A model without a name is called as its pipeline; predictions of two copies are compared.
    tree["model"].setdefault("name", tree["name"])
    tree["name"] = name
    tree["input"]["max_skew_s"] = ANY_SKEW_S
    tree["input"].pop("rekey", None)  # the drill's events have their device's key already
    tree.setdefault("summary", {})["idle_s"] = NEVER_IDLE_S
    partitions = tree.get("topics", {}).get("partitions")
    hours = dict.fromkeys(("raw_hours", "derived_hours", "central_hours"), KEPT_HOURS)
    wanted = {"partitions": partitions, "telemetry": telemetry, **hours}
    tree["topics"] = {key: value for key, value in wanted.items() if value is not None}
    tree.setdefault("delivery", {})["start"] = "earliest"
    if mode is not None:
        tree["delivery"]["mode"] = mode
    for table, key in (("model", "file"), ("model", "golden"), ("devices", "file")):
        if key in tree.get(table, {}):
            tree[table][key] = str((source.parent / tree[table][key]).absolute())
    file = folder / f"{name}.toml"
    file.write_text("".join(f"{_key(k)} = {as_toml(v)}\n" for k, v in tree.items()), "utf-8")
    return file


def as_toml(value: Any) -> str:
    """A TOML value on one line: what `tomllib` reads of it is equal.

    Args:
        value: Text, number, boolean, list or mapping of such.

    Example:
        >>> as_toml({"op": "raw", "metrics": ["*"], "window_s": 1e9})
        '{"op" = "raw", "metrics" = ["*"], "window_s" = 1000000000.0}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    # JSON's scalars are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return as_toml(name)
