"""JSON Schema of our structs, described by their docstrings."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_UNITS = {"_ms": "ms", "_s": "s", "_bytes": "By", "_rows": "{row}", "_hours": "h"}
"""UCUM unit by the end of a field's name: names carry units everywhere."""

_ATTRIBUTES = re.compile(r"^Attributes:\n(?P<body>(?: {4}.*\n?|\n)+)", re.MULTILINE)
_FIELD = re.compile(r"^ {4}(?P<name>\w+): (?P<text>.*(?:\n {6,}.*)*)", re.MULTILINE)


def standalone(kind: type[msgspec.Struct], name: str) -> Schema:
    """A schema document of its own for one struct.

    Args:
        kind: The struct.
        name: What it is called; part of its ``$id``.
    """
    definitions = components([kind], "#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "$id": f"urn:headrace:{name}:v1",
        "$ref": f"#/$defs/{kind.__name__}",
        "$defs": definitions,
    }


def components(kinds: Iterable[type[msgspec.Struct]], ref_template: str) -> dict[str, Schema]:
    """Schemas of structs and of all structs in them, by class name.

    Args:
        kinds: The structs.
        ref_template: Where one refers to another, with ``{name}``.

    Raises:
        ValueError: two different structs have one name, which would merge their schemas.
    """
    roots = list(kinds)
    known: dict[str, type[msgspec.Struct]] = {}
    for kind in _structs(roots):
        if known.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(f"two structs are called {kind.__name__!r}; rename one of them")
    _, schemas = msgspec.json.schema_components(roots, ref_template=ref_template)
    for name, schema in schemas.items():
        _describe(schema, known[name])
    return dict(sorted(schemas.items()))


def _structs(kinds: Iterable[Any]) -> Iterator[type[msgspec.Struct]]:
    """Every struct that can be reached from these types."""
    seen: set[Any] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in seen:
                seen.add(kind)
                yield kind
                waiting += [field.type for field in msgspec.structs.fields(kind)]
        else:
            waiting += typing.get_args(kind)


def _describe(schema: Schema, kind: type[msgspec.Struct]) -> None:
    """Put a struct's docstring, and those of its fields, into its schema."""
    text, fields = documented(kind)
    schema["description"] = text
    for name, field in schema.get("properties", {}).items():
        if name in fields:
            field["description"] = fields[name]
        for ending, unit in _UNITS.items():
            if name.endswith(ending):
                field["x-unit"] = unit
                break


def documented(kind: type) -> tuple[str, dict[str, str]]:
    """A class's docstring: what comes before ``Attributes``, and the text of each attribute.

    Attributes of base classes are included. Markup of code is dropped.

    Example:
        >>> class Box:
        ...     '''A box.
        ...
        ...     Attributes:
        ...         width_mm: Inner width,
        ...             millimetres.
        ...     '''
        >>> documented(Box)
        ('A box.', {'width_mm': 'Inner width, millimetres.'})
    """
    fields: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        section = _ATTRIBUTES.search(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
        if section:
            found = _FIELD.finditer(section["body"])
            fields |= {field["name"]: _plain(field["text"]) for field in found}
    text = inspect.cleandoc(kind.__doc__ or "")
    return _plain(_ATTRIBUTES.sub("", text)), fields


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
