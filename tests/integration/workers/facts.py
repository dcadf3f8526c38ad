"""What a worker finds when it begins; as a program it says so: ``facts.py EXIT_CODE …``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)


def facts() -> dict[str, object]:
    """Everything that its starter decides, and what it could inherit by mistake."""
    return {
        "args": sys.argv[1:],
        "environ": dict(os.environ),
        "leads": os.getsid(0) == os.getpid(),
        "files": sorted(map(int, os.listdir("/proc/self/fd"))),
        "signals": [str(signal.getsignal(number)) for number in SIGNALS],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "woken": signal.set_wakeup_fd(-1),
        "threads": threading.active_count(),
        "folder": str(Path.cwd()),
        "heard": sys.stdin.buffer.read().decode(),
    }


def say() -> None:
    """Say them on standard output, a word on standard error, and end with the code asked for."""
    sys.stdout.write(json.dumps(facts()) + "\n")
    sys.stderr.write("done\n")
    sys.exit(int(sys.argv[1]))


if __name__ == "__main__":
    say()
