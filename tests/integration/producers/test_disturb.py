"""A disturbance ends by itself, whatever happens to who asked for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from headrace.schemas.errors import SettingsError
from headrace.streams.producers.disturb import Disturbance, usable_cores


def until(claim: Callable[[], bool], seconds: float) -> bool:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if claim():
            return True
        time.sleep(0.02)
    return False


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_ends_by_itself() -> None:
    """After its time nothing of it runs."""
    start_s = time.monotonic()
    burning = Disturbance(seconds=0.4, cores=1).start()
    assert burning.is_running()
    burning.wait()
    assert time.monotonic() - start_s > 0.3
    assert not burning.is_running()


def test_it_burns_the_share_asked_for() -> None:
    """At half share one process uses about half a core, or what others leave it of that."""
    before = os.times()
    Disturbance(seconds=1.0, cores=1, share=0.5).start().wait()
    after = os.times()
    used_s = sum(after[2:4]) - sum(before[2:4])
    assert 0 < used_s < 0.75


def test_stop_ends_it_at_once() -> None:
    """Leaving the block ends the burners long before their time."""
    start_s = time.monotonic()
    with Disturbance(seconds=60) as burning:
        assert len(burning.pids) == len(usable_cores())
    assert time.monotonic() - start_s < 50
    assert not burning.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_ends_when_its_parent_is_killed() -> None:
    """SIGKILL of the parent leaves no burner behind."""
    code = (
        "from headrace.streams.producers.disturb import Disturbance\n"
        "burning = Disturbance(seconds=60, cores=1).start()\n"
        "print(burning.pids[0], flush=True)\n"
        "burning.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not is_gone(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert until(lambda: is_gone(pid), 3.0)


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 0},
        {"seconds": 601},
        {"seconds": 1, "cores": 0},
        {"seconds": 1, "cores": 100_000},
        {"seconds": 1, "share": 0},
        {"seconds": 1, "share": 1.5},
        {"seconds": float("nan")},
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, float]) -> None:
    """An endless or impossible disturbance is one line, before anything runs."""
    with pytest.raises(SettingsError, match=r"a disturbance of .* is not possible"):
        Disturbance(**options)  # type: ignore[arg-type]
