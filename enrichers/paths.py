"""A struct type made from paths: decoding builds what the paths name and skips the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import astuple, fields

from headrace.schemas.errors import PipelineFileError

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

NUMBER: Any = float | None
"""A metric: a JSON number, integers included; a boolean is no number."""
TEXT: Any = str | Int64 | None
"""An identifier: text, or the integer some devices use instead."""
LABEL: Any = str | Int64 | float | bool | None
STAMP: Any = Int64 | float | None
"""A numeric time."""
WORD: Any = str | None


def text_of(value: Any) -> str:
    """A value of a `TEXT` leaf as text; empty where it is no identifier.

    Example:
        >>> text_of("F-1"), text_of(211234567), text_of(True), text_of(None)
        ('F-1', '211234567', '', '')
    """
    if type(value) is str:
        return value
    return str(value) if type(value) is int else ""


class Shape:
    """A msgspec struct type whose leaves are the given paths, and readers of its columns.

    Unknown fields are skipped without being built, so bytes inside them are not checked beyond
    JSON's own structure. Every leaf is optional: absent numbers are NaN, anything else is None.
    The structs are kept out of the cyclic garbage collector, which they can never need.

    Args:
        leaves: JSON path, dots between the names of nested objects, to its type.

    Raises:
        PipelineFileError: a path is both a value and an object. Fatal.
    """

    def __init__(self, leaves: Mapping[str, Any]) -> None:
        self._attributes: dict[str, str] = {}
        self._nodes: dict[str, type[msgspec.Struct]] = {}
        self.type = self._build("", "", leaves)

    def __contains__(self, path: str) -> bool:
        return path in self._attributes

    def node(self, path: str) -> type[msgspec.Struct]:
        """The struct type of the object at `path`."""
        return self._nodes[path]

    def attribute(self, path: str) -> str:
        """Attribute chain of a leaf or object, from the root struct."""
        return self._attributes[path]

    def reader(self, path: str) -> Callable[[list[Any]], Iterator[Any]]:
        """A function from decoded events to the values at `path`, one each."""
        get = attrgetter(self._attributes[path])
        return lambda events: map(get, events)

    def table(self, paths: list[str]) -> Callable[[list[Any]], Iterator[Any]] | None:
        """A function from decoded events to the values at `paths`, all those of one event in turn.

        A third of the time that a reader for each path takes; only where the paths are all that
        one object holds, in this order, which is how most devices send metrics. Else None.
        """
        parents = {path.rpartition(".")[0] for path in paths}
        parent = parents.pop() if len(parents) == 1 else ""
        if parent not in self._nodes or self._fields(parent) != paths:
            return None
        get = attrgetter(self._attributes[parent])
        return lambda events: chain.from_iterable(map(astuple, map(get, events)))

    def _fields(self, parent: str) -> list[str]:
        """Paths of what the object at `parent` holds, in the order of its struct."""
        return [f"{parent}.{f.encode_name}" for f in fields(self._nodes[parent])]

    def _build(self, path: str, attribute: str, leaves: Mapping[str, Any]) -> type[msgspec.Struct]:
        below: dict[str, dict[str, Any]] = {}
        here: dict[str, Any] = {}
        for leaf, kind in leaves.items():
            head, dot, rest = leaf.partition(".")
            if dot:
                below.setdefault(head, {})[rest] = kind
            else:
                here[head] = kind
        _refuse_both(path, here.keys() & below.keys())
        members: list[tuple[str, Any, Any]] = []
        rename: dict[str, str] = {}
        for number, (key, kind) in enumerate([*here.items(), *below.items()]):
            name = f"f{number}"
            inner = f"{path}.{key}" if path else key
            self._attributes[inner] = f"{attribute}.{name}" if attribute else name
            rename[name] = key
            if key in here:
                members.append((name, kind, float("nan") if kind is NUMBER else None))
            else:
                struct = self._build(inner, self._attributes[inner], kind)
                self._nodes[inner] = struct
                members.append((name, struct, msgspec.field(default_factory=struct)))
        return msgspec.defstruct(f"Object_{path or 'root'}", members, rename=rename, gc=False)


def _refuse_both(path: str, both: Iterable[str]) -> None:
    for key in sorted(both):
        found = f"{path}.{key}" if path else key
        raise PipelineFileError(
            f"[input] names {found!r} as a value and as an object, expected one of them; "
            "correct the path"
        )


def merge_leaves(leaves: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Paths to types, where a path named twice takes what both accept.

    Raises:
        PipelineFileError: a path is a metric or a time as well as something else. Fatal.

    Example:
        >>> merge_leaves([("site", WORD), ("site", WORD)]) == {"site": WORD}
        True
    """
    merged: dict[str, Any] = {}
    for path, kind in leaves:
        known = merged.setdefault(path, kind)
        if known is kind:
            continue
        if NUMBER in (known, kind) or STAMP in (known, kind):
            raise PipelineFileError(
                f"[input] uses the path {path!r} for values of two types, expected one; "
                "give one of them another path"
            )
        merged[path] = known | kind
    return merged
