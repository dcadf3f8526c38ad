"""What one look at the bus found, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BusCheck:
    """What one look at the bus found.

    Attributes:
        state: ``answers``, ``refused`` or ``unreachable``.
        line: The finding in one line, with the remedy.
        latency_ms: Time to connect and log in, milliseconds; None when it does not answer.
    """

    state: Literal["answers", "refused", "unreachable"]
    line: str
    latency_ms: float | None = None
