"""One child process that is a service: started, waited for, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.streams.local.folders import writing

LAUNCH = Path(__file__).with_name("launch.py")
POLL_S = 0.01
PROBE_S = 1.0  # a stranger on our port may accept and never answer
PORT_TRIES = 3
_TAIL_BYTES = 8192


class Service:
    """A program in a session of its own that cannot outlive this process.

    Linux shares busy cores out by session (autogroup): in ours a broker that starts would have to
    share with all that we import meanwhile.

    Its output goes to ``<name>.log`` in its folder; the log of the run before is kept as
    ``<name>.log.1``.

    Args:
        name: What messages call it.
        folder: Its working folder, which exists.
        keep: Descriptors that it inherits.
    """

    def __init__(self, name: str, folder: Path, *, keep: Sequence[int] = ()) -> None:
        self.name = name
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self._folder = folder
        self._keep = tuple(keep)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of what was started (with the watcher: the watcher's)."""
        if self._process is None:
            raise LocalServiceError(f"the {self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def spawn(self, program: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Start the program; it lives at most as long as this process.

        Args:
            program: Absolute path of the executable, then its arguments.
            environ: Variables to add to the environment.

        Raises:
            LocalServiceError: the log cannot be written. Fatal.
        """
        # The kernel's death signal follows the starting *thread*; only the main one lives as
        # long as the process.
        on_main = threading.current_thread() is threading.main_thread()
        how = "exec" if sys.platform == "linux" and on_main else "watch"
        launcher = [sys.executable, "-I", "-S", "-E", str(LAUNCH), how, str(os.getpid())]
        with writing(self._folder):
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.1"))
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own services
                    [*launcher, *program],
                    stdin=subprocess.PIPE if how == "watch" else subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._folder,
                    env={**os.environ, **(environ or {})},
                    pass_fds=self._keep,
                    start_new_session=True,
                )

    async def ready(self, probe: Callable[[], Awaitable[bool]], *, within_s: float) -> None:
        """Poll until the service answers in its own protocol.

        Args:
            probe: True when it answers as ours; OSError and EOFError mean not yet.
            within_s: Deadline, seconds.

        Raises:
            LocalServiceError: it ended, or did not answer in time. Fatal.
        """
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    if await probe():
                        return
            if not self.running:
                raise LocalServiceError(self.ended())
            if time.monotonic() > deadline:
                await self.stop(grace_s=0)
                raise LocalServiceError(
                    f"the {self.name} did not answer within {within_s:g} s; {self._said()}"
                )
            await asyncio.sleep(POLL_S)

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """End it: SIGTERM, and SIGKILL to its group after the grace. Harmless when it is gone.

        Cancelled meanwhile, it is killed at once: nothing stays behind.
        """
        process = self._process
        if process is None:
            return
        try:
            if grace_s > 0 and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + grace_s
                while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(POLL_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and its group with SIGKILL, as a crash would, and wait until it is gone."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def ended(self) -> str:
        """One line about a service that is no longer there."""
        code = self._process.returncode if self._process is not None else None
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return f"the {self.name} ended {how}; {self._said()}"

    def resident_bytes(self) -> int:
        """Memory that it and its child, if any, hold, bytes; 0 when it is gone."""
        if sys.platform != "linux":
            command = ["/bin/ps", "-o", "rss=", "-g", str(self.pid)]
            shown = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603
            return sum(map(int, shown.split())) * 1024
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            pages = sum(
                int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                for pid in (self.pid, *children)
            )
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _said(self) -> str:
        return f"the last line of {str(self.log)!r} is: {self.last_line()}"

    def last_line(self) -> str:
        """The last line of its log that is neither empty nor a frame of a Java stack trace."""
        try:
            tail = self.log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")
        except OSError as error:
            return f"(unreadable: {error.strerror})"
        lines = [line.strip() for line in tail.splitlines()]
        telling = [line for line in lines if line and not line.startswith(("at ", "... "))]
        return telling[-1] if telling else "(empty)"


def free_ports(count: int) -> list[int]:
    """Distinct loopback TCP ports that are free now; somebody else may take one before its use."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def spare_ports(count: int, besides: int) -> list[int]:
    """Distinct free loopback ports, `besides` not among them: it is taken, if not bound yet."""
    return [port for port in free_ports(count + 1) if port != besides][:count]


def is_free(port: int) -> bool:
    """Nobody listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def on_free_port(preferred: int, start: Callable[[int], Awaitable[None]]) -> int:
    """Start a service on `preferred`, or on a port that is free, and return the port.

    Another process may take a free port before the service does: then another one is tried.

    Args:
        preferred: Port to take where it is free; 0 is any.
        start: Starts the service on a port.

    Raises:
        LocalServiceError: the service did not start although its port was free. Fatal.
    """
    port = preferred if preferred and is_free(preferred) else free_ports(1)[0]
    for _ in range(PORT_TRIES - 1):
        try:
            await start(port)
        except LocalServiceError as error:
            if is_free(port) and "ddress already in use" not in str(error):
                raise
            port = free_ports(1)[0]
        else:
            return port
    await start(port)
    return port
