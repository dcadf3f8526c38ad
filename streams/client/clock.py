"""The wall clock of a client, where its caller gives none."""

from __future__ import annotations

import time

wall_clock = time.time  # noqa: TID251  # the edge of the system: here a clock comes in
"""Seconds since 1970."""
