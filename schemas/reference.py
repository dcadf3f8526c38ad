"""The pipeline file's reference page: ``python -m headrace.schemas.reference``."""

from __future__ import annotations

import sys
from typing import Any

from headrace.schemas.jsonschema import standalone
from headrace.schemas.pipeline import Pipeline

_HEAD = """# The pipeline file

Written by `python -m headrace.schemas.reference` from the structs in `schemas/`; change those, not
this page. An unknown key is an error that names the nearest known one. Units are in the names:
`_s` seconds, `_ms` milliseconds, `_bytes`, `_rows`, `_hours`.
"""

_SECTIONS = {
    "Pipeline": "The file",
    "Input": "[input]",
    "Metric": "[input.metrics.NAME]",
    "Attribute": "[input.attributes.NAME]",
    "Devices": "[devices]",
    "View": "[views.NAME]",
    "Feature": "An entry of `features`",
    "Model": "[model]",
    "Outputs": "[model.outputs]",
    "Serving": "[serving]",
    "Summary": "[summary]",
    "Topics": "[topics]",
    "Delivery": "[delivery]",
    "Observe": "[observe]",
    "Drift": "[observe.drift]",
    "Objectives": "[slo]",
    "Objective": "[slo.site.NAME], [slo.core.NAME]",
    "Canary": "[canary]",
}


def page() -> str:
    """The whole page, Markdown."""
    definitions: dict[str, Any] = standalone(Pipeline, "pipeline")["$defs"]
    return "\n".join([_HEAD, *(_section(n, definitions[n]) for n in _SECTIONS)])


def _section(name: str, definition: dict[str, Any]) -> str:
    required = definition.get("required", [])
    rows = [
        f"| `{field}` | {_kind(spec)} | {_default(field, spec, required)} | {_text(spec)} |"
        for field, spec in definition["properties"].items()
    ]
    head = f"## {_SECTIONS[name]}\n\n{definition.get('description', '')}\n"
    return "\n".join([head, "| field | is | default | meaning |", "|---|---|---|---|", *rows, ""])


def _kind(spec: dict[str, Any]) -> str:
    if "anyOf" in spec:
        return _kind(next(s for s in spec["anyOf"] if s.get("type") != "null"))
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"])
    if "$ref" in spec:
        return f"table, see {_SECTIONS.get(spec['$ref'].rpartition('/')[2], 'below')}"
    kind = {"object": "table", "array": "list"}.get(spec.get("type", ""), spec.get("type", "any"))
    bounds = [
        f"{sign} {spec[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in spec
    ]
    return " ".join([kind, *bounds])


def _default(field: str, spec: dict[str, Any], required: list[str]) -> str:
    if field in required:
        return "required"
    default = spec.get("default")
    if default is None or default in ({}, [], (), ""):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "see there" if isinstance(default, dict) else f"`{default}`"


def _text(spec: dict[str, Any]) -> str:
    return str(spec.get("description", "")).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
