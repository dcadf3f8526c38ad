"""What a real server does to the stores: restarts, limits, eviction, expiry, odd contents."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headrace.feature_store.buckets import bucket_of
from headrace.feature_store.open import RedisStore
from headrace.feature_store.redis_store import Command
from headrace.feature_store.scripts import CHECKPOINT_APPEND
from headrace.feature_store.wire import Wire
from headrace.schemas.errors import FatalError, StoreUnavailableError
from headrace.schemas.protocols import CheckpointMeta, OnlineRows, WriteOutcome

pytestmark = pytest.mark.integration
Opener = Callable[..., Awaitable[RedisStore]]
KEY = "enrich/t/0"


def meta(position: int) -> CheckpointMeta:
    return CheckpointMeta(
        position=position, layout="9", format=1, partitions=4, numerics="n", epoch=0, last=None
    )


def state(count: int, value: bytes = b"v") -> list[tuple[bytes, bytes]]:
    return [(b"f%d" % n, value) for n in range(count)]


def rows(names: list[str], time_ms: int = 1, width: int = 2) -> OnlineRows:
    ones = np.ones(len(names), np.int64)
    return OnlineRows("v", names, ones * time_ms, ones, np.ones((len(names), width)))


async def ask(store: RedisStore, *command: Any) -> Any:
    return (await store._wire.ask([command]))[0]


class HookedWire:
    """A wire that calls `before` with the number of each request before it is sent."""

    def __init__(self, wire: Wire, before: Callable[[int], Awaitable[None]]) -> None:
        self.place, self.spans = wire.place, wire.spans
        self.ask_each, self.close = wire.ask_each, wire.close
        self.requests = 0
        self._wire, self._before = wire, before

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        self.requests += 1
        await self._before(self.requests)
        return await self._wire.ask(commands)


async def nothing(number: int) -> None:
    """No hook."""


async def test_a_batch_costs_one_round_trip(plain_url: str, opened: Opener, pipeline: str) -> None:
    """Writing and reading rows, and writing a delta, are one request each, however large."""
    store = await opened(plain_url)
    wire = HookedWire(store._wire, nothing)
    counted = RedisStore(wire, pipeline, expires_fields=True)
    names = [f"e{n}" for n in range(3_000)]
    await counted.write_rows(rows(names), epoch=0, ttl_s=60)
    assert wire.requests == 1
    await counted.read_rows("v", names, width=2, ttl_s=60, now_ms=1)
    assert wire.requests == 2
    claim = await counted.claim(KEY)
    await counted.write(
        KEY, claim=claim, base=0, meta=meta(1), changed=state(3_000), dropped=[b"x"] * 3_000
    )
    assert wire.requests == 4


async def test_a_server_that_forgets_its_scripts(plain_url: str, opened: Opener) -> None:
    """After SCRIPT FLUSH (or a failover) calls succeed and take effect once."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    assert await store.write_rows(rows(["a", "b"]), epoch=0, ttl_s=60) == 2
    await ask(store, b"SCRIPT", b"FLUSH")
    assert await store.write_rows(rows(["a", "c"]), epoch=0, ttl_s=60) == 2
    await ask(store, b"SCRIPT", b"FLUSH")
    answer = await store.read_rows("v", ["a", "b", "c", "d"], width=2, ttl_s=60, now_ms=1)
    assert answer.found.tolist() == [True, True, True, False]
    await ask(store, b"SCRIPT", b"FLUSH")
    written = await store.rewrite(KEY, claim=claim, meta=meta(4), fields=state(3_000))
    assert written is WriteOutcome.WRITTEN


async def test_a_restarted_server_is_reached_again(
    tmp_path: Path, servers: ModuleType, opened: Opener
) -> None:
    """While the server is away calls are retryable errors; after it is back they succeed."""
    with servers.plain(tmp_path) as url:
        store = await opened(url)
        await asyncio.gather(*[store.claim(KEY) for _ in range(5)])
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"^the store at unix://\S+ did not answer"):
            await store.claim(KEY)
    (tmp_path / "s").unlink(missing_ok=True)
    with servers.plain(tmp_path):
        assert await store.claim(KEY) == 1


async def test_a_hung_server_is_a_retryable_error_in_time(
    tmp_path: Path, servers: ModuleType, opened: Opener
) -> None:
    """A server that stops answering costs `timeout_s`, and later answers are not mixed up."""
    path = tmp_path / "s"
    options = ("--port", "0", "--unixsocket", str(path))
    with servers.server(tmp_path, *options, ready=path) as process:
        store = await opened(f"unix://{path}", timeout_s=1.0)
        await store.claim(KEY)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreUnavailableError, match=r"within 1 s"):
            await store.claim(KEY)
        process.send_signal(signal.SIGCONT)
        assert not await store.delete_entity("v", "nobody")
        assert await store.claim(KEY) == 3, "the claim that timed out had risen all the same"


async def test_a_full_server_is_a_retryable_error(
    tmp_path: Path, servers: ModuleType, opened: Opener
) -> None:
    """Out of memory is worth another try; the checkpoint before stands."""
    with servers.plain(tmp_path, "--maxmemory", "8mb") as url:
        store = await opened(url)
        claim = await store.claim(KEY)
        await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(10))
        with pytest.raises(StoreUnavailableError, match="OutOfMemory"):
            await store.rewrite(KEY, claim=claim, meta=meta(2), fields=state(100, b"x" * 200_000))
        snapshot = await store.read(KEY)
        assert snapshot is not None
        assert (snapshot.meta.position, len(snapshot.fields)) == (1, 10)


async def test_a_replica_is_a_retryable_error_and_a_warning(
    tmp_path: Path, servers: ModuleType, opened: Opener
) -> None:
    """A server that became a replica takes no writes now; `server_info` says so."""
    with servers.plain(tmp_path) as url:
        store = await opened(url)
        await ask(store, b"REPLICAOF", b"127.0.0.1", b"1")
        with pytest.raises(StoreUnavailableError, match="ReadOnly"):
            await store.write_rows(rows(["a"]), epoch=0, ttl_s=60)
        assert any("replica" in warning for warning in (await store.server_info()).warnings)


async def test_a_key_of_somebody_else_is_fatal(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """A key of ours that holds another type is a contract broken, told without its content."""
    store = await opened(plain_url)
    await ask(store, b"SET", f"{{{pipeline}/v/{bucket_of('a')}}}", b"precious")
    with pytest.raises(FatalError, match="WRONGTYPE") as caught:
        await store.write_rows(rows(["a"]), epoch=0, ttl_s=60)
    assert "precious" not in str(caught.value)


async def test_server_info_is_one_line_and_its_warnings(
    tmp_path: Path, servers: ModuleType, opened: Opener
) -> None:
    """An evicting server without an append-only file gets a warning for each."""
    options = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    with servers.plain(tmp_path, *options) as url:
        info = await (await opened(url)).server_info()
    assert info.text.startswith("valkey 9")
    assert "used of 64 MiB, append-only file off" in info.text
    assert [warning.split(":")[0] for warning in info.warnings] == [
        "maxmemory-policy is 'allkeys-lru'",
        "the append-only file is off",
    ]


@pytest.mark.parametrize("expires_fields", [True, False])
async def test_expired_fields_do_not_pile_up(
    plain_url: str, opened: Opener, pipeline: str, expires_fields: bool
) -> None:
    """A bucket kept alive by one entity sheds the thousands that came and went."""
    store = RedisStore((await opened(plain_url))._wire, pipeline, expires_fields=expires_fields)
    bucket = bucket_of("always")
    key = f"{{{pipeline}/v/{bucket}}}"
    passing = [n for n in (f"e{i}" for i in range(1_000_000)) if bucket_of(n) == bucket][:600]
    for at in range(0, len(passing), 20):
        await store.write_rows(rows([*passing[at : at + 20], "always"]), epoch=0, ttl_s=0.02)
        await asyncio.sleep(0.005)
    # Sweeping keeps about one dead row per living one at any time; the server's own expiry takes
    # its turns some times a second.
    deadline = time.monotonic() + (20 if expires_fields else 0)
    while (count := await ask(store, b"HLEN", key)) > 300:
        assert time.monotonic() < deadline, f"{count} of {len(passing)} rows are left"
        await store.write_rows(rows(["always"]), epoch=0, ttl_s=60)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("expires_fields", [True, False])
async def test_a_bucket_nobody_writes_ends(
    plain_url: str, opened: Opener, pipeline: str, expires_fields: bool
) -> None:
    """No key of a view is left once its rows have expired."""
    store = RedisStore((await opened(plain_url))._wire, pipeline, expires_fields=expires_fields)
    await store.write_rows(rows([f"e{n}" for n in range(100)]), epoch=0, ttl_s=0.05)
    deadline = time.monotonic() + 10
    while keys := await ask(store, b"KEYS", f"{{{pipeline}/v/*"):
        assert time.monotonic() < deadline, f"{len(keys)} keys are left"
        await asyncio.sleep(0.02)


async def test_a_bucket_outlives_a_server_upgrade(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """Rows written before and after the server learnt to expire fields live side by side."""
    wire = (await opened(plain_url))._wire
    old = RedisStore(wire, pipeline, expires_fields=False)
    new = RedisStore(wire, pipeline, expires_fields=True)
    await old.write_rows(rows(["a"], 5), epoch=0, ttl_s=0.3)
    assert await new.write_rows(rows(["a"], 4), epoch=0, ttl_s=60) == 0
    assert await new.write_rows(rows(["a"], 6), epoch=0, ttl_s=60) == 1
    assert await ask(new, b"PTTL", f"{{{pipeline}/v/{bucket_of('a')}}}") == -1
    assert (await new.read_rows("v", ["a"], width=2, ttl_s=60, now_ms=6)).found[0]


async def test_an_evicted_state_is_not_taken_for_an_empty_one(
    plain_url: str, opened: Opener, pipeline: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A head whose state is gone reads as no checkpoint, with the reason, and takes no delta."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(10))
    for suffix in ("a", "b"):
        await ask(store, b"DEL", f"{{{pipeline}/{KEY}}}:{suffix}")
    outcome = await store.write(
        KEY, claim=claim, base=1, meta=meta(2), changed=state(1), dropped=[]
    )
    assert outcome is WriteOutcome.ROLLED_BACK
    with caplog.at_level(logging.WARNING):
        assert await store.read(KEY) is None
    assert "0 fields, expected 10" in caplog.text
    await store.rewrite(KEY, claim=claim, meta=meta(2), fields=state(10))
    assert await store.read(KEY) is not None


@pytest.mark.parametrize("broken", [b"", b"\xff", b"\x80", b"\x81\xa8position\xa1x"])
async def test_a_meta_that_cannot_be_read_is_set_aside(
    plain_url: str,
    opened: Opener,
    pipeline: str,
    caplog: pytest.LogCaptureFixture,
    broken: bytes,
) -> None:
    """A checkpoint of another format reads as none, with the reason, and may be written anew."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(1))
    await ask(store, b"HSET", f"{{{pipeline}/{KEY}}}:head", b"meta", broken)
    with caplog.at_level(logging.WARNING):
        assert await store.read(KEY) is None
    assert "is set aside" in caplog.text
    await store.rewrite(KEY, claim=claim, meta=meta(2), fields=state(2))
    assert await store.read(KEY) is not None


@pytest.mark.parametrize("request_number", [1, 2, 3, 4, 5])
async def test_a_claim_raised_at_any_step_stops_a_rewrite(
    plain_url: str, opened: Opener, pipeline: str, request_number: int
) -> None:
    """Whichever step of a rewrite a higher claim precedes, that rewrite never counts."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(2))

    async def overtake(number: int) -> None:
        if number == request_number:
            await store.claim(KEY)

    hooked = RedisStore(HookedWire(store._wire, overtake), pipeline, expires_fields=True)
    outcome = await hooked.rewrite(KEY, claim=claim, meta=meta(9), fields=state(3_000, b"zombie"))
    assert outcome is WriteOutcome.NOT_OWNER
    snapshot = await store.read(KEY)
    assert snapshot is not None
    assert (snapshot.meta.position, sorted(snapshot.fields)) == (1, state(2))


async def test_a_rewrite_overtaken_under_its_own_claim_stops(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """A late piece of an abandoned rewrite does not get into the one that followed it."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)

    async def again(number: int) -> None:
        if number == 3:
            await store.rewrite(KEY, claim=claim, meta=meta(7), fields=state(5))

    hooked = RedisStore(HookedWire(store._wire, again), pipeline, expires_fields=True)
    with pytest.raises(StoreUnavailableError, match="overtaken"):
        await hooked.rewrite(KEY, claim=claim, meta=meta(9), fields=state(3_000, b"late"))
    snapshot = await store.read(KEY)
    assert snapshot is not None
    assert (snapshot.meta.position, sorted(snapshot.fields)) == (7, state(5))


async def test_a_late_piece_does_not_get_into_another_rewrite(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """A piece still on its way when its rewrite was given up is refused by the one in progress."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(2))
    answers = []

    async def late(number: int) -> None:
        if number == 3:  # before the switch of the second rewrite: a piece of the first
            answers.append(await store._call(CHECKPOINT_APPEND, KEY, [claim, 1, b"late", b"x"]))

    hooked = RedisStore(HookedWire(store._wire, late), pipeline, expires_fields=True)
    await hooked.rewrite(KEY, claim=claim, meta=meta(2), fields=state(3))
    assert answers == [b"superseded"]
    snapshot = await store.read(KEY)
    assert snapshot is not None
    assert sorted(snapshot.fields) == state(3)


async def test_an_interrupted_rewrite_leaves_bounded_garbage(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """However often a rewrite is cut, there is one checkpoint and at most one torso beside it."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(2))

    async def cut(number: int) -> None:
        if number == 4:
            raise StoreUnavailableError("cut")

    for _ in range(3):
        hooked = RedisStore(HookedWire(store._wire, cut), pipeline, expires_fields=True)
        with pytest.raises(StoreUnavailableError, match="cut"):
            await hooked.rewrite(KEY, claim=claim, meta=meta(9), fields=state(5_000))
        assert len(await ask(store, b"KEYS", f"{{{pipeline}/*")) == 3
    assert await store.rewrite(KEY, claim=claim, meta=meta(2), fields=state(2))
    assert len(await ask(store, b"KEYS", f"{{{pipeline}/*")) == 2


async def test_a_read_during_a_write_is_one_or_the_other(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """A checkpoint that changes while it is read is read again, and never mixed."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(1), fields=state(5_000, b"1"))

    async def change(number: int) -> None:
        if number == 3:
            await store.rewrite(KEY, claim=claim, meta=meta(2), fields=state(5_000, b"2"))
        if number == 9:
            await store.write(
                KEY, claim=claim, base=2, meta=meta(3), changed=state(5_000, b"3"), dropped=[]
            )

    hooked = RedisStore(HookedWire(store._wire, change), pipeline, expires_fields=True)
    snapshot = await hooked.read(KEY)
    assert snapshot is not None
    assert snapshot.meta.position == 3
    assert {value for _, value in snapshot.fields} == {b"3"}


async def test_a_checkpoint_that_never_rests_is_a_retryable_error(
    plain_url: str, opened: Opener, pipeline: str
) -> None:
    """A read that meets a change each time gives up for now instead of for ever."""
    store = await opened(plain_url)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(0), fields=state(1))

    async def change(number: int) -> None:
        await store.rewrite(KEY, claim=claim, meta=meta(number), fields=state(1))

    hooked = RedisStore(HookedWire(store._wire, change), pipeline, expires_fields=True)
    with pytest.raises(StoreUnavailableError, match="met a change"):
        await hooked.read(KEY)
