"""The busiest processes of this machine, under names that do not say who they are."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headrace.streams.producers.door import psutil
from headrace.streams.producers.sample import Reading

SCAN_EVERY_S = 1.0
"""Least time between two looks at all processes."""
SCAN_COST = 50.0
"""A look that took t seconds is not repeated within this many t: at most 2 % of a core."""
SMOOTHING = 0.4
"""Weight of the newest look in a process's activity."""
LOYALTY = 1.5
"""A process already chosen counts as this much busier, so that the choice does not flicker."""

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)


@dataclass(slots=True)
class _Known:
    """What is remembered of one process between two looks."""

    process: psutil.Process
    cpu_s: float
    activity: float = 0.0


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One of the busiest: its process, its pseudonym, its personal and raw content."""

    process: psutil.Process
    device_id: str
    name: str
    command: str


class Busiest:
    """Chooses and reads the `count` busiest processes, never this one.

    The producer is left out: what watches the machine should not be what it mostly sees. Its
    load still counts in the cores and the host.

    Args:
        count: How many; 0 reads none.
        key: Key of the hash that makes device ids, up to 64 bytes. Without it, an id tells
            neither the process nor its name.
        prefix: Put before every device id.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        count: int,
        *,
        key: bytes,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._key, self._prefix, self._clock = count, key, prefix, clock
        self._known: dict[tuple[int, float], _Known] = {}
        self._chosen: dict[tuple[int, float], _Chosen] = {}
        self._scanned_at_s: float | None = None
        self._next_scan_s = float("-inf")
        self._memory_bytes = psutil.virtual_memory().total

    def read(self) -> Iterator[Reading]:
        """Counters of the chosen processes now; one that vanished is left out."""
        if self._count and self._clock() >= self._next_scan_s:
            self._scan()
        for chosen in self._chosen.values():
            try:
                yield self._reading(chosen)
            except _GONE:
                continue

    def _scan(self) -> None:
        start_s = self._clock()
        since_s = start_s - self._scanned_at_s if self._scanned_at_s is not None else None
        self._known = dict(self._look(since_s))
        self._scanned_at_s = start_s
        ranked = sorted(self._known, key=self._rank, reverse=True)[: self._count]
        self._chosen = {
            which: chosen
            for which in ranked
            if self._known[which].activity > 0 and (chosen := self._choose(which)) is not None
        }
        cost_s = self._clock() - start_s
        self._next_scan_s = start_s + max(SCAN_EVERY_S, cost_s * SCAN_COST)

    def _look(self, since_s: float | None) -> Iterator[tuple[tuple[int, float], _Known]]:
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            try:
                times = process.cpu_times()
                which = (process.pid, process.create_time())
            except _GONE:
                continue
            cpu_s = times.user + times.system
            known = self._known.get(which)
            if known is None:
                # New since the last look: all it used, it used since then.
                used_s = cpu_s if since_s is not None else 0.0
                known = _Known(process, cpu_s)
            else:
                used_s, known.cpu_s = cpu_s - known.cpu_s, cpu_s
            if since_s:
                known.activity += SMOOTHING * (used_s / since_s - known.activity)
            yield which, known

    def _rank(self, which: tuple[int, float]) -> float:
        return self._known[which].activity * (LOYALTY if which in self._chosen else 1.0)

    def _choose(self, which: tuple[int, float]) -> _Chosen | None:
        if which in self._chosen:
            return self._chosen[which]
        process = self._known[which].process
        try:
            name, command = process.name(), " ".join(process.cmdline())
        except _GONE:
            return None
        return _Chosen(process, f"{self._prefix}{pseudonym(self._key, *which)}", name, command)

    def _reading(self, chosen: _Chosen) -> Reading:
        process = chosen.process
        with process.oneshot():
            times = process.cpu_times()
            switches = process.num_ctx_switches()
            memory_bytes = process.memory_info().rss
            moved_bytes = _moved_bytes(process)
        return Reading(
            chosen.device_id,
            "process",
            busy_s=times.user + times.system,
            span_s=self._clock(),
            operations=switches.voluntary + switches.involuntary,
            moved_bytes=moved_bytes,
            waited_s=getattr(times, "iowait", 0.0),
            memory=memory_bytes / self._memory_bytes,
            payload=chosen.command,
            process=chosen.name,
        )


def _moved_bytes(process: psutil.Process) -> float:
    """Bytes a process read and wrote on disks; 0 where the system does not tell us."""
    try:
        io = process.io_counters()
    except (*_GONE, AttributeError):
        return 0.0
    return float(io.read_bytes + io.write_bytes)


def pseudonym(key: bytes, pid: int, created_s: float) -> str:
    """A process's device id: a keyed hash, so that without the key it cannot be guessed.

    Example:
        >>> pseudonym(b"key", 1, 0.0) == pseudonym(b"key", 1, 0.0)
        True
        >>> pseudonym(b"key", 1, 0.0) == pseudonym(b"other", 1, 0.0)
        False
    """
    digest = hashlib.blake2b(f"{pid}/{created_s}".encode(), digest_size=6, key=key)
    return f"proc-{digest.hexdigest()}"
