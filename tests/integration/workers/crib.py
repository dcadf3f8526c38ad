"""A nursery that imports nothing, whose workers say what they find: ``crib.py FD PADDING``."""

from __future__ import annotations

import socket
import sys

from facts import say

from headrace.streams.workers.nursery import Nursery, ignore_signals

if __name__ == "__main__":
    handlers = ignore_signals()
    if Nursery(socket.socket(fileno=int(sys.argv[1])), handlers).serve() is not None:
        say()
