"""Disturb this machine on purpose: a burst of CPU load that ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.schemas.errors import SettingsError

MAX_SECONDS = 600.0
_BURN = Path(__file__).with_name("burn.py")


class Disturbance:
    """Processes that keep cores busy, each on a core of its own where the system allows it.

    Bounded three times over: they end after `seconds`, when this process dies in whatever way,
    and on `stop`.

    Args:
        seconds: How long, at most 600.
        cores: How many cores; default all this process may use.
        share: Share of each core's time, above 0 to 1.

    Raises:
        SettingsError: out of range. Fatal.
    """

    def __init__(self, *, seconds: float, cores: int | None = None, share: float = 1.0) -> None:
        usable = usable_cores()
        count = len(usable) if cores is None else cores
        if not (0 < seconds <= MAX_SECONDS and 1 <= count <= len(usable) and 0 < share <= 1):
            raise SettingsError(
                f"a disturbance of {seconds:g} s on {count} cores at share {share:g} is not "
                f"possible; use at most {MAX_SECONDS:g} s, 1 to {len(usable)} cores, "
                "a share above 0 to 1"
            )
        self._arguments = [
            [str(seconds), str(share), str(core), str(os.getpid())] for core in usable[:count]
        ]
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> Self:
        """Start; a program that imports next to nothing burns within about 30 ms."""
        # `-I -S`: no user code on the path and no site packages, which is what makes it quick.
        command = [sys.executable, "-I", "-S", str(_BURN)]
        self._processes = [
            subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL)  # noqa: S603  our own file
            for arguments in self._arguments
        ]
        return self

    @property
    def pids(self) -> list[int]:
        """Process ids of the burners."""
        return [process.pid for process in self._processes]

    def is_running(self) -> bool:
        """Some core is still kept busy."""
        return any(process.poll() is None for process in self._processes)

    def wait(self) -> None:
        """Return when it has ended by itself."""
        for process in self._processes:
            process.wait()

    def stop(self) -> None:
        """End it now; harmless when it has ended."""
        for process in self._processes:
            process.terminate()
        self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def usable_cores() -> list[int]:
    """Cores this process may run on; -1 for each where the system cannot pin to one."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [-1] * (os.cpu_count() or 1)
