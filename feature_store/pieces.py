"""A state cut into pieces, so that no single step of reading or writing it takes long."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.schemas.protocols import Fields

FIELDS_PER_PIECE = 1000
BYTES_PER_PIECE = 256 << 10
"""Bounds of one piece: under 2 ms of a store's time, and of the interpreter's."""


def pieces(fields: Fields) -> Iterator[list[bytes]]:
    """Names and values in turn, cut at the bounds of one piece.

    Example:
        >>> list(pieces([(b"a", b"1"), (b"b", b"2")]))
        [[b'a', b'1', b'b', b'2']]
    """
    piece: list[bytes] = []
    size = 0
    for name, value in fields:
        length = len(name) + len(value)
        if piece and (size + length > BYTES_PER_PIECE or len(piece) >= 2 * FIELDS_PER_PIECE):
            yield piece
            piece, size = [], 0
        piece += (name, value)
        size += length
    if piece:
        yield piece
