"""Read this machine's counters: everything but its processes.

Missing sensors are simply absent: a container without disks has no disk devices, a kernel without
pressure accounting has a host whose pressure is the time its cores waited.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from headrace.streams.producers.door import psutil
from headrace.streams.producers.sample import Reading

NOMINAL_MBIT = 1000
"""Link speed assumed where a network interface states none, Mbit/s."""
LOOPBACK_MBIT = 10_000
"""The same for loopback, which has no link."""
LINKS_EVERY_S = 5.0
"""How often interfaces are asked for state and speed: costly, and seldom changed."""

_LINUX = sys.platform == "linux"
_PRESSURE = tuple(Path("/proc/pressure") / what for what in ("cpu", "io", "memory"))
_SOFTIRQS = Path("/proc/softirqs")
_BLOCK = Path("/sys/block")
_VIRTUAL = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")


class Machine:
    """Reads cores, disks, network interfaces and the host itself; about 0.5 ms a reading.

    Args:
        prefix: Put before every device id, so that several machines can share a pipeline.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._links: dict[str, int] = {}
        self._links_at_s = float("-inf")

    def read(self) -> list[Reading]:
        """Every device's counters now; kinds that cannot be read are left out."""
        cores = list(self._cores())
        disks = list(self._disks())
        nets = list(self._nets(time.monotonic()))
        return [*cores, *disks, *nets, self._host(cores, disks, nets)]

    def _cores(self) -> Iterator[Reading]:
        handled = _softirqs()
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            busy_s, idle_s, waited_s = _core_times(times)
            yield Reading(
                f"{self._prefix}core-{number}",
                "core",
                busy_s=busy_s,
                span_s=busy_s + idle_s + waited_s,
                operations=handled[number] if number < len(handled) else 0.0,
                waited_s=waited_s,
                payload=str(times),
            )

    def _disks(self) -> Iterator[Reading]:
        at_s = time.monotonic()
        for name, io in _counters(psutil.disk_io_counters, perdisk=True, nowrap=False).items():
            if not _is_disk(name) or io.read_count + io.write_count == 0:
                continue
            request_s = (io.read_time + io.write_time) / 1000
            busy_ms = getattr(io, "busy_time", None)
            yield Reading(
                f"{self._prefix}disk-{name}",
                "disk",
                busy_s=request_s if busy_ms is None else busy_ms / 1000,
                span_s=at_s,
                operations=io.read_count + io.write_count,
                moved_bytes=io.read_bytes + io.write_bytes,
                waited_s=request_s,
                payload=str(io),
            )

    def _nets(self, at_s: float) -> Iterator[Reading]:
        if at_s - self._links_at_s >= LINKS_EVERY_S:
            self._links, self._links_at_s = _links(), at_s
        for name, io in _counters(psutil.net_io_counters, pernic=True, nowrap=False).items():
            moved_bytes = io.bytes_sent + io.bytes_recv
            if name not in self._links or moved_bytes == 0:
                continue
            yield Reading(
                f"{self._prefix}net-{name}",
                "net",
                busy_s=moved_bytes * 8 / (self._links[name] * 1e6),
                span_s=at_s,
                operations=io.packets_sent + io.packets_recv,
                moved_bytes=moved_bytes,
                waited_s=io.errin + io.errout + io.dropin + io.dropout,
                payload=str(io),
            )

    def _host(
        self, cores: Iterable[Reading], disks: Iterable[Reading], nets: Iterable[Reading]
    ) -> Reading:
        memory = psutil.virtual_memory()
        stalled_s = _stalled_s()
        return Reading(
            f"{self._prefix}host",
            "host",
            busy_s=sum(core.busy_s for core in cores),
            span_s=sum(core.span_s for core in cores),
            operations=psutil.cpu_stats().ctx_switches,
            moved_bytes=sum(d.moved_bytes for d in disks) + sum(n.moved_bytes for n in nets),
            waited_s=sum(c.waited_s for c in cores) if stalled_s is None else stalled_s,
            memory=1.0 - memory.available / memory.total,
            payload=str(memory),
        )


def _counters(read: Callable[..., Any], **options: bool) -> dict[str, Any]:
    """What psutil reads, by name; nothing where this system does not have it."""
    try:
        return read(**options) or {}
    except (OSError, NotImplementedError):
        return {}


def _core_times(times: Any) -> tuple[float, float, float]:
    """Busy, idle and waiting (for a disk, or for the hypervisor) seconds of one core."""
    busy_s = times.user + times.system + getattr(times, "nice", 0.0)
    busy_s += getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)
    waited_s = getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    return busy_s, times.idle, waited_s


def _is_disk(name: str) -> bool:
    """A whole, real disk: neither a partition nor a device made of other devices."""
    if name.startswith(_VIRTUAL):
        return False
    return not _LINUX or (_BLOCK / name.replace("/", "!")).exists()


def _links() -> dict[str, int]:
    """Interfaces that are up, with their speed in Mbit/s."""
    return {
        name: (LOOPBACK_MBIT if "loopback" in link.flags else link.speed or NOMINAL_MBIT)
        for name, link in _counters(psutil.net_if_stats).items()
        if link.isup
    }


def _softirqs() -> list[float]:
    """Soft interrupts handled by each core so far; empty where the kernel does not say."""
    try:
        lines = _SOFTIRQS.read_bytes().splitlines()
        rows = [list(map(int, line.split()[1:])) for line in lines[1:]]
        return [float(sum(core)) for core in zip(*rows, strict=True)]
    except (OSError, ValueError):
        return []


def _stalled_s() -> float | None:
    """Seconds in which some task stood still for a core, a disk or memory; None: not known.

    Source: the ``some`` line of the kernel's pressure stall information, microseconds.
    """
    try:
        texts = [file.read_bytes() for file in _PRESSURE]
        return sum(int(text.split(b"\n", 1)[0].rpartition(b"total=")[2]) for text in texts) / 1e6
    except (OSError, ValueError):
        return None
