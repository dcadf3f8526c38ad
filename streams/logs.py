"""Logging of our programs: our own lines on standard error, one each; libraries stay silent."""

from __future__ import annotations

import logging
import os
import sys

QUIET = ("aiokafka", "faust", "mode", "kafka")
"""Libraries whose warnings are about states we handle and report ourselves, by our own errors."""


def log_to_stderr() -> None:
    """Send our warnings and errors to standard error, a line each.

    ``HEADRACE_INTERNAL_DEBUG=1`` lets everything of everybody through.
    """
    debug = os.environ.get("HEADRACE_INTERNAL_DEBUG") == "1"
    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for name in QUIET:
        logging.getLogger(name).setLevel(level if debug else logging.CRITICAL)
