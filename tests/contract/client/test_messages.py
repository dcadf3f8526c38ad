"""Trigger to message, as the consumers' page has it: addressed, in time or not at all, counted."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import headrace.streams
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.latency import Latency
from headrace.streams.client.partition import Partitioner

PAGE = Path(headrace.streams.__file__).parents[1] / "docs" / "consumer.md"

if not PAGE.exists():
    pytest.skip("documents are not part of the wheel", allow_module_level=True)

AN_HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def invite() -> Callable[..., Awaitable[list[Any]]]:
    """The function of the page."""
    text = PAGE.read_text("utf-8").partition("## Messages that come in time")[2]
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    return found["invite"]


async def test_a_trigger_becomes_one_addressed_message_and_a_late_one_none(world, invite) -> None:
    """Of six triggers two are an hour old: four messages, by addressee, and two counted."""
    world.bus.create("messages", 4)
    now_ms = round(wall_clock() * 1000)
    for number in range(6):
        age_ms = AN_HOUR_MS if number in (1, 4) else 100
        fields = {"device_id": f"person-{number % 3}", "label": "leaving"}
        await world.publish([number], times_ms={"device": now_ms - age_ms}, **fields)
    await world.publish([6], times_ms={"device": now_ms}, label="staying")
    delivered = Latency()

    late = await invite(
        world.bus, world.topic, label="leaving", text=b"one more?", delivered=delivered
    )

    assert [trigger.source_offset for trigger in late] == [1, 4]
    sent: dict[int, list[bytes]] = {}
    for partition, records in enumerate(world.bus.topics["messages"].partitions):
        sent[partition] = [key for key, text, _ in records if text == b"one more?"]
    wanted = [b"person-0", b"person-2", b"person-0", b"person-2"]
    assert sorted(key for keys in sent.values() for key in keys) == sorted(wanted)
    assert all(Partitioner(4).of(key) == place for place, keys in sent.items() for key in keys)
    assert 100 <= delivered.quantile(0.99) < AN_HOUR_MS


async def test_a_sender_that_is_started_again_sends_none_twice(world, invite) -> None:
    """What was acknowledged and finished is not a trigger any more."""
    world.bus.create("messages", 1)
    await world.publish(range(5), times_ms={"device": round(wall_clock() * 1000)}, label="leaving")

    for _ in range(2):
        await invite(world.bus, world.topic, label="leaving", text=b"?", delivered=Latency())

    assert len(world.bus.topics["messages"].partitions[0]) == 5
