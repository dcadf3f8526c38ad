"""A crash point ends the process at the n-th step of its name, and only then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from headrace.schemas.errors import SettingsError
from headrace.streams.drill.crash_points import STEPS, VARIABLE, armed

LIFE = """
import os
from headrace.streams.drill.crash_points import armed
point = armed(os.environ)
for number in range(1, 6):
    point.enter("serve", "publish")
    point.enter("enrich", "process")
    point.enter("enrich", "publish")
    print(number, flush=True)
"""


def test_it_ends_the_process_at_the_nth_time() -> None:
    """SIGKILL, at the third such step; other steps and other stages do not count."""
    done = subprocess.run(
        [sys.executable, "-c", LIFE],
        env={VARIABLE: "enrich:publish:3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["1", "2"]


BAD = ["", "enrich", "enrich:publish", "enrich:publish:0", "enrich:publish:x", "enrich:publish:-1"]
BAD += ["enrich:fly:1", "serve:online rows:1", "else:publish:1"]


@pytest.mark.parametrize("text", BAD)
def test_a_point_that_is_none_is_refused(text) -> None:
    """A drill that could never strike says so."""
    with pytest.raises(SettingsError, match="expected <stage>:<step>:<n>"):
        armed({VARIABLE: text})


def test_every_point_is_read_back() -> None:
    """What a schedule writes is what a worker reads."""
    for stage, steps in STEPS.items():
        for step in steps:
            point = armed({VARIABLE: f"{stage}:{step}:2"})
            assert (point.stage, point.step, point.count) == (stage, step, 2)
    assert armed({}) is None


def test_a_worker_asks_itself_after_what_it_runs_was_imported() -> None:
    """It is forked from a process that has imported everything and was told nothing."""
    program = (
        "import os; from headrace.streams.delivery import lane; "
        f"os.environ[{VARIABLE!r}] = 'serve:publish:2'; print(lane.crash_point())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "serve:publish:2", done.stderr
