"""What was redriven too late for its place in time, and how it gets its features all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from integration.deadletter.plant import GOOD, HOT, RIGHT_MAX, WRONG_MAX, Plant

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of

pytestmark = pytest.mark.slow

LOADS = [GOOD, HOT, GOOD, HOT, GOOD, GOOD]
LATENESS_S = 1.0


class Again(Plant):
    """The mended file under another name, on the telemetry of the first one.

    Args:
        first: The pipeline whose telemetry it reads.
        name: A name that is new to bus and store.
    """

    def __init__(self, first: Plant, name: str) -> None:
        self._telemetry = first.topics.telemetry.name
        bus, store = first.endpoints.bus.url, first.endpoints.store.url
        super().__init__(first.folder, bus, store, name, embedded=first.endpoints.embedded)

    def map(self, top: float, *, share: float = 1.0, lateness_s: float = LATENESS_S) -> None:
        """Deploy the right mapping."""
        super().map(RIGHT_MAX, share=share, lateness_s=lateness_s)
        named = f'[topics]\ntelemetry = "{self._telemetry}"\n'
        self.file.write_text(self.file.read_text().replace("[topics]\n", named))
        self.pipeline = load_pipeline(self.file)
        self.topics = topics_of(self.pipeline)


@pytest.fixture
def plant(tmp_path: Path, tansu_url: str, store_url: str, unique) -> Plant:
    """A pipeline whose mapping is wrong."""
    made = Plant(tmp_path, tansu_url, store_url, unique("redrive"), embedded=True)
    made.map(WRONG_MAX, lateness_s=LATENESS_S)
    asyncio.run(made.prepare())
    return made


async def test_redriven_too_late_it_is_late_and_a_second_reading_serves_it_in_its_place(
    plant: Plant, unique
) -> None:
    """It is not folded into a state that has gone on; read from the start, everything is there."""
    await plant.send(LOADS)
    await plant.enrich()
    assert [letter.code for letter in await plant.dead()] == ["metric.range"] * 2
    plant.map(RIGHT_MAX, lateness_s=LATENESS_S)
    assert plant.deadletter("redrive")["redriven"] == 2
    await plant.enrich()
    assert set(await plant.featured()) == {"e0", "e2", "e4", "e5"}
    assert await plant.late() == 2

    again = Again(plant, unique("again"))
    await again.prepare()
    await again.enrich()
    assert list(await again.featured()) == [f"e{n}" for n in range(len(LOADS))]
