"""Freed memory, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> bool:
    """Give the pages of freed memory back; whether any were. Takes milliseconds.

    glibc keeps what a burst or the backlog of an outage needed: in twenty minutes of faults each
    worker grew in steps of 10 to 40 MiB that it never needed again. Elsewhere nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return trim is not None and bool(trim(0))
