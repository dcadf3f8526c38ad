"""What a lane tells of itself while it works, and what the status line makes of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes.lane_readings import RECORDS, STEPS, FakeDriver, FakeLane, LaneDriver

from headrace.streams.health.readings import partition_statuses
from headrace.streams.workers.jobs import PartitionStatus

Driver = FakeDriver | LaneDriver


async def drive(driver: Driver) -> None:
    """One takeover and one batch, every reading checked at every step."""
    began_s = time.monotonic()
    try:
        for name in STEPS:
            await driver.reach(name)
            step = driver.lane.step
            assert step is not None
            assert step[0] == name
            assert began_s <= step[1] <= time.monotonic()
            await asyncio.sleep(0.002)
            assert driver.lane.step == step, "a step keeps its beginning"
            assert driver.lane.ready == (name != "takeover")
            assert driver.lane.position == 0
            await driver.finish(name)
        assert driver.lane.step is None
        assert driver.lane.position == RECORDS
    finally:
        await driver.end()


async def test_the_fake_keeps_the_contract() -> None:
    """Tests that use it test what the lane does."""
    await drive(FakeDriver())


async def test_the_lane_keeps_the_contract() -> None:
    """The real lane, held in each of its steps."""
    driver = LaneDriver()
    await drive(driver)
    assert driver.failures == []


class Forgetful(FakeDriver):
    """Leaves its last step in hand."""

    async def finish(self, name: str) -> None:
        step = self.lane.step
        await super().finish(name)
        self.lane.step = step


class Restless(FakeDriver):
    """Begins its step anew whenever somebody looks."""

    def __init__(self) -> None:
        super().__init__(RestlessLane())


class RestlessLane(FakeLane):
    """See `Restless`."""

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        return (value[0], time.monotonic()) if name == "step" and value else value


@pytest.mark.parametrize("bad", [Forgetful, Restless])
async def test_the_contract_can_fail(bad: type[FakeDriver]) -> None:
    """A lane that forgets to end a step, and one whose steps never age, are found."""
    with pytest.raises(AssertionError):
        await drive(bad())


def test_the_status_line_says_what_the_lanes_say() -> None:
    """By partition number; a lane in its takeover is not taken over, whatever it was before."""
    lanes = [
        FakeLane(2, ready=True, step=("takeover", 90.0), position=7),
        FakeLane(0, ready=True, step=("publish", 99.75), position=40),
        FakeLane(1, ready=True, position=5),
        FakeLane(3, step=("takeover", 101.0)),
    ]
    found = partition_statuses(lanes, lag={0: 9, 9: 1}, in_flight={0: 2}, now_s=100.0)

    assert found == (
        PartitionStatus(partition=0, position=40, lag=9, in_flight=2, step="publish", step_s=0.25),
        PartitionStatus(partition=1, position=5),
        PartitionStatus(partition=2, position=7, taken_over=False, step="takeover", step_s=10.0),
        PartitionStatus(partition=3, taken_over=False, step="takeover"),
    )
