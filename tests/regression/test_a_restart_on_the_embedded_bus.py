"""A worker restarted with nothing new to read must know its own log again.

The embedded bus lists the end of a log within its last record batch. A checkpoint behind that end
was set aside as of another log: the state was dropped, and everything published again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from integration.deadletter.plant import GOOD, Plant


def logs(folder: Path) -> list[str]:
    """What each worker wrote on standard error."""
    return [log.read_text("utf-8") for log in folder.glob("*.log")]


async def test_a_restarted_worker_keeps_its_state(tmp_path: Path, tansu_url, store_url, unique):
    """Three lives: two find nothing new, the third only repeats; every event is published once."""
    plant = Plant(tmp_path, tansu_url, store_url, unique("restart"), embedded=True)
    await plant.prepare()
    await plant.send([GOOD] * 6)
    await plant.enrich()
    await plant.enrich()
    await plant.send([GOOD] * 6)
    await plant.enrich()

    assert await plant.featured() == Counter({f"e{n}": 1 for n in range(6)})
    assert ["another log" in log for log in logs(tmp_path)] == [False] * 3
