"""A nursery that imports nothing, whose workers say what they find: ``crib.py FD PADDING``."""

from __future__ import annotations

import signal
import socket
import sys

from facts import say

from headrace.streams.workers.nursery import Nursery

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if Nursery(socket.socket(fileno=int(sys.argv[1]))).serve() is not None:
        say()
