"""Ports for services that a test starts and takes away, and starts again."""

from __future__ import annotations

import random
import socket

_FIRST, _BEYOND = 20_000, 32_000
"""Below what systems give to outgoing connections: between choice and use, or between two lives of
a service, one of those would take it."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    while True:
        port = random.randrange(_FIRST, _BEYOND)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
