"""CPU time of one process, thread by thread."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAIN = "main"
NATIVE = "native"
"""Threads that a library made without Python, which bear the program's name."""


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds, in the program and in the kernel on its behalf.

    Example:
        >>> Cpu(3.0, 1.0) - Cpu(1.0, 0.5)
        Cpu(user_s=2.0, system_s=0.5)
    """

    user_s: float = 0.0
    system_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Both."""
        return self.user_s + self.system_s

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.user_s + other.user_s, self.system_s + other.system_s)

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user_s - other.user_s, self.system_s - other.system_s)


def thread_names(pid: int) -> dict[int, str]:
    """Thread id to name; threads of one name are one line of the report."""
    found = {}
    program = Path(f"/proc/{pid}/comm").read_text()
    for entry in Path(f"/proc/{pid}/task").iterdir():
        tid = int(entry.name)
        try:
            name = (entry / "comm").read_text()
        except OSError:
            continue  # it has just ended
        name = NATIVE if name == program else name.strip()
        found[tid] = MAIN if tid == pid else name
    return found


def cpu_by_thread(pid: int) -> dict[str, Cpu]:
    """CPU time so far of each thread name of a living process; its ended threads are not in it.

    The kernel counts in hundredths of a second.
    """
    found: dict[str, Cpu] = {}
    for tid, name in thread_names(pid).items():
        try:
            text = Path(f"/proc/{pid}/task/{tid}/stat").read_text()
        except OSError:
            continue
        found[name] = found.get(name, Cpu()) + _cpu(text)
    return found


def spent(before: dict[str, Cpu], after: dict[str, Cpu]) -> dict[str, Cpu]:
    """What each thread used between two looks; one that began meanwhile began with nothing.

    Example:
        >>> spent({"main": Cpu(1.0, 1.0)}, {"main": Cpu(2.0, 1.0), "bus": Cpu(0.5, 0.0)})
        {'main': Cpu(user_s=1.0, system_s=0.0), 'bus': Cpu(user_s=0.5, system_s=0.0)}
    """
    return {name: cpu - before.get(name, Cpu()) for name, cpu in after.items()}


def _cpu(stat: str) -> Cpu:
    """User and system time of a ``/proc/…/stat`` line."""
    fields = stat.rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return Cpu(int(fields[11]) / ticks, int(fields[12]) / ticks)
