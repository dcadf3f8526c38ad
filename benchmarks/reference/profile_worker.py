"""A worker that can be measured by thread: ``python profile_worker.py STAGE PIPELINE.toml``.

It is `headrace.streams.workers.worker`, started so that the kernel knows its threads by name, as
Python 3.14 arranges by itself, and so that a profiler of the same user may look into it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

WORKER = "headrace.streams.workers.worker"
PR_SET_NAME = 15
PR_SET_PTRACER = 0x59616D61
ANYBODY = ctypes.c_ulong(-1)
LONGEST_NAME = 15
"""The kernel's limit, bytes."""


def name_of(thread: threading.Thread) -> str:
    """The name of a thread, or its class where nobody gave it one; no counter at its end.

    Example:
        >>> name_of(threading.Thread(name="inference_0"))
        'inference'
        >>> name_of(threading.Timer(1.0, print))
        'Timer'
    """
    if thread.name.startswith("Thread-"):
        return type(thread).__name__
    name, _, number = thread.name.rpartition("_")
    return name if name and number.isdigit() else thread.name


def tell_kernel(*_: Any) -> None:
    """Name the calling thread; called once by `threading`, before the thread's own code."""
    sys.setprofile(None)
    name = name_of(threading.current_thread()).encode()[:LONGEST_NAME]
    ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)


def look_away() -> None:
    """Let nobody watch the stage's batches: what watching costs is the difference."""
    from headrace.streams.observe.stage_observer import StageObserver
    from headrace.streams.workers.jobs import Seen

    StageObserver.observe = lambda *_, **__: None
    StageObserver.seen = lambda _: Seen()


def clock_watching(file: str) -> None:
    """Clock what watches batches and tells of them; each time it tells, a line in a file.

    Each line is the CPU that watching took so far and that of the process, seconds.
    """
    from headrace.streams.observe.stage_observer import StageObserver

    spent_s = 0.0

    def clocked(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            nonlocal spent_s
            began = time.thread_time()
            try:
                return method(*args, **named)
            finally:
                spent_s += time.thread_time() - began

        return run

    seen = clocked(StageObserver.seen)

    def telling(self: StageObserver) -> Any:
        found = seen(self)
        with open(file, "a", encoding="ascii") as lines:
            lines.write(f"{spent_s} {time.process_time()}\n")
        return found

    StageObserver.observe = clocked(StageObserver.observe)
    StageObserver.seen = telling


def main() -> None:
    """Run the worker in this process."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
    threading.setprofile(tell_kernel)
    # This folder has modules of its own names; the worker must not find them.
    del sys.path[0]
    if os.environ.get("BENCH_UNWATCHED") == "1":
        look_away()
    if file := os.environ.get("BENCH_CLOCK_WATCHING"):
        clock_watching(file)
    runpy.run_module(WORKER, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
