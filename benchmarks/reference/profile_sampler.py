"""A sampling profiler beside a running process: py-spy, from an environment of its own."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path

from environments import FOLDER, prepare
from profile_stacks import Stack, parse_collapsed
from profile_threads import thread_names

ENV = "profile"
ATTACH_S = 20.0
LOOK_S = 0.005
STARTED = "Sampling process"
UNREAD = re.compile(r"Errors: (?P<count>\d+)")


class Sampler:
    """Samples the stacks of every thread that is not waiting.

    The process is not stopped for a look: that would wake each thread that waits, which then looks
    busy, and on a full machine doubles the time of the run. So a stack may change while it is read:
    one or two in a hundred cannot be read and are counted in `unread`, a few are of neither moment.
    Still the profiler needs its part of the cores: take shares from here, times from a run without.

    Args:
        pid: The process.
        out: Where its collapsed stacks go, with line numbers; flame graph viewers read them.
        hz: Samples per second.
    """

    unread = 0
    """Looks of a finished run that gave nothing."""

    def __init__(self, pid: int, out: Path, *, hz: int) -> None:
        prepare([ENV])
        self._pid = pid
        self._out = out
        self._log = out.with_suffix(".log")
        self._hz = hz
        self._names: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Attach.

        Raises:
            SystemExit: it may not, or is not there in `ATTACH_S`.
        """
        self._process = self._popen()
        deadline = time.monotonic() + ATTACH_S
        while STARTED not in self._log.read_text("utf-8", "replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(self._refusal())
            await asyncio.sleep(LOOK_S)

    def stop(self) -> list[Stack]:
        """Detach; what was found.

        Raises:
            SystemExit: the profiler ended before, without a result.
        """
        # By id while they are there: an ended thread has no name any more.
        self._names |= thread_names(self._pid)
        process = self._process
        if process is None or process.poll() is not None:
            raise SystemExit(self._refusal())
        process.send_signal(signal.SIGINT)
        if process.wait() or not self._out.is_file():
            raise SystemExit(self._refusal())
        said = UNREAD.search(self._log.read_text("utf-8", "replace"))
        self.unread = int(said["count"]) if said else 0
        return list(parse_collapsed(self._out.read_text("utf-8"), self._names))

    def kill(self) -> None:
        """End it without a result; safe at any time."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _popen(self) -> subprocess.Popen[bytes]:
        program = str((FOLDER / ENV / "bin" / "py-spy").absolute())
        command = [program, "record", "--pid", str(self._pid), "--rate", str(self._hz)]
        command += ["--threads", "--nonblocking", "--format", "raw", "--output", str(self._out)]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def _refusal(self) -> str:
        said = self._log.read_text("utf-8", "replace").split("\n")
        why = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        return (
            f"sampling process {self._pid} failed: {why}; "
            f"allow ptrace for this user (kernel.yama.ptrace_scope below 2), or run as root"
        )
