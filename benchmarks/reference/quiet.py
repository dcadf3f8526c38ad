"""Whether the machine had anything else to do; figures of a busy one are not for comparing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOOK_S = 1.0
QUIET_CORES = 0.3
"""Cores that may be busy on a machine that counts as quiet: services at rest, a shell."""


def busy_cores(seconds: float = LOOK_S) -> float:
    """Cores in use just now, watched for so long; unlike the load it forgets what has ended."""
    began, used = time.monotonic(), _used_s()
    time.sleep(seconds)
    return round((_used_s() - used) / (time.monotonic() - began), 2)


def _used_s() -> float:
    """CPU time that all cores have spent on anything, seconds."""
    line = Path("/proc/stat").read_text("ascii").partition("\n")[0]
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def disturbed(measured: dict[str, Any], parts: Iterable[str]) -> list[str]:
    """Which of these parts began on a machine that was not quiet.

    Args:
        measured: What the report says of the moment before each part.
        parts: Parts to look at.

    Example:
        >>> disturbed({"sides": {"busy_cores_before": 0.1}, "latency": {"load_before": 4.0}},
        ...           ["sides", "latency", "memory"])
        ['latency']
    """
    found = []
    for part in parts:
        before = measured.get(part, {})
        # Reports from before the cores were watched have the one-minute load only.
        if before.get("busy_cores_before", before.get("load_before", 0.0)) > QUIET_CORES:
            found.append(part)
    return found
