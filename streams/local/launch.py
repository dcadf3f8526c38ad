"""Become a program that ends with its parent; run as a script, never imported.

    python -I -S -E launch.py exec  <parent pid> <program> <arguments>
    python -I -S -E launch.py watch <parent pid> <program> <arguments>

``exec`` (Linux) asks the kernel for SIGKILL at the death of the parent's starting thread, then
becomes the program: no process more, about 25 ms. ``watch`` (elsewhere, or when the starting
thread may end before the process) stays beside the program and kills it when its standard input,
a pipe from the parent, reaches its end. Both hold when the parent is killed with SIGKILL.

Only what the interpreter has already loaded, ctypes and threads are imported: start time counts.
"""

from __future__ import annotations

import os
import sys

SIGTERM, SIGKILL = 15, 9
PR_SET_PDEATHSIG = 1
EXIT_ORPHAN, EXIT_NO_PROGRAM = 125, 127


def die_with_parent(parent: int) -> None:
    """Ask for SIGKILL at the parent's death; leave at once when it is dead already."""
    import ctypes

    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
        sys.stderr.write("the kernel refused PR_SET_PDEATHSIG\n")
        os._exit(EXIT_ORPHAN)
    if os.getppid() != parent:
        os._exit(EXIT_ORPHAN)


def become(program: list[str]) -> None:
    """Replace this process by the program; its absence is one line on standard error."""
    try:
        os.execv(program[0], program)  # noqa: S606 - our own services, no shell wanted
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(EXIT_NO_PROGRAM)


def watch(program: list[str]) -> int:
    """Run the program as a child, pass SIGTERM on, kill it at the end of standard input."""
    import signal
    import threading

    pipe = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    child = os.fork()
    if child == 0:
        become(program)

    def kill_at_end() -> None:
        while os.read(pipe, 1):
            pass
        os.kill(child, SIGKILL)

    signal.signal(SIGTERM, lambda *_: os.kill(child, SIGTERM))
    threading.Thread(target=kill_at_end, daemon=True).start()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    if sys.argv[1] == "exec":
        die_with_parent(int(sys.argv[2]))
        become(sys.argv[3:])
    os._exit(watch(sys.argv[3:]) & 0xFF)
