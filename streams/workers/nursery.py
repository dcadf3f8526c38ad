"""Imports once what every stage needs and forks the workers: ``python -m … FD PADDING``.

A worker costs 0.7 s of CPU to import, and two or three start side by side with a broker on two
cores. Here they share one import, and its pages. What a request says becomes the worker's own:
standard streams, environment, session; its main module runs as in an interpreter of its own.

The nursery has one thread, as a fork takes only the forking one along. It ends when its starter
does and its workers have ended; they end by themselves at the end of their standard input. It never
ends before them, and the kernel kills them if it is killed: no worker runs unwatched.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.streams.local.launch import die_with_parent

MODULE = "headrace.streams.workers.nursery"
WORKER = "headrace.streams.workers.worker"

NUMBER = struct.Struct("=i")
"""What is told over a worker's pipe: by itself its process id, once it is what was asked for; at
its end by the nursery its process id again, and its exit code."""

MOST_BYTES = 1 << 18
"""Longest request: an environment may be as long as a program's arguments."""

STREAMS = 3
PADDING = 512
"""Bytes of our command line that a worker's own overwrites."""

_ARG_START = 45  # field 48 of /proc/self/stat, after pid and name
_LINGER_S = 0.02


def command(channel: int) -> list[str]:
    """What starts a nursery on a channel, which it inherits."""
    return [sys.executable, "-m", MODULE, str(channel), " " * PADDING]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """A nursery's environment: standard streams as a worker's, and no thread of numpy's.

    What numpy has its threads for, products of float matrices, no stage computes.
    """
    return {"OPENBLAS_NUM_THREADS": "1", **environ, "PYTHONUNBUFFERED": "1"}


class Request(NamedTuple):
    """A worker to fork.

    Attributes:
        args: Stage and pipeline file.
        environ: Its whole environment.
        new_session: It leads a session of its own.
    """

    args: list[str]
    environ: dict[str, str]
    new_session: bool

    def encode(self) -> bytes:
        """As JSON; names and values that are no text survive as lone surrogates."""
        return json.dumps(self).encode("ascii")


class Nursery:
    """Forks on request and tells of every end.

    Args:
        channel: Requests, one per packet, each with four files: standard input, output and error,
            and the pipe over which the worker's `NUMBER`s are told. Its end is ours.
        handlers: What a worker does at the terminal's signals, as an interpreter of its own would:
            one that was started in the background ignores Ctrl-C.
    """

    def __init__(self, channel: socket.socket, handlers: Mapping[int, Any]) -> None:
        self._channel = channel
        self._handlers = handlers
        self._told: dict[int, int] = {}
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)

    def serve(self) -> Request | None:
        """Fork until the channel ends; None then, and in each worker its request."""
        signal.set_wakeup_fd(self._waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.PollSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    self._woken.recv(1024)
                    self._reap()
                if self._channel in ready:
                    data, files, *_ = socket.recv_fds(self._channel, MOST_BYTES, STREAMS + 1)
                    if not data:
                        break
                    if (request := self._begun(data, files)) is not None:
                        return request
        while self._told:
            self._reap()
            time.sleep(_LINGER_S)
        return None

    def _begun(self, data: bytes, files: list[int]) -> Request | None:
        """The request, where this is the worker; what cannot be forked fails its starter alone."""
        parent = os.getpid()
        try:
            request = Request(*json.loads(data))
            *streams, told = files
            pid = os.fork()
        except (OSError, ValueError):
            # Memory, processes or descriptors ran out: the starter hears that nobody is there.
            for file in files:
                os.close(file)
            return None
        if pid == 0:
            self._leave()
            _become(request, streams, parent)
            _tell(told, os.getpid())
            return request
        for file in streams:
            os.close(file)
        self._told[pid] = told
        return None

    def _leave(self) -> None:
        """In the new worker: nothing of the nursery's stays open or set."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for end in (self._channel, self._woken, self._waker):
            end.close()
        for file in self._told.values():
            os.close(file)

    def _reap(self) -> None:
        """Tell of every worker that has ended."""
        for pid in list(self._told):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _tell(self._told.pop(pid), pid, os.waitstatus_to_exitcode(status))


def _tell(told: int, *numbers: int) -> None:
    """Write numbers, the last of ours; whoever asked for the worker may be gone."""
    with contextlib.suppress(BrokenPipeError):
        os.write(told, b"".join(map(NUMBER.pack, numbers)))
    os.close(told)


def _become(request: Request, streams: list[int], parent: int) -> None:
    """Be the worker of a request in all but the imports."""
    die_with_parent(parent)
    if request.new_session:
        os.setsid()
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request.environ)
    sys.argv = [WORKER, *request.args]
    name_process([sys.executable, "-m", WORKER, *request.args])


def name_process(words: list[str]) -> None:
    """Have ``ps`` show these words: they are written over our own, cut to their length.

    Only for who looks: a system that does not let us, shows the nursery's.
    """
    text = b"\0".join(map(os.fsencode, words))
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        start, end = map(int, fields[_ARG_START : _ARG_START + 2])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(text[: end - start - 1].ljust(end - start, b"\0"))


def preload() -> None:
    """Import what every stage needs; what fails here fails in the worker, which tells why."""
    # The boundary of the process, which has nobody to tell: its workers have a supervisor.
    with contextlib.suppress(Exception):
        from headrace.streams.transport.stage import load_faust
        from headrace.streams.workers import worker  # noqa: F401 - for its workers

        load_faust()
    gc.collect()
    # Collections would copy its pages; a worker's whole one, every ten minutes, still does.
    gc.freeze()


def ignore_signals() -> dict[int, Any]:
    """Ignore a terminal's signals, and a service manager's to all of its processes.

    Workers end, then we do.

    Returns:
        What each of them did before.
    """
    return {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}


def main() -> None:
    """Serve the channel of the given number."""
    handlers = ignore_signals()
    channel = socket.socket(fileno=int(sys.argv[1]))
    preload()
    if Nursery(channel, handlers).serve() is None:
        return
    from headrace.streams.workers import worker

    sys.argv[0] = worker.__file__
    worker.main()


if __name__ == "__main__":
    main()
