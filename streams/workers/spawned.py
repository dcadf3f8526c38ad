"""A worker as its supervisor's event loop sees it: lines of two pipes, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence

from headrace.streams.workers.spawning import Child, Spawner

LOOK_S = 0.02


class Spawned:
    """A process that was started, with its pipes.

    Args:
        child: It.
        stdout: Its standard output.
        stderr: Its standard error.
    """

    def __init__(
        self, child: Child, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader
    ) -> None:
        self._child = child
        self.stdout, self.stderr = stdout, stderr

    @property
    def pid(self) -> int:
        """Process id; see `Child`."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def tell(self, line: bytes) -> None:
        """Write a line to its standard input; harmless when it has ended."""
        stdin = self._child.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(line)
                stdin.flush()

    def close(self) -> None:
        """End its standard input, which ends it in order."""
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        while (code := self._child.poll()) is None:  # noqa: ASYNC110 - no event tells of every kind
            await asyncio.sleep(LOOK_S)
        return code

    def kill(self) -> None:
        """SIGKILL; harmless when it has ended."""
        self._child.kill()


async def spawned(
    spawner: Spawner, command: Sequence[str], environ: Mapping[str, str], *, limit: int
) -> Spawned:
    """Start a process in a session of its own.

    Args:
        spawner: What starts it.
        command: Program and arguments.
        environ: Its whole environment.
        limit: Longest line of its output, bytes.
    """
    (stdout, its_output), (stderr, its_errors) = os.pipe(), os.pipe()
    try:
        child = spawner.spawn(
            command, stdout=its_output, stderr=its_errors, environ=environ, new_session=True
        )
    finally:
        os.close(its_output)
        os.close(its_errors)
    return Spawned(child, await _reader(stdout, limit), await _reader(stderr, limit))


async def _reader(file: int, limit: int) -> asyncio.StreamReader:
    """A pipe's lines; it is closed at its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit)
    pipe = os.fdopen(file, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader
