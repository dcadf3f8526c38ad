"""A life that is to end at a crash point gets the events that takes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from headrace.streams.drill import strikes
from headrace.streams.drill.schedule import Fault
from headrace.streams.drill.strikes import Scene, strike


class Lives:
    """Workers that come to their crash point once enough was sent to them when they were ready."""

    looks = 0

    def __init__(self, sender: Sends, needs: int) -> None:
        self.sender, self.needs, self.started = sender, needs, list[tuple[str, str | None]]()

    def start(self, *names: str, crash_at: str | None = None) -> None:
        self.started.extend((name, crash_at) for name in names)

    def kill(self, *names: str) -> None:
        pass

    def is_ready(self, name: str) -> bool:
        self.looks += 1
        return self.looks > 5

    async def died(self, name: str, *, within_s: float) -> bool:
        for _ in range(200):
            if self.sender.sent >= self.needs:
                return True
            await asyncio.sleep(0)
        return False


class Sends:
    """Counts what was sent."""

    sent = 0

    async def send(self, count: int, mood: str = "calm") -> None:
        self.sent += count
        await asyncio.sleep(0)


@pytest.mark.parametrize("point", ["summarize:checkpoint:1", "serve:process:10"])
async def test_the_load_goes_on_until_the_point(
    monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """40,000 events are needed; at its own rate the load would send none of them in time."""
    monkeypatch.setattr(strikes, "FEED_S", 0.0)
    sender = Sends()
    lives = Lives(sender, 40_000)
    scene = Scene(*cast("tuple[Any, Any, Any, Any]", (None, sender, lives, None)))

    struck = await strike(Fault("kill", 0, "any", 0.0, ("serve",), 0.0, (point,)), scene)

    assert struck.reached
    assert lives.started == [("serve", point), ("serve", None)]
    assert sender.sent == 40_000
    assert lives.looks == 25
    assert len(asyncio.all_tasks()) == 1


async def test_a_second_worker_begins_after_the_first_ones_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are down; the one with the point lives, ends, and only then both are there."""
    monkeypatch.setattr(strikes, "FEED_S", 0.0)
    sender = Sends()
    lives = Lives(sender, 1)
    scene = Scene(*cast("tuple[Any, Any, Any, Any]", (None, sender, lives, None)))
    point = "summarize:publish:1"

    await strike(Fault("kill", 0, "any", 0.0, ("serve", "serve-2"), 0.0, (point,)), scene)

    assert lives.started == [("serve", point), ("serve", None), ("serve-2", None)]
