"""Where the values of a JSON object are, so that others can be known to be laid out alike."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

_TOKEN = re.compile(rb'(?P<text>"[^"]*")|(?P<number>-?[0-9][0-9.]*)|true|false|null|[{}:,]| +')
_DEEPEST = 64


class Slot(NamedTuple):
    """One value that varies.

    Attributes:
        path: Dots between the names of nested objects.
        is_text: It is a text, and what is meant is between its quotes; else a number.
        start: Its first byte.
        stop: The byte after its last.
    """

    path: str
    is_text: bool
    start: int
    stop: int


class Outline(NamedTuple):
    """What is where in an object.

    Attributes:
        slots: Its texts and numbers, in order.
        objects: Paths of the objects in it.
        scalars: Paths of texts, numbers and constants.
    """

    slots: tuple[Slot, ...]
    objects: frozenset[str]
    scalars: frozenset[str]

    def lacks(self, path: str) -> bool:
        """Whether `path` is plainly absent: nothing is there, and no scalar where it begins."""
        names = path.split(".")
        above = {".".join(names[:count]) for count in range(1, len(names))}
        return path not in self.objects | self.scalars and above.isdisjoint(self.scalars)


class _Scan:
    """Walks the tokens of one object."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._names: list[str] = []
        self._name: str | None = None
        self.slots: list[Slot] = []
        self.seen: set[str] = set()
        self.objects: set[str] = set()
        self.is_plain = True

    def token(self, token: re.Match[bytes]) -> None:
        start, stop = token.span()
        sign, is_text = token[0][:1], token["text"] is not None
        if is_text and self._value[stop:].lstrip(b" ").startswith(b":"):
            self._name = token[0][1:-1].decode("ascii")
            self.is_plain &= "." not in self._name and self._name != ""
        elif is_text or token["number"]:
            self.slots.append(Slot(self._take(), is_text, start + is_text, stop - is_text))
        elif sign == b"{":
            self._open()
        elif sign == b"}":
            del self._names[-1:]
        elif sign.isalpha():
            self._take()

    def _take(self) -> str:
        """The path of what comes here; nothing else may be there."""
        path = ".".join([*self._names, self._name or ""])
        self.is_plain &= path not in self.seen
        self.seen.add(path)
        return path

    def _open(self) -> None:
        if self._name is not None:
            self.objects.add(self._take())
            self._names.append(self._name)
            self._name = None


def _is_object(value: bytes) -> bool:
    try:
        is_object = isinstance(msgspec.json.decode(value), dict)
    except (ValueError, RecursionError):
        return False
    return is_object and value.count(b"{") <= _DEEPEST


def outline_of(value: bytes) -> Outline | None:
    r"""The outline of one record; None where it is no object of texts, numbers and objects.

    Arrays, escapes, exponents, names with dots and names that come twice have none.

    Example:
        >>> outline = outline_of(b'{"id":"a","at":{"t":12.5},"ok":true}')
        >>> outline.slots[1]
        Slot(path='at.t', is_text=False, start=20, stop=24)
        >>> outline.lacks("at.u"), outline.lacks("ok.u")
        (True, False)
    """
    if b"\\" in value or not value.isascii() or not _is_object(value):
        return None
    scan, at = _Scan(value), 0
    while at < len(value):
        token = _TOKEN.match(value, at)
        if token is None:
            return None
        at = token.end()
        scan.token(token)
    if not scan.is_plain:
        return None
    return Outline(tuple(scan.slots), frozenset(scan.objects), frozenset(scan.seen - scan.objects))
