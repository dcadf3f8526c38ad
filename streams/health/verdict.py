"""What the watchdog can say of a stage, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a stage is.

    ``starting``: it has no share of its group yet. ``idle``: it has no input. ``working``: records
    get on. ``slow``: they do, but the backlog keeps growing. ``holding``: they do, but it holds
    more parts of summaries than it should. ``waiting``: they do not, and bus or store are why.
    ``stuck``: they do not, and nothing explains it. ``silent``: its process gives no sign of life.
    """

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    SLOW = "slow"
    HOLDING = "holding"
    WAITING = "waiting"
    STUCK = "stuck"
    SILENT = "silent"


TROUBLE = frozenset({Kind.SLOW, Kind.HOLDING, Kind.WAITING, Kind.STUCK, Kind.SILENT})
"""Kinds that people are told of."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When the watchdog says so.

    Attributes:
        stuck_after_s: A busy partition without progress for this long is stuck, seconds.
        stuck_restart_s: A stage stuck or silent for this long asks to be started again, seconds.
        silent_after_s: A process without a status line for this long is silent, seconds; it writes
            two a second.
        parts_bytes: Parts of summaries of which the finaliser may hold this much, bytes. Nothing is
            dropped beyond it: it is told, and which partition they wait for.
        waiting_after_s: A dependency's trouble is named once it has held a partition up for this
            long, seconds.
    """

    stuck_after_s: float = 30.0
    stuck_restart_s: float = 120.0
    silent_after_s: float = 5.0
    waiting_after_s: float = 5.0
    parts_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one stage is at one moment.

    Attributes:
        kind: How it is.
        line: One line for people: partition, offset, step and age; empty where all is well.
        age_s: How long without progress or sign of life, of the worst partition, seconds.
        restart: It is time to start the stage again.
    """

    kind: Kind
    line: str = ""
    age_s: float = 0.0
    restart: bool = False
