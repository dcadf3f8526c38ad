"""Turn an untyped tree (TOML, environment) into a struct; an unknown key names the nearest one."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `(?P<path>[^`]*)`)?")


def nearest(unknown: str, known: Iterable[str]) -> str:
    """What to add to a message about an unknown name.

    Example:
        >>> nearest("alowed_lateness_s", ["allowed_lateness_s", "time"])
        "; did you mean 'allowed_lateness_s'?"
        >>> nearest("zzz", ["allowed_lateness_s", "time"])
        '; known are: allowed_lateness_s, time'
    """
    names = sorted(known)
    close = difflib.get_close_matches(unknown, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(names)}"


def convert(tree: Any, kind: type[T], *, coerce: bool = False) -> T:
    """`tree` as a `kind`.

    Args:
        tree: Dicts, lists and scalars.
        kind: A struct type whose fields may be structs, lists and dicts of structs.
        coerce: Accept strings for numbers and booleans, as an environment gives them.

    Raises:
        ValueError: with one line that names the place, what was found and the nearest known key.
    """
    try:
        return msgspec.convert(tree, kind, strict=not coerce)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}{_hint(str(error), kind)}") from error


def _hint(message: str, kind: Any) -> str:
    found = _UNKNOWN.search(message)
    if found is None:
        return ""
    place = kind
    for step in re.findall(r"\.([A-Za-z_]\w*)|\[(\.\.\.|\d+)\]", found["path"] or ""):
        place = _child(place, step[0])
    if not (isinstance(place, type) and issubclass(place, msgspec.Struct)):
        return ""
    return nearest(found["key"], [f.encode_name for f in msgspec.structs.fields(place)])


def _child(kind: Any, field: str) -> Any:
    """The type of a struct's field, or of a container's elements when `field` is empty."""
    kind = _bare(kind)
    if not field:
        return _bare([a for a in typing.get_args(kind) if a is not ...][-1])
    known = {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
    return _bare(known.get(field))


def _bare(kind: Any) -> Any:
    """A type without its `Annotated` and its `| None`."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    options = typing.get_args(kind)
    if type(None) in options:
        kind = next(o for o in options if o is not type(None))
    return kind
