"""A lane that tells what it has in hand, without a bus, a store or an agent."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class FakeLane:
    """Moves from step to step when told."""

    partition: int = 0
    ready: bool = False
    step: tuple[str, float] | None = None
    position: int = 0

    def begin(self, name: str) -> None:
        """Take a step in hand."""
        self.step = (name, time.monotonic())

    def taken_over(self, position: int) -> None:
        """End the takeover."""
        self.ready, self.position, self.step = True, position, None

    def finished(self, position: int) -> None:
        """End a batch."""
        self.position, self.step = position, None
