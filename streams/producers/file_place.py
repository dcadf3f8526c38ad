"""How far a file was sent, kept beside it: a replay goes on where the one before stopped."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from headrace.schemas.errors import SettingsError

HEAD_BYTES = 4_096


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a file: everything before it is acknowledged.

    Attributes:
        end: Where the next row begins: bytes, or rows in a Parquet file.
        number: Of the last row before it.
        head: Digest of the file's beginning, by which it is recognised.
        head_bytes: How much of it.
        topic: Where its events went.
    """

    end: int = 0
    number: int = 0
    head: str
    head_bytes: int
    topic: str


def load_place(kept: Path, file: Path, topic: str) -> Place:
    """The place that `kept` holds, or the file's beginning where it is not there.

    Raises:
        SettingsError: it is of another file or topic, or unreadable. Fatal.
    """
    try:
        text = kept.read_bytes()
    except FileNotFoundError:
        size = min(HEAD_BYTES, file.stat().st_size)
        return Place(head=_head(file, size), head_bytes=size, topic=topic)
    except OSError as error:
        raise SettingsError(
            f"reading the place {str(kept)!r} failed: {error.strerror}; name a file that can be "
            "read and written"
        ) from error
    try:
        place = msgspec.json.decode(text, type=Place)
    except msgspec.DecodeError as error:
        raise SettingsError(
            f"reading the place {str(kept)!r} found none; name another file, or delete it"
        ) from error
    if place.head != _head(file, place.head_bytes) or place.topic != topic:
        raise SettingsError(
            f"the place {str(kept)!r} is of another file or topic than {str(file)!r} and {topic}; "
            "name another, or delete it to begin anew"
        )
    return place


def save_place(kept: Path, place: Place) -> None:
    """Write it whole or not at all.

    Raises:
        SettingsError: it cannot be written. Fatal.
    """
    new = kept.with_name(kept.name + ".new")
    try:
        with new.open("wb") as out:
            out.write(msgspec.json.encode(place))
            out.flush()
            os.fsync(out.fileno())
        new.replace(kept)
    except OSError as error:
        raise SettingsError(
            f"writing the place {str(kept)!r} failed: {error.strerror}; name a file in a folder "
            "that can be written"
        ) from error


def _head(file: Path, size: int) -> str:
    with file.open("rb") as begin:
        return hashlib.blake2b(begin.read(size), digest_size=16).hexdigest()
