"""CPU time and memory of a side: of the processes it was started as and all their descendants."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What a tree of processes uses.

    Attributes:
        cpu_s: CPU time of its living processes and of the children they waited for, seconds.
        rss_mb: Resident memory of each living process, MiB, by its id.
    """

    cpu_s: float
    rss_mb: dict[int, float]


def usage(roots: Iterable[int]) -> Usage:
    """Usage of the processes `roots` and of everything they started."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)) is not None:
            found[int(entry.name)] = fields
    tree = set(roots) & found.keys()
    grown = True
    while grown:
        children = {pid for pid, fields in found.items() if int(fields[1]) in tree} - tree
        tree |= children
        grown = bool(children)
    ticks = sum(sum(map(int, found[pid][11:15])) for pid in tree)
    page = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return Usage(
        ticks / os.sysconf("SC_CLK_TCK"), {pid: int(found[pid][21]) * page for pid in sorted(tree)}
    )


def command_line(pid: int) -> str:
    """How a process was started; empty where it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _stat(entry: Path) -> list[str] | None:
    """The fields of a process from its state on; None where it has just gone."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
