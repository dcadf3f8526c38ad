"""A worker restarted with nothing new to read must know its own log again.

The embedded bus lists the end of a log within its last record batch. A checkpoint behind that end
was set aside as of another log: the state was dropped, and everything published again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from integration.deadletter.plant import GOOD, Plant


def said(folder: Path) -> str:
    """What the last worker wrote on standard error."""
    (log,) = folder.glob("*.log")
    return log.read_text("utf-8")


async def test_a_restarted_worker_keeps_its_state(tmp_path: Path, tansu_url, store_url, unique):
    """Three lives: one finds nothing new, the last only repeats; every event is published once."""
    plant = Plant(tmp_path, tansu_url, store_url, unique("restart"), embedded=True)
    await plant.prepare()
    for loads in ([GOOD] * 6, [], [GOOD] * 6):
        if loads:
            await plant.send(loads)
        await plant.enrich()
        assert "another log" not in said(tmp_path)

    assert await plant.featured() == Counter({f"e{n}": 1 for n in range(6)})
