"""The W3C trace header of an event."""

from __future__ import annotations

import os
import re

TRACEPARENT = "traceparent"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def new_traceparent() -> str:
    """A sampled trace that begins here.

    Source: W3C Trace Context, level 1, version 00.
    """
    text = os.urandom(24).hex()
    return f"00-{text[:32]}-{text[32:]}-01"


def is_traceparent(text: str) -> bool:
    """Whether `text` is a traceparent of version 00.

    Example:
        >>> is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        True
        >>> is_traceparent("00-00000000000000000000000000000000-b7ad6b7169203331-01")
        False
    """
    return _FORM.fullmatch(text) is not None


def is_sampled(text: str) -> bool:
    """Whether `text` is a traceparent whose trace is kept.

    Example:
        >>> is_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
        False
    """
    return is_traceparent(text) and bool(int(text[-2:], 16) & 1)
