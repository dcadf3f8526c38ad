"""A bad deploy: the worker stops with one line instead of diverting everything."""

from __future__ import annotations

import pytest
from integration.deadletter.plant import HOT, RIGHT_MAX, WRONG_MAX, Plant


@pytest.mark.slow
async def test_a_bad_deploy_stops_and_loses_nothing(kafka_plant: Plant) -> None:
    """Most events dead: one line, exit 2, no offset beyond what is on a topic; mended, all is back.

    `headrace up` runs both stages, so this is what an operator sees.
    """
    plant, count = kafka_plant, 5000
    plant.map(WRONG_MAX, share=0.5)
    await plant.send([HOT] * count)

    ended = plant.run("up", str(plant.file))

    last = ended.stderr.decode().splitlines()[-1]
    assert ended.returncode == 2, ended.stderr.decode()
    assert "went to the dead letter, allowed are 50 %" in last
    assert "Traceback" not in ended.stderr.decode()
    letters = await plant.dead()
    assert 1000 <= len(letters) < count
    assert [letter.origin.offset for letter in letters] == list(range(len(letters)))
    assert (await plant.committed())[0] in (None, *range(len(letters) + 1))

    plant.map(RIGHT_MAX, share=0.5)
    assert plant.deadletter("redrive")["redriven"] == len(letters)
    await plant.enrich()
    assert await plant.featured() == {f"e{n}": 1 for n in range(count)}
    assert await plant.late() == 0
