"""Workers of one group share an export; one that is killed is inherited from, to the byte."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from fakes.replay_runs import a_topic, files, headrace, start
from fakes.services import without

try:
    import pyarrow as _  # noqa: F401
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")


@pytest.mark.slow
async def test_a_killed_worker_is_inherited_from(kafka_logs: Any, tmp_path: Path) -> None:
    """Two workers of one group, one killed at work: the folder of a worker that was alone."""
    file = await a_topic(kafka_logs, tmp_path, 12_000)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    common = ("replay", "telemetry", "-p", file, "--offsets", "0:0-6000,1:0-6000")
    assert (await headrace(kafka_logs, *common, "-o", alone, "--full-speed"))[0] == 0

    share = (*common, "-o", shared, "--group", "g", "--rate")
    victim = await start(kafka_logs, *share, "2000")
    while not list(shared.glob("p*/.*")):  # it makes a part
        await asyncio.sleep(0.02)
    heir = await start(kafka_logs, *share, "100000")
    await asyncio.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    await heir.communicate()

    assert heir.returncode == 0
    left = files(shared)
    assert {n: c for n, c in left.items() if "/." not in n} == files(alone)
