"""What SUMMARIZE's two halves tell each other: parts of a window, and how far a partition has come.

Every partition of features writes its parts of a window and group to the one partition of the
partials topic, and behind them that it is past the window. Nothing of this leaves the site: parts
name every device and know no minimum group size.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Millis = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Count = Annotated[int, Meta(ge=0)]
Seen = tuple[float, int]
"""A device's highest score and its anomalies, in one window and group."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="part"):
    """What one partition knows of one window and group, or a piece of it.

    Attributes:
        layout: Digest of what the content hangs on: window length, groups, quantities.
        partition: Source partition.
        window_start_ms: Start of the tumbling window, milliseconds since 1970.
        group: Group.
        closes_ms: The part is whole once the partition is past the window that starts then: its
            own, or a later one where its rows came after their window was closed.
        piece: Number of the piece; those above 0 hold devices alone.
        rows: Predictions.
        anomalies: Those labelled anomalous.
        models: Model digest to predictions by it.
        running: Running moments of the score, then of each metric, 48 bytes each; empty in a piece
            above 0.
        bins: Bins of the same quantities; empty where quantiles are not asked for.
        devices: Devices, by name.
    """

    layout: str
    partition: Count
    window_start_ms: Millis
    group: Annotated[str, Meta(max_length=260)]
    closes_ms: Millis
    piece: Count = 0
    rows: Count = 0
    anomalies: Count = 0
    models: dict[str, Count] = {}
    running: bytes = b""
    bins: bytes = b""
    devices: dict[str, Seen] = {}


class Passed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="passed"):
    """One partition is past a window: what it has of it stands before this record.

    Attributes:
        layout: As of a part.
        partition: Source partition.
        over_ms: Start of the last window that it is past, milliseconds since 1970.
        after_ms: That of the last one before: between both it has nothing but what stands here.
        quiet: It rests and has no window open: nobody waits for it until it says something else.
    """

    layout: str
    partition: Count
    over_ms: Millis
    after_ms: Millis = -(2**62)
    quiet: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Part | Passed] = msgspec.msgpack.Decoder(Part | Passed)


def encode_partial(record: Part | Passed) -> bytes:
    """The record as MessagePack, the same bytes for equal records with devices in equal order."""
    return _encoder.encode(record)


def decode_partial(value: bytes) -> Part | Passed:
    """What `encode_partial` gave.

    Raises:
        ValueError: it is neither.

    Example:
        >>> decode_partial(encode_partial(Passed(layout="l", partition=3, over_ms=10, after_ms=0)))
        Passed(layout='l', partition=3, over_ms=10, after_ms=0, quiet=False)
    """
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("it is neither a part of a window nor how far a partition is") from error
