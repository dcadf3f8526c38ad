"""A broker that goes away, a stop at a bad moment, and a crash inside Faust."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from integration.transport import services
from integration.transport.harness import DEADLINE_S, Bus, Recorder, running, until

from headrace.schemas.errors import BusUnavailableError, FatalError
from headrace.streams.transport import bus_client
from headrace.streams.transport.consumer import StageConsumer
from headrace.streams.transport.pump import Pump

pytestmark = pytest.mark.integration


@pytest.mark.chaos
@pytest.mark.slow
async def test_broker_restart_is_waited_out() -> None:
    """While the broker is away the stage goes on trying; afterwards nothing is missing."""
    with services.restartable_kafka() as broker:
        bus = Bus(broker.address, embedded=False)
        topic = await bus.topic(2)
        await bus.fill(topic, [500, 500])
        seen = Recorder()
        stage = bus.stage(topic, seen)
        async with running(stage) as run:
            await until(lambda: seen.total == 1000, "the records before")
            await asyncio.to_thread(broker.restart)
            await bus.fill(topic, [300, 300])
            await until(
                lambda: (
                    all(len(set(v)) == 500 for v in seen.values.values())
                    and sum(map(len, map(set, seen.offsets.values()))) == 1600
                ),
                "the records after",
            )
            assert not run.done()
        assert {p: sorted(set(o)) for p, o in seen.offsets.items()} == {
            0: list(range(800)),
            1: list(range(800)),
        }


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2, 0.5])
async def test_stop_at_any_moment_of_the_start(either_bus: Bus, after_s: float) -> None:
    """A stop before, during or right after the start ends run() without an error."""
    topic = await either_bus.topic(1)
    stage = either_bus.stage(topic, Recorder())
    run = asyncio.create_task(stage.run())
    await asyncio.sleep(after_s)
    await stage.stop()
    await asyncio.wait_for(run, DEADLINE_S)


async def test_a_crash_within_faust_is_one_fatal_error(
    transport_kafka: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service of the app that dies ends run() with a FatalError of one line."""

    async def broken(self: StageConsumer) -> bool:
        raise KeyError("secret")

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    monkeypatch.setattr(StageConsumer, "commit", broken)
    with pytest.raises(FatalError, match="KeyError") as raised:
        await asyncio.wait_for(transport_kafka.stage(topic, Recorder()).run(), DEADLINE_S)
    assert "secret" not in str(raised.value)


async def test_cancelled_run_leaves_the_group(transport_kafka: Bus) -> None:
    """Cancelling run() finishes and commits as a stop does."""
    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    seen = Recorder()
    run = asyncio.create_task(transport_kafka.stage(topic, seen, commit_interval_s=30.0).run())
    await until(lambda: seen.total == 10, "all records")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await transport_kafka.committed(f"g-{topic}", topic, 1) == [10]


async def test_handler_that_swallows_its_cancellation_does_not_hold_the_stop(
    transport_kafka: Bus,
) -> None:
    """A revoked() that cannot be cancelled costs shutdown_s and the cut-off, no more."""

    class Stubborn(Recorder):
        released = False

        async def revoked(self, partitions: frozenset[tuple[str, int]]) -> None:
            while not self.released:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    continue

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    seen = Stubborn()
    stage = transport_kafka.stage(topic, seen, shutdown_s=0.3)
    run = asyncio.create_task(stage.run())
    await until(lambda: seen.total == 10, "all records")
    await stage.stop()
    await asyncio.wait_for(run, DEADLINE_S)
    seen.released = True
    await asyncio.sleep(0.2)
    assert await transport_kafka.committed(f"g-{topic}", topic, 1) == [10]


async def test_two_stages_in_one_process(transport_kafka: Bus) -> None:
    """Two groups in one event loop each get their own topic, and nothing of the other's."""
    topics = [await transport_kafka.topic(2) for _ in range(2)]
    seen = [Recorder(), Recorder()]
    for topic, rows in zip(topics, ([100, 0], [0, 50]), strict=True):
        await transport_kafka.fill(topic, rows)
    one, two = (transport_kafka.stage(t, s) for t, s in zip(topics, seen, strict=True))
    async with running(one), running(two):
        await until(lambda: [s.total for s in seen] == [100, 50], "both")
        assert one.ready
        assert two.ready
        assert one.lag == {(topics[0], 0): 0, (topics[0], 1): 0}
    assert [list(s.values) for s in seen] == [[0], [1]]


async def test_a_topic_made_anew_behind_the_clients_back_ends_the_stage(
    transport_kafka: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted and made again between two looks of the client: told, and taken over anew."""
    monkeypatch.setattr(bus_client, "LOOK_S", 0.1)
    monkeypatch.setattr(Pump, "_look_for_topics", lambda self: None)  # it does not notice
    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    seen = Recorder()
    stage = transport_kafka.stage(topic, seen)
    run = asyncio.create_task(stage.run())
    await until(lambda: seen.total == 10, "all records")
    await asyncio.sleep(0.35)  # some looks, in which it is the same one
    assert not run.done()

    admin = AIOKafkaAdminClient(**transport_kafka.options)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        await made(admin, topic)
    finally:
        await admin.close()
    with pytest.raises(BusUnavailableError, match="was made anew"):
        await asyncio.wait_for(run, DEADLINE_S)


async def made(admin: AIOKafkaAdminClient, topic: str) -> None:
    """Make a topic that is just being deleted."""
    for _ in range(200):
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
        if not any(code for _, code, *_ in answer.topic_errors):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{topic} cannot be made anew")
