"""How a snapshot looks in bytes: a head, the state in pieces, and a digest of all of it.

HRS1                                   format
uint32 little-endian length, content   the head, as MessagePack
uint32 little-endian length, content   a piece: names and values in turn, as MessagePack; again
uint32 0                               no more pieces
16 bytes                               BLAKE2b of everything before
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

import msgspec

from headrace.feature_store.pieces import pieces
from headrace.schemas.protocols import CheckpointMeta, Fields

_MAGIC = b"HRS1"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 16
_LONGEST_BYTES = 64 << 20
"""Of one piece; a piece holds more than its bound only where a single field does."""

_encode = msgspec.msgpack.encode


class SnapshotHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself.

    Attributes:
        pipeline: Whose state it is.
        key: Checkpoint key: stage, topic and partition.
        created_ms: When it was written, milliseconds since 1970.
        meta: What the checkpoint says of itself.
    """

    pipeline: str
    key: str
    created_ms: int
    meta: CheckpointMeta


def encode_snapshot(head: SnapshotHead, fields: Fields) -> Iterator[bytes]:
    """The snapshot's bytes, piece by piece; `fields` is read once and never held whole.

    Delivery: pure.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in _parts(head, fields):
        digest.update(part)
        yield part
    yield digest.digest()


def _parts(head: SnapshotHead, fields: Fields) -> Iterator[bytes]:
    yield _MAGIC + _framed(_encode(head))
    for piece in pieces(fields):
        yield _framed(_encode(piece))
    yield _LENGTH.pack(0)


def _framed(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


def decode_snapshot(chunks: Iterable[bytes]) -> tuple[SnapshotHead, Iterator[tuple[bytes, bytes]]]:
    """Head and fields of a snapshot, from its bytes in chunks of any size.

    The fields are proved only when the iterator has come to its end: use none of them for good
    before that.

    Raises:
        ValueError: damaged, cut short, or no snapshot; from here or from the iterator.

    Delivery: pure.
    """
    stream = _Stream(chunks)
    if stream.take(len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin with HRS1")
    try:
        head = msgspec.msgpack.decode(stream.frame(), type=SnapshotHead)
    except msgspec.DecodeError as error:
        raise ValueError(f"its head cannot be read: {error}") from error
    return head, _fields(stream)


def _fields(stream: _Stream) -> Iterator[tuple[bytes, bytes]]:
    while content := stream.frame():
        try:
            piece = msgspec.msgpack.decode(content, type=list[bytes])
        except msgspec.DecodeError as error:
            raise ValueError(f"a piece cannot be read: {error}") from error
        yield from zip(piece[::2], piece[1::2], strict=True)
    found = stream.digest.digest()
    if stream.take(_DIGEST_BYTES) != found:
        raise ValueError("its digest is another one")
    stream.end()


class _Stream:
    """Bytes to take from, counted into a digest as they go."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._chunks = iter(chunks)
        self._held = bytearray()

    def take(self, count: int) -> bytes:
        while len(self._held) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise ValueError("it is cut short")
            self._held += chunk
        taken = bytes(self._held[:count])
        del self._held[:count]
        self.digest.update(taken)
        return taken

    def frame(self) -> bytes:
        (count,) = _LENGTH.unpack(self.take(_LENGTH.size))
        if count > _LONGEST_BYTES:
            raise ValueError("a piece has an impossible length")
        return self.take(count)

    def end(self) -> None:
        if self._held or any(self._chunks):
            raise ValueError("it goes on after its end")
