"""How one online row looks in bytes: a header that orders it, then its float64 columns.

    byte  0  float64 big-endian   when the row expires, server milliseconds; 0: the server knows
    byte  8  float64 big-endian   event time, milliseconds since 1970
    byte 16  float64 big-endian   epoch of the log
    byte 24  float64 big-endian   source offset
    byte 32  float64 little-endian, K columns

The header is in doubles because that is the only number a server-side Lua script has: every integer
up to 2**53 is exact in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.schemas.batch import F64, I64
from headrace.schemas.errors import FatalError
from headrace.schemas.protocols import OnlineAnswer, OnlineRows

HEADER_BYTES = 32
_HEADER = 4
_EXACT = 1 << 53


def row_bytes(width: int) -> int:
    """Bytes of one row of `width` columns.

    Example:
        >>> row_bytes(8)
        96
    """
    return HEADER_BYTES + 8 * width


def pack_rows(rows: OnlineRows, epoch: int) -> bytes:
    """All rows as one string, each `row_bytes` long, in the order of `rows`.

    Raises:
        FatalError: an event time, offset or epoch that a double cannot hold exactly.

    Delivery: pure.
    Cost: one array of n rows and one copy of it; nothing per row.
    """
    count, width = rows.values.shape
    _check_exact(rows.view, rows.event_times_ms, "event time")
    _check_exact(rows.view, rows.offsets, "offset")
    _check_exact(rows.view, np.array([epoch], np.int64), "epoch")
    packed = np.zeros((count, _HEADER + width), "<f8")
    header = packed.view(">f8")
    header[:, 1] = rows.event_times_ms
    header[:, 2] = epoch
    header[:, 3] = rows.offsets
    packed[:, _HEADER:] = rows.values
    return packed.tobytes()


def unpack_rows(
    packed: Sequence[bytes | None], *, width: int, ttl_s: float, now_ms: int
) -> OnlineAnswer:
    """What these packed rows say; n of them, None where there is no row.

    Not found are: None, a row of another width (written under another layout of the view), and a
    row whose event time is more than `ttl_s` seconds before `now_ms`.

    Delivery: pure.
    """
    size = row_bytes(width)
    held = [row if row is not None and len(row) == size else None for row in packed]
    found = np.array([row is not None for row in held], np.bool_)
    joined = b"".join([row for row in held if row is not None])
    table = np.frombuffer(joined, "<f8").reshape(-1, _HEADER + width)
    times = table.view(">f8")[:, 1].astype(np.int64)
    fresh = now_ms - times <= ttl_s * 1000.0
    found[found] = fresh
    answer = OnlineAnswer(found, np.zeros(len(held), np.int64), np.full((len(held), width), np.nan))
    answer.event_times_ms[found] = times[fresh]
    answer.values[found] = table[fresh, _HEADER:]
    return answer


def _check_exact(view: str, numbers: I64 | F64, what: str) -> None:
    if len(numbers) and (numbers.max() > _EXACT or numbers.min() < -_EXACT):
        raise FatalError(
            f"a row of view {view!r} has an {what} outside ±2**53, expected one that a double "
            f"holds exactly; check the unit of the pipeline's input"
        )
