"""Disturb this machine in one way for some seconds; run as a program by `record.py`.

``python stress.py KIND SECONDS SEED``. Every kind ends by itself, also when the parent has died.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable

MIB = 1 << 20
MEMORY_SHARE = 0.15


class Clock:
    """Counts down; also over when the parent is no longer there."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds
        self._parent = os.getppid()

    def runs(self) -> bool:
        """There is time left."""
        return time.monotonic() < self._end_s and os.getppid() == self._parent


def work(seconds: float) -> None:
    """Keep one core busy."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pass


def service(clock: Clock, chance: random.Random) -> None:
    """A worker of a pipeline at rest: a busy start, short bursts, seldom a long one."""
    work(chance.uniform(0.5, 2.0))
    share = chance.uniform(0.05, 0.35)
    while clock.runs():
        burst_s = chance.lognormvariate(-4.5, 0.6)
        if chance.random() < 0.003:
            burst_s += chance.uniform(0.05, 0.4)
        work(burst_s)
        time.sleep(chance.expovariate(share / (burst_s * (1 - share))) if burst_s else 0.01)


def disk(clock: Clock, chance: random.Random) -> None:
    """Write and force to disk."""
    block = chance.randbytes(MIB)
    with tempfile.TemporaryFile() as file:
        while clock.runs():
            if file.tell() > 256 * MIB:
                file.seek(0)
            file.write(block)
            file.flush()
            os.fsync(file.fileno())


def net(clock: Clock, chance: random.Random) -> None:
    """Send over loopback as fast as it goes."""
    block = chance.randbytes(MIB // 4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        out = socket.create_connection(server.getsockname())
        into, _ = server.accept()

        def swallow() -> None:
            while into.recv(MIB):
                pass

        reader = threading.Thread(target=swallow, daemon=True)
        reader.start()
        while clock.runs():
            out.sendall(block)
        out.close()
        reader.join(1.0)
        into.close()


def memory(clock: Clock, chance: random.Random) -> None:
    """Take a share of the machine's memory and hold it."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = int(pages * MEMORY_SHARE * chance.uniform(0.5, 1.0))
    held: list[bytes] = []
    while clock.runs():
        if len(held) * 16 * MIB < wanted:
            held.append(b"\x01" * (16 * MIB))
        time.sleep(0.01)


KINDS: dict[str, Callable[[Clock, random.Random], None]] = {
    "service": service,
    "disk": disk,
    "net": net,
    "memory": memory,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Clock(float(sys.argv[2])), random.Random(sys.argv[3]))  # noqa: S311
