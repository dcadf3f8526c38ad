"""The proxy relays every byte, and each of its faults is what a client of a bad network sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.drill.proxy import HOST, Proxy

SHORT_S = 0.2
Connect = Callable[[Proxy], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that says everything twice, and hangs up when its client does."""
    while piece := await reader.read(1 << 16):
        writer.write(piece * 2)
    writer.close()


@asynccontextmanager
async def relayed() -> AsyncIterator[Proxy]:
    """That service behind a proxy."""
    service = await asyncio.start_server(answer_twice, HOST, 0)
    proxy = Proxy(service.sockets[0].getsockname()[1])
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
        service.close()


@pytest.fixture
async def connected() -> AsyncIterator[Connect]:
    """Makes connections to a proxy, which are closed in the end."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()


async def asked(proxy: Proxy, text: bytes) -> bytes:
    """Everything that comes back until the end, on a connection of its own."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=200_000), min_size=1, max_size=4))
def test_every_byte_is_relayed(texts) -> None:
    """Of several connections at once, whatever their sizes, in order; an end is an end."""

    async def run() -> list[bytes]:
        async with relayed() as proxy:
            return await asyncio.gather(*(asked(proxy, text) for text in texts))

    found = asyncio.run(run())

    assert [len(answer) for answer in found] == [2 * len(text) for text in texts]
    assert all(set(answer) == set(text) for answer, text in zip(found, texts, strict=True))


async def test_a_cut_resets_old_and_new_connections(connected: Connect) -> None:
    """Until it is mended; then new ones work."""
    async with relayed() as proxy:
        reader, writer = await connected(proxy)
        writer.write(b"a")
        assert await reader.readexactly(2) == b"aa"

        proxy.cut()

        assert await ended(reader)
        later, _ = await connected(proxy)
        assert await ended(later)
        proxy.mend()
        assert await asked(proxy, b"b") == b"bb"


async def ended(reader: asyncio.StreamReader) -> bool:
    """No byte comes any more, and that is told."""
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        return True


async def test_half_open_accepts_and_says_nothing(connected: Connect) -> None:
    """Old and new connections alike; what was sent meanwhile arrives after the repair."""
    async with relayed() as proxy:
        old, old_writer = await connected(proxy)
        old_writer.write(b"a")
        assert await old.readexactly(2) == b"aa"

        proxy.hang()
        new, new_writer = await connected(proxy)
        old_writer.write(b"b")
        new_writer.write(b"c")
        reading = [asyncio.create_task(r.readexactly(2)) for r in (old, new)]
        done, _ = await asyncio.wait(reading, timeout=SHORT_S)
        assert not done
        proxy.mend()

        assert await asyncio.gather(*reading) == [b"bb", b"cc"]


async def test_what_a_client_gave_up_still_arrives(connected: Connect) -> None:
    """A request whose sender hung up while nothing passed: the service gets it afterwards."""
    got = asyncio.Queue[bytes]()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await got.put(await reader.read())
        writer.close()

    service = await asyncio.start_server(keep, HOST, 0)
    proxy = Proxy(service.sockets[0].getsockname()[1])
    await proxy.start()
    proxy.hang()
    _, writer = await connected(proxy)
    writer.write(b"late")
    writer.close()
    proxy.mend()

    assert await asyncio.wait_for(got.get(), 5) == b"late"
    await proxy.stop()
    service.close()


async def test_a_slow_network_holds_every_piece() -> None:
    """There and back: twice the delay at least."""
    loop = asyncio.get_running_loop()
    async with relayed() as proxy:
        proxy.slow(SHORT_S)
        began = loop.time()
        assert await asked(proxy, b"a") == b"aa"
        assert loop.time() - began >= 2 * SHORT_S


async def test_it_can_lead_elsewhere(connected: Connect) -> None:
    """Old connections are reset, new ones reach the other service."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    other = await asyncio.start_server(greet, HOST, 0)
    async with relayed() as proxy:
        reader, _ = await connected(proxy)
        proxy.lead_to(other.sockets[0].getsockname()[1])

        assert await ended(reader)
        assert await asked(proxy, b"a") == b"hello"
    other.close()


async def test_a_service_that_is_away_is_a_reset(connected: Connect) -> None:
    """Nothing waits for it, and nothing is logged."""
    service = await asyncio.start_server(answer_twice, HOST, 0)
    proxy = Proxy(service.sockets[0].getsockname()[1])
    service.close()
    await proxy.start()
    reader, _ = await connected(proxy)

    assert await ended(reader)
    await proxy.stop()


async def test_a_stopped_proxy_listens_no_more(connected: Connect) -> None:
    """And its connections are gone."""
    async with relayed() as proxy:
        reader, _ = await connected(proxy)
        await proxy.stop()

        assert await ended(reader)
        with pytest.raises(ConnectionRefusedError):
            await connected(proxy)
