"""What a site says of its workers, bus and store, and when it starts a worker again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from headrace.schemas.errors import FatalError
from headrace.streams.health.site_health import SiteHealth
from headrace.streams.health.verdict import Limits
from headrace.streams.workers.jobs import STAGES, PartitionStatus, StateFacts, Status
from headrace.streams.workers.supervisor import Supervisor, Worker

TOPIC = "headrace.press.telemetry.v1"


class Process:
    """Runs until it is killed."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> None:
        await self._ended.wait()

    def close(self) -> None:
        """It is deaf."""

    def kill(self) -> None:
        self.returncode = -9
        self._ended.set()


class Scene:
    """A supervisor that starts no process, and a clock."""

    def __init__(self) -> None:
        self.supervisor = Supervisor(Path("p.toml"), STAGES)
        self.enrich, self.serve = self.supervisor.workers
        self.health = SiteHealth(self.supervisor, Limits(), "press")
        self.health._dependencies.trouble = {"bus": None, "store": None}
        self.now_s = 0.0
        for worker in self.supervisor.workers:
            self.lives(worker)
            self.says(worker)

    def lives(self, worker: Worker) -> None:
        """Its process runs."""
        worker.process = Process()

    def says(self, worker: Worker, **facts: object) -> None:
        """A new status line; ready and without a share unless said otherwise."""
        worker.status = Status(stage=worker.stage, **{"ready": True, "topic": TOPIC, **facts})

    def look(self, for_s: float = 0.5, *, final: Status | None = None, **facts: object) -> None:
        """Looks every half second; ENRICH says these facts again and again, SERVE is well."""
        for _ in range(round(for_s / 0.5)):
            self.now_s += 0.5
            self.says(self.serve, beside=final)
            if facts:
                self.says(self.enrich, **facts)
            for watched in self.health._watched:
                self.health._look(watched, self.now_s)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


def stuck(step: str = "publish") -> dict[str, object]:
    """Facts of a worker whose partition 2 does not get on."""
    parts = (PartitionStatus(partition=2, position=8812, lag=5, in_flight=1, step=step),)
    return {"partitions": parts, "lag": 5}


async def test_all_well(scene: Scene) -> None:
    """Live and ready, and the facts are JSON."""
    scene.look(10, partitions=(PartitionStatus(partition=0, position=4),))

    assert scene.health.not_live() == scene.health.not_ready() == []
    facts = json.loads(json.dumps(scene.health.facts()))
    assert (facts["live"], facts["ready"], facts["bus"]) == (True, True, "answers")
    assert facts["workers"][0]["partitions"] == [
        {
            "partition": 0, "position": 4, "lag": 0, "in_flight": 0, "given": 0, "taken_over": True,
            "step": None, "step_s": 0.0, "still_s": 0.0,
        }
    ]  # fmt: skip


async def test_what_a_worker_holds_is_told_with_its_bound(scene: Scene) -> None:
    """Bytes held and how many may be, devices, and their clocks; SERVE remembers no device."""
    state = StateFacts(entities=3, bytes=900, clocks={"ahead": 1, "right": 2, "behind": 0})
    scene.look(rss_mb=71.26, held_bytes=5, held_limit_bytes=90, state=state)
    enrich, serve = json.loads(json.dumps(scene.health.facts()))["workers"]

    assert enrich["memory"] == {
        "rss_mb": 71.3,
        "held_bytes": 5,
        "held_limit_bytes": 90,
        "state": {
            "entities": 3,
            "bytes": 900,
            "clocks": {"ahead": 1, "right": 2, "behind": 0},
            "behind_s": {},
        },
    }
    assert serve["memory"]["state"] is None


def final(held_bytes: int, behind_s: dict[str, float]) -> Status:
    """A finaliser that works."""
    parts = (PartitionStatus(partition=0, position=7),)
    state = StateFacts(bytes=held_bytes, behind_s=behind_s)
    return Status(stage="summarize", ready=True, state=state, partitions=parts)


async def test_what_summaries_wait_for_is_named(scene: Scene) -> None:
    """The partition that is furthest behind; none where all are equally far."""
    scene.look(final=final(500, {"0": 0.0, "3": 40.0, "7": 20.0}))
    assert scene.health.facts()["workers"][1]["summaries"] == {
        "held_bytes": 500,
        "waits_for": 3,
        "behind_s": 40.0,
    }
    scene.look(final=final(500, {"0": 0.0, "3": 0.0}))
    assert scene.health.facts()["workers"][1]["summaries"]["waits_for"] is None
    assert scene.health.facts()["workers"][0]["summaries"] is None


async def test_a_finaliser_that_holds_too_much_says_for_whom(scene: Scene, caplog) -> None:
    """One line when it begins and one when it is over; live and ready all the while."""
    scene.look(60, partitions=(), final=final(300 << 20, {"0": 0.0, "3": 40.0}))
    assert scene.health.not_live() == scene.health.not_ready() == []
    assert scene.serve.ending is None
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("serve/summarize holds 300 MiB of parts of summaries, expected at most")
    assert "they wait for partition 3, 40 s of event time behind" in line

    scene.look(60, partitions=(), final=final(200 << 20, {"0": 0.0}))
    assert caplog.records[-1].getMessage() == "serve is idle again, it was holding"
    scene.look(60, partitions=(), final=final(300 << 20, {"0": 0.0}))
    assert "no partition is behind; shorten summary.amend_s" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("name", ["bus", "store"])
async def test_a_dependency_is_named(scene: Scene, name: str) -> None:
    """Not ready, alive, and the one that is the matter is the first word."""
    scene.health._dependencies.trouble[name] = "no answer within 3 s"
    scene.look()

    assert scene.health.not_ready() == [f"{name}: no answer within 3 s"]
    assert scene.health.not_live() == []


async def test_takeovers_are_named(scene: Scene) -> None:
    """Each partition that is still being taken over."""
    parts = tuple(
        PartitionStatus(partition=p, taken_over=p != 3, step="takeover" if p == 3 else None)
        for p in range(5)
    )
    scene.look(ready=False, partitions=parts)

    assert scene.health.not_ready() == [f"takeover of {TOPIC}[3] by enrich"]


async def test_a_worker_without_a_share_is_not_ready(scene: Scene) -> None:
    """It has not joined its group."""
    scene.look(ready=False)

    assert scene.health.not_ready() == ["takeover: enrich has not got its share of the group yet"]


async def test_the_model_is_named(scene: Scene) -> None:
    """SERVE says nothing before its model is loaded and checked."""
    scene.serve.status = None

    assert scene.health.not_ready() == ["model: serve is loading and checking it"]


async def test_a_dead_worker_is_unready_not_unlive(scene: Scene) -> None:
    """It is started again by itself, however long the pause; killing us would not help."""
    scene.enrich.process.kill()
    scene.look(60)

    assert scene.health.not_ready() == ["enrich is not running; it is started again"]
    assert scene.health.not_live() == []


async def test_a_silent_worker_is_neither(scene: Scene) -> None:
    """Within ten seconds, by name; well again with its next line."""
    scene.look()
    scene.look(6)

    [line] = scene.health.not_live()
    assert line.startswith("enrich is silent: no status line for 6 s")
    assert scene.health.not_ready() == [line]
    scene.look(partitions=())
    assert scene.health.not_live() == scene.health.not_ready() == []


async def test_stuck_is_logged_once_and_ends(scene: Scene, caplog) -> None:
    """One line when it begins, one when it is over, none in between."""
    scene.look(60, **stuck())
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["enrich is stuck"]
    assert f"{TOPIC}[2]@8812" in scene.health.not_live()[0]

    scene.look(60, partitions=(PartitionStatus(partition=2, position=9000),))
    assert [r.getMessage() for r in caplog.records][1:] == ["enrich is idle again, it was stuck"]


async def test_restarts_then_gives_up(scene: Scene, monkeypatch) -> None:
    """Three restarts, each after its time; the fourth within ten minutes ends the command."""
    asked: list[float] = []

    def restart(worker: Worker, why: str) -> None:
        """Told to end, and already there again."""
        assert worker is scene.enrich
        assert why.startswith("enrich is stuck")
        asked.append(scene.now_s)
        worker.restarts += 1
        worker.status = None

    monkeypatch.setattr(scene.supervisor, "restart", restart)
    scene.look(500, **stuck())

    assert len(asked) == 3
    assert all(b - a >= 120 for a, b in zip([0.0, *asked], asked, strict=False))
    with pytest.raises(FatalError) as caught:
        await scene.supervisor.failed()
    assert str(caught.value).startswith(
        f"worker enrich was started again 3 times within 10 min and does not get on: enrich is "
        f"stuck: {TOPIC}[2]@8812"
    )


async def test_a_worker_that_is_ending_is_left_alone(scene: Scene, caplog) -> None:
    """One request to restart, however long the end takes; unready with the reason meanwhile."""
    scene.look(121, **stuck())
    assert scene.enrich.ending is not None
    before = len(caplog.records)
    scene.look(60, **stuck())

    assert len(caplog.records) == before
    assert scene.health.not_ready()[0].startswith("enrich is being started again: enrich is stuck")


async def test_waiting_for_the_store_restarts_nothing(scene: Scene) -> None:
    """An hour without the store: unready, alive, never started again."""
    scene.health._dependencies.trouble["store"] = "no answer within 3 s"
    scene.look(3600, **stuck("checkpoint"))

    assert scene.enrich.ending is None
    assert scene.health.not_live() == []
    first, second = scene.health.not_ready()
    assert first == "store: no answer within 3 s"
    assert second.startswith("enrich waits for the store: ")
