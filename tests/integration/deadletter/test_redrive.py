"""Dead letters put back on a real bus: each event is served once, or says why it is not."""

from __future__ import annotations

import pytest
from integration.deadletter.plant import GOOD, HOT, RIGHT_MAX, Plant

pytestmark = pytest.mark.slow

LOADS = [GOOD, HOT, GOOD, HOT, HOT, GOOD]
DEAD = ["e1", "e3", "e4"]

KILLED = """
import os, signal
from headrace.streams.client.kafka_bus import KafkaWriter
write = KafkaWriter.write

async def dying(self, *args):
    if self._topic.endswith(".deadletter.v1"):
        os.kill(os.getpid(), signal.SIGKILL)
    return await write(self, *args)

KafkaWriter.write = dying
from headrace.streams.cli.main import main
main()
"""
"""The command, killed after the events are published and before they are marked."""


async def test_a_mended_mapping_gets_its_events_back(plant: Plant) -> None:
    """Killed between publishing and marking, run again, and again: each event once, in the end."""
    await plant.send(LOADS)
    await plant.enrich()
    letters = await plant.dead()
    assert [letter.code for letter in letters] == ["metric.range"] * 3

    plant.map(RIGHT_MAX)
    killed = plant.run("deadletter", "redrive", str(plant.file), code=KILLED)
    assert killed.returncode == -9
    assert await plant.telemetry() == len(LOADS) + 3
    assert [letter.at for letter in await plant.dead()] == [letter.at for letter in letters]

    assert plant.deadletter("redrive")["redriven"] == 3
    again = plant.deadletter("redrive")
    assert (again["redriven"], again["left"]) == (0, {"redriven": 3})
    assert await plant.telemetry() == len(LOADS) + 6

    await plant.enrich()
    assert await plant.featured() == {f"e{n}": 1 for n in range(len(LOADS))}
    assert (await plant.late(), len(await plant.dead())) == (0, 6)


async def test_what_dies_again_is_counted_and_given_up(plant: Plant) -> None:
    """An event of a mapping that stays wrong is tried three times in all, then left."""
    await plant.send([HOT])
    for attempt in (1, 2, 3):
        await plant.enrich()
        letter = [found for found in await plant.dead() if not found.is_mark][-1]
        assert letter.attempt == attempt
        outcome = plant.deadletter("redrive")
        assert outcome["redriven"] == (attempt < 3)

    letters = [found for found in await plant.dead() if not found.is_mark]
    assert outcome["left"] == {"redriven": 2, "attempts": 1}
    assert len({found.first_seen_ms for found in letters}) == 1
    assert [found.value for found in letters] == [letters[0].value] * 3
    assert dict(letters[2].headers)["headrace-redriven"] == letters[1].at.encode()
    assert letters[2].headers[0] == ("number", b"0")


async def test_an_event_older_than_the_lateness_ends_as_late(plant: Plant) -> None:
    """A redriven event that the watermark has passed goes to the late topic, not nowhere."""
    await plant.send([HOT, *[GOOD] * 60])
    plant.map(10.0, lateness_s=5.0)
    await plant.enrich()

    plant.map(RIGHT_MAX, lateness_s=5.0)
    assert plant.deadletter("redrive")["redriven"] == 1
    await plant.enrich()

    assert await plant.late() == 1
    assert "e0" not in await plant.featured()


async def test_listing_showing_and_choosing(plant: Plant) -> None:
    """Table, one letter whole, its bytes untouched, and a redrive of a part."""
    await plant.send(LOADS)
    await plant.enrich()
    await plant.send([HOT], first=100, partition=1)
    await plant.enrich()

    found = plant.deadletter("list", "--since", "1h", "--limit", "2")
    assert [(r["code"], r["count"]) for r in found["reasons"]] == [("metric.range", 4)]
    assert len(found["letters"]) == 2
    assert plant.deadletter("list", "--reason", "json.invalid")["count"] == 0
    assert plant.deadletter("list", "--since", "2999-01-01T00:00:00Z")["count"] == 0
    place = next(row["at"] for row in found["letters"] if "[1]@" in row["at"])
    letter = next(letter for letter in await plant.dead() if letter.at == place)

    raw = plant.run("deadletter", "show", str(plant.file), place, "--raw")
    whole = plant.run(
        "deadletter", "show", str(plant.file), place.partition("[")[2].replace("]", "")
    )
    assert raw.stdout == letter.value
    assert letter.value.decode() in whole.stdout.decode()
    assert "metric.range" in whole.stdout.decode()
    absent = plant.run("deadletter", "show", str(plant.file), "0@99")
    assert absent.returncode == 2
    assert absent.stderr.count(b"\n") == 1

    assert plant.deadletter("redrive", "--limit", "3", "--dry-run")["redriven"] == 3
    assert await plant.telemetry() == len(LOADS) + 1
    assert plant.deadletter("redrive", "--limit", "3")["redriven"] == 3
    assert plant.deadletter("redrive")["redriven"] == 1
    listed = plant.deadletter("list")
    assert all(row["redriven_to"] for row in listed["letters"])
