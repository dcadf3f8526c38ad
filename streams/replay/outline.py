"""How a JSON object is laid out, so that others can be known to be laid out alike."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

_TOKEN = re.compile(rb'(?P<text>"[^"]*")|(?P<number>-?[0-9][0-9.]*)|true|false|null|[{}:,]| +')
_DEEPEST = 64


class Piece(NamedTuple):
    """What lies between two commas: a literal head, at most one value, a literal tail.

    Attributes:
        path: Path of the value, dots between the names of nested objects; None: nothing varies.
        is_text: The value is a text; else a number.
        head: What is before the value, a text's quote included; all of it where nothing varies.
        tail: What is after it.
    """

    path: str | None
    is_text: bool
    head: bytes
    tail: bytes


class Outline(NamedTuple):
    """The pieces of an object, and what is where in it.

    Attributes:
        pieces: In order.
        objects: Paths of the objects in it.
        scalars: Paths of texts, numbers and constants.
    """

    pieces: tuple[Piece, ...]
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
        self._begin = 0
        self._found: tuple[str | None, bool, int, int] = _NOTHING
        self.pieces: list[Piece] = []
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
            self._found = self._take(), is_text, start + is_text, stop - is_text
        elif sign == b"{":
            self._open()
        elif sign == b"}":
            del self._names[-1:]
        elif sign == b",":
            self.end_piece(start)
            self._begin = stop
        elif sign.isalpha():
            self._take()

    def end_piece(self, stop: int) -> None:
        """A comma, or the end."""
        path, is_text, start, end = self._found
        if path is None:
            start = end = stop
        head, tail = self._value[self._begin : start], self._value[end:stop]
        self.pieces.append(Piece(path, is_text, head, tail))
        self._found = _NOTHING

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


_NOTHING = None, False, 0, 0


def _is_object(value: bytes) -> bool:
    try:
        is_object = isinstance(msgspec.json.decode(value), dict)
    except (ValueError, RecursionError):
        return False
    return is_object and value.count(b"{") <= _DEEPEST


def outline_of(value: bytes) -> Outline | None:
    r"""The outline of one record; None where it is no object of texts, numbers and objects.

    Arrays, escapes, exponents, names with dots and names that come twice have none.

    Args:
        value: ASCII without control characters and backslashes.

    Example:
        >>> outline = outline_of(b'{"id":"a","at":{"t":12.5},"ok":true}')
        >>> [piece[0] for piece in outline.pieces]
        ['id', 'at.t', None]
        >>> outline.pieces[1]
        Piece(path='at.t', is_text=False, head=b'"at":{"t":', tail=b'}')
    """
    if not _is_object(value):
        return None
    scan, at = _Scan(value), 0
    while at < len(value):
        token = _TOKEN.match(value, at)
        if token is None:
            return None
        at = token.end()
        scan.token(token)
    scan.end_piece(at)
    if not scan.is_plain:
        return None
    return Outline(tuple(scan.pieces), frozenset(scan.objects), frozenset(scan.seen - scan.objects))
