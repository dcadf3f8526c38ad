"""Named places at which a worker ends itself as a crash would: the steps of a lane."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from headrace.schemas.errors import SettingsError

VARIABLE = "HEADRACE_CRASH_AT"
"""``<stage>:<step>:<n>``; read by workers only, so that no setting of a site can carry it."""

STEPS = {
    "enrich": ("takeover", "process", "publish", "online rows", "checkpoint"),
    "serve": ("takeover", "process", "publish", "checkpoint"),
    "summarize": ("takeover", "process", "publish", "checkpoint"),
}
"""The steps of each stage's lanes; between any two of them a crash leaves other traces."""


class CrashPoint:
    """The n-th time that any lane of a stage begins a step.

    Args:
        stage: Stage name.
        step: One of its `STEPS`.
        count: n, from 1, over all lanes of the worker.
    """

    def __init__(self, stage: str, step: str, count: int) -> None:
        self.stage, self.step, self.count = stage, step, count
        self._left = count

    def __str__(self) -> str:
        return f"{self.stage}:{self.step}:{self.count}"

    def enter(self, stage: str, step: str) -> None:
        """A lane begins a step; at the n-th time this process ends by SIGKILL."""
        if (stage, step) != (self.stage, self.step):
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def armed(environ: Mapping[str, str]) -> CrashPoint | None:
    """The crash point that `VARIABLE` names; None where it is unset.

    Raises:
        SettingsError: it names no step of a stage. Fatal.

    Example:
        >>> str(armed({"HEADRACE_CRASH_AT": "enrich:publish:3"}))
        'enrich:publish:3'
    """
    text = environ.get(VARIABLE)
    if text is None:
        return None
    stage, _, rest = text.partition(":")
    step, _, count = rest.rpartition(":")
    if step not in STEPS.get(stage, ()) or not (count.isascii() and count.isdigit() and int(count)):
        known = ", ".join(f"{stage}:{step}" for stage, steps in STEPS.items() for step in steps)
        raise SettingsError(
            f"{VARIABLE} is {text!r}, expected <stage>:<step>:<n> with n from 1, of: {known}"
        )
    return CrashPoint(stage, step, int(count))
