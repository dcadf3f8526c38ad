"""Keep one core busy for a while; run as a program, so it imports the standard library only.

``python burn.py SECONDS SHARE CORE PARENT``: `SHARE` of every 20 ms, on core `CORE` (-1: any),
until the time is over or the process `PARENT` is no longer its parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time

SLICE_S = 0.02


def burn(seconds: float, share: float, parent: int) -> None:
    """Be busy for `share` of each slice; returns after `seconds`, or when `parent` has died."""
    start_s = time.monotonic()
    end_s = start_s + seconds
    while start_s < end_s and os.getppid() == parent:
        while time.monotonic() < start_s + share * SLICE_S:
            pass
        start_s += SLICE_S
        time.sleep(max(0.0, start_s - time.monotonic()))


def pin(core: int) -> None:
    """Stay on one core, where the system can do that."""
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    pin(int(sys.argv[3]))
    burn(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[4]))
