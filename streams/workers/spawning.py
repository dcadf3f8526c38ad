"""The one door through which workers start: forked by a nursery, or an interpreter for each."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Protocol

from headrace.streams.workers import nursery

WORKER = (sys.executable, "-m", nursery.WORKER)
"""What runs a worker, before its stage and pipeline file. Other commands are never forked."""

FORKS = sys.platform == "linux"
"""Elsewhere libraries of the system keep what no fork takes along."""

ENDS_S = 5.0
_TOLD_BYTES = 64


class Child(Protocol):
    """A process that was started here; `subprocess.Popen` is one."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """Its standard input, a pipe."""
        ...

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        ...

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send a signal; harmless when it has ended."""
        ...

    def kill(self) -> None:
        """SIGKILL; harmless when it has ended."""
        ...


class Forked:
    """A worker of a nursery's, known by what the nursery tells of it.

    Args:
        stdin: Its standard input, to write to.
        told: Where the nursery tells its process id, then its exit code.
    """

    def __init__(self, stdin: IO[bytes], told: int) -> None:
        self.stdin = stdin
        self._told = told
        self._heard = b""
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Process id; waits for the nursery to have imported what it forks.

        Raises:
            ProcessLookupError: the nursery was killed before that.
        """
        while self._code is None and len(self._heard) < nursery.NUMBER.size:
            self._hear()
        if len(self._heard) < nursery.NUMBER.size:
            raise ProcessLookupError("the process that forks workers was killed; start it again")
        pid: int = nursery.NUMBER.unpack_from(self._heard)[0]
        return pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs, or waits to be forked."""
        while self._code is None and _readable(self._told):
            self._hear()
        return self._code

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        while self._code is None:
            self._hear()
        return self._code

    def send_signal(self, sig: int) -> None:
        """Send a signal; harmless when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def kill(self) -> None:
        """SIGKILL; harmless when it has ended.

        One that is not forked within `ENDS_S` counts as killed: its nursery hangs, and the worker,
        if it comes to life, ends at the end of its input.
        """
        if self._code is None and not self._heard and not _readable(self._told, ENDS_S):
            os.close(self._told)
            self._code = -signal.SIGKILL
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        """Read what is told next; the last number, if there are several, is the exit code."""
        more = os.read(self._told, _TOLD_BYTES)
        self._heard += more
        if not more:
            os.close(self._told)
            # A nursery that was killed tells none; the kernel killed its workers with it.
            told = len(self._heard) > nursery.NUMBER.size
            code = nursery.NUMBER.unpack(self._heard[-nursery.NUMBER.size :])[0] if told else None
            self._code = -signal.SIGKILL if code is None else code


class Spawner:
    """Starts the workers of one command, and of all of its pipelines.

    Workers of `WORKER` are forked by a nursery that has imported what they need, where the system
    lets it (`FORKS`); every other command, and every worker elsewhere, is an interpreter of its
    own. Whoever is told of a worker cannot see the difference.

    A nursery that was killed is started again for the next worker.
    """

    def __init__(self) -> None:
        self._nursery: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def start(self) -> None:
        """Have the nursery import, where there is to be one; harmless when it does already."""
        if not FORKS or (self._nursery is not None and self._nursery.poll() is None):
            return
        self.stop()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._nursery = subprocess.Popen(  # noqa: S603 - our own nursery
                nursery.command(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=nursery.environment(os.environ),
            )

    def spawn(
        self,
        command: Sequence[str],
        *,
        stdout: int,
        stderr: int,
        environ: Mapping[str, str],
        new_session: bool = False,
    ) -> Child:
        """Start a process whose standard input is a pipe.

        Args:
            command: Program and arguments.
            stdout: File for its standard output; the caller's to close.
            stderr: As `stdout`.
            environ: Its whole environment.
            new_session: It leads a session of its own, and hears no signal of our terminal.
        """
        if tuple(command[: len(WORKER)]) == WORKER:
            request = nursery.Request([*command[len(WORKER) :]], {**environ}, new_session)
            forked = self._fork(request, stdout, stderr)
            if forked is not None:
                return forked
        return subprocess.Popen(  # noqa: S603 - our own workers
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=environ,
            start_new_session=new_session,
        )

    def stop(self) -> None:
        """End the nursery, whose workers have ended; harmless when there is none."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._nursery is not None:
            try:
                self._nursery.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
            self._nursery = None

    def _fork(self, request: nursery.Request, stdout: int, stderr: int) -> Forked | None:
        """Ask the nursery; None where there is none, or it cannot be asked."""
        self.start()
        if self._channel is None:
            return None
        stdin, ours = os.pipe()
        told, theirs = os.pipe()
        try:
            files = [stdin, stdout, stderr, theirs]
            socket.send_fds(self._channel, [request.encode()], files)
        except OSError:  # an environment beyond a packet's size, or a nursery that ends just now
            os.close(ours)
            os.close(told)
            return None
        finally:
            os.close(stdin)
            os.close(theirs)
        return Forked(os.fdopen(ours, "wb", buffering=0), told)


def _readable(file: int, within_s: float = 0.0) -> bool:
    """Whether a read would not wait, now or soon."""
    poller = select.poll()
    poller.register(file, select.POLLIN)
    return bool(poller.poll(within_s * 1000))
