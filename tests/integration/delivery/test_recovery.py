"""Every way in which store, log and offsets can be lost or changed, on a real Kafka and Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions
from integration.delivery.ruins import BATCH_ROWS, DEADLINE_S, Flow, servers

from headrace.feature_store.open import open_store
from headrace.feature_store.snapshot_places import open_snapshots
from headrace.schemas.errors import StateError, TopicError
from headrace.streams.client.clock import wall_clock

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeFlow = Callable[..., Flow]


class Store:
    """A server that can be emptied, and swapped for a replica that has fallen behind."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._folder = folder
        self.port = self._start("primary")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._replica = 0

    def _start(self, name: str) -> int:
        folder = self._folder / name
        folder.mkdir()
        port = servers.free_port()
        self._stack.enter_context(
            servers.server(folder, "--port", str(port), "--repl-diskless-sync-delay", "0",
                           ready=port)
        )  # fmt: skip
        return int(port)

    def empty(self) -> None:
        assert "OK" in servers.resp(self.port, "FLUSHALL")

    def keep_a_replica(self) -> None:
        """From now on a replica has what we have now, and nothing that comes later."""
        self._replica = self._replica or self._start("replica")
        self._follow(self._replica, self.port)
        servers.resp(self._replica, "REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """The stale replica takes over at the address that clients know."""
        self._follow(self.port, self._replica)
        servers.resp(self.port, "REPLICAOF", "NO", "ONE")

    def _follow(self, port: int, primary: int) -> None:
        servers.resp(port, "REPLICAOF", "127.0.0.1", str(primary))
        give_up = time.monotonic() + DEADLINE_S
        while True:
            told = servers.resp(port, "INFO", "replication")
            if "master_link_status:up" in told and "master_sync_in_progress:0" in told:
                return
            assert time.monotonic() < give_up, told
            time.sleep(0.02)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A server of this test's own."""
    made = Store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path, kafka_url: str, store: Store, unique: Callable[[str], str]) -> MakeFlow:
    """A flow under a new name, on the session's Kafka and this test's store."""
    return lambda **kwargs: Flow(tmp_path, kafka_url, store.url, unique("flow"), **kwargs)


async def check(
    flow: Flow, count: int, *, rebuilt_from: int | None = None, repeats: int = 0
) -> None:
    """Every event once, the bits of a run without faults, flagged from there on and only then.

    At most so many `repeats`, each equal to what was there before.
    """
    every = await flow.features()
    found = list(dict.fromkeys(every))
    assert len(every) - len(found) <= repeats
    assert [event for _, event, _, _ in found] == [f"e{n}" for n in range(count)]
    flags = [offset for offset, _, _, rebuilt in found if rebuilt]
    if rebuilt_from is None:
        assert [bits for _, _, bits, _ in found] == await flow.without_faults(range(count))
        assert flags == []
    else:
        assert flags == list(range(rebuilt_from, count))


async def test_an_emptied_store_is_rebuilt_from_the_log(make: MakeFlow, store: Store) -> None:
    """Between two lives, and under a running worker, which takes over again by itself.

    What the store holds then has the hash of what it held.
    """
    flow = make()
    await flow.prepare()
    await flow.send(range(40))
    await flow.live()
    before = await flow.remembered()
    store.empty()
    await flow.live()
    assert await flow.remembered() == before
    store.empty()
    await flow.send(range(40, 60))
    async with flow.living() as running:
        await flow.drained()
        assert running["enrich"].counters.replayed == 40
        store.empty()
        await flow.send(range(60, 80))
        await flow.drained()
    await check(flow, 80, repeats=BATCH_ROWS)


@pytest.mark.parametrize("mode", ["at-least-once", "exactly-once"])
async def test_a_truncated_log_reaches_a_snapshot(
    make: MakeFlow, store: Store, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Store and the log's beginning are gone: the snapshot and what lies behind it are enough."""
    flow = make(snapshots=0.001, mode=mode)
    await flow.prepare()
    async with flow.living():
        for begin in range(0, 40, 8):
            await flow.send(range(begin, begin + 8))
            await flow.drained()
    at = await flow.committed("enrich")
    assert at is not None
    await flow.send(range(40, 60))
    store.empty()
    kept = open_snapshots(flow.endpoints.snapshots, flow.pipeline.name, wall_clock)
    assert kept is not None
    newest = kept.stored(f"enrich/{flow.topics.telemetry.name}/0")[0].position
    await flow.truncate(newest)
    running = await flow.live()
    assert running["enrich"].counters.replayed <= at - newest
    assert f"from the snapshot at offset {newest}" in caplog.text
    await check(flow, 60)


async def test_a_damaged_snapshot_is_passed_over(
    make: MakeFlow, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line, and the next older one is taken."""
    flow = make(snapshots=0.001)
    await flow.prepare()
    async with flow.living():
        for begin in range(0, 40, 8):
            await flow.send(range(begin, begin + 8))
            await flow.drained()
    newest, before, *_ = sorted((flow.folder / "snapshots").rglob("*.snapshot"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-1])
    store.empty()
    await flow.send(range(40, 50))
    await flow.live()
    lines = [r.getMessage() for r in caplog.records if "is passed over" in r.getMessage()]
    assert [newest.name in line for line in lines] == [True]
    assert f"from the snapshot at offset {int(before.name.split('-')[0])}" in caplog.text
    await check(flow, 50)


async def test_what_a_truncated_log_cannot_give_is_flagged(make: MakeFlow, store: Store) -> None:
    """Without a snapshot the state is rebuilt from what there is: features and predictions say so.

    Also after a restart, and never before the loss.
    """
    flow = make()
    await flow.prepare()
    await flow.send(range(30))
    await flow.live("enrich", "serve")
    await flow.truncate(20)
    store.empty()
    await flow.send(range(30, 40))
    await flow.live("enrich", "serve")
    await flow.send(range(40, 50))
    await flow.live("enrich", "serve")
    await check(flow, 50, rebuilt_from=30)
    predictions = await flow.predictions()
    flags = {p["event_id"]: p["flags"] for p in predictions}
    assert flags == {f"e{n}": ["rebuilt"] if n >= 30 else [] for n in range(50)}
    assert len(predictions) == 50


async def test_a_store_that_lags_is_caught_up_silently(make: MakeFlow, store: Store) -> None:
    """Restarted from an old copy: what lies between checkpoint and offset is folded again."""
    flow = make()
    await flow.prepare()
    await flow.send(range(20))
    await flow.live()
    store.keep_a_replica()
    await flow.send(range(20, 45))
    await flow.live()
    store.fail_over()
    await flow.send(range(45, 60))
    running = await flow.live()
    assert running["enrich"].counters.replayed == 25
    await check(flow, 60)


async def test_a_fail_over_to_a_stale_replica_is_noticed(make: MakeFlow, store: Store) -> None:
    """Under a running worker: another R under our claim, so the state is written whole."""
    flow = make()
    await flow.prepare()
    async with flow.living() as running:
        await flow.send(range(20))
        await flow.drained()
        store.keep_a_replica()
        await flow.send(range(20, 40))
        await flow.drained()
        await asyncio.to_thread(store.fail_over)
        await flow.send(range(40, 50))
        await flow.drained()
        assert running["enrich"].counters.rewrites == 1
    await flow.send(range(50, 60))
    again = await flow.live()
    assert again["enrich"].counters.replayed == 0
    await check(flow, 60)


async def test_a_topic_made_anew_is_read_from_its_start(
    make: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it is longer by now than the old one was; by ENRICH and by SERVE."""
    flow = make()
    await flow.prepare()
    await flow.send(range(20))
    await flow.live("enrich", "serve")
    await flow.recreate_telemetry()
    await flow.send(range(100, 130))
    await flow.live("enrich", "serve")
    found = await flow.features()
    events = [f"e{n}" for n in [*range(20), *range(100, 130)]]
    assert [event for _, event, _, _ in found] == events
    assert [bits for _, _, bits, _ in found[20:]] == await flow.without_faults(range(100, 130))
    assert [p["event_id"] for p in await flow.predictions()] == events
    assert caplog.text.count("is another log than its checkpoint's") == 1
    online = await open_store(flow.endpoints.store, flow.pipeline.name)
    try:
        kept = await online.read(f"enrich/{flow.topics.telemetry.name}/0")
    finally:
        await online.close()
    assert kept is not None
    assert (kept.meta.epoch, kept.meta.position) == (1, 30)


async def test_offsets_set_by_hand(make: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    """Back changes nothing, forward leaves out what lies between; each says so."""
    flow = make()
    await flow.prepare()
    await flow.send(range(20))
    await flow.live()
    await flow.set_offset("enrich", 5)
    await flow.send(range(20, 30))
    await flow.live()
    await check(flow, 30)
    assert "lies 15 behind its state: they were done and are not done again" in caplog.text
    await flow.send(range(30, 50))
    await flow.set_offset("enrich", 40)
    await flow.live()
    found = await flow.features()
    assert [offset for offset, *_ in found] == [*range(30), *range(40, 50)]
    assert [bits for _, _, bits, _ in found[30:]] == (await flow.without_faults(range(50)))[40:]
    assert "lies 10 ahead of its state: they are folded into it and not published" in caplog.text


async def test_a_group_that_is_gone_goes_on_at_its_checkpoint(make: MakeFlow) -> None:
    """Nothing is left out, nothing comes twice."""
    flow = make()
    await flow.prepare()
    await flow.send(range(20))
    await flow.live()
    await flow.forget_group("enrich")
    await flow.send(range(20, 30))
    await flow.live()
    await check(flow, 30)


async def test_another_partition_count_is_refused(make: MakeFlow) -> None:
    """By the topics, and where those were changed too, by the checkpoint; with what to do."""
    flow = make()
    await flow.prepare()
    await flow.send(range(10))
    await flow.live()
    topics = [topic.name for topic in flow.topics.all()]
    async with flow.admin() as admin:
        await admin.create_partitions({topic: NewPartitions(2) for topic in topics})
    with pytest.raises(TopicError, match="partitions"):
        await flow.prepare()
    flow.deploy(partitions=2)
    with pytest.raises(TopicError, match="restore that count, or give the pipeline a new name"):
        await flow.live()


async def test_neither_offset_nor_checkpoint_asks_where_to_begin(
    make: MakeFlow, store: Store
) -> None:
    """While outputs exist; told so, it begins there, and what comes again is equal."""
    flow = make()
    await flow.prepare()
    await flow.send(range(20))
    await flow.live()
    await flow.forget_group("enrich")
    store.empty()
    await flow.send(range(20, 30))
    with pytest.raises(StateError, match="--from earliest"):
        await flow.live()
    await flow.live(start="earliest")
    found = await flow.features()
    assert [offset for offset, *_ in found] == [*range(20), *range(30)]
    expected = await flow.without_faults(range(30))
    assert [bits for _, _, bits, _ in found] == expected[:20] + expected
