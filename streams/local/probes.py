"""Smallest possible questions to a broker and a store: do you answer, and are you ours?"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_METADATA, _METADATA_VERSION = 3, 2
_FIND_COORDINATOR, _FIND_COORDINATOR_VERSION = 10, 1
GROUP, TRANSACTION = 0, 1


async def bus_answers(port: int, cluster_id: str) -> bool:
    """Whether the broker on this loopback port is alive in the cluster of this id.

    Raises:
        OSError, EOFError: nobody answers yet.

    Source: Kafka protocol, Metadata request version 2 (the first that tells the cluster).
    """
    answer = await _ask(port, _METADATA, _METADATA_VERSION, struct.pack(">i", 0))
    brokers = struct.unpack_from(">i", answer)[0]
    return brokers > 0 and cluster_id.encode() in answer


async def coordinator_answers(port: int, kind: int) -> bool:
    """Whether a broker coordinates groups (or transactions); the first question makes it do so.

    Raises:
        OSError, EOFError: nobody answers yet.

    Source: Kafka protocol, FindCoordinator request version 1.
    """
    body = struct.pack(">h", 5) + b"probe" + struct.pack(">b", kind)
    answer = await _ask(port, _FIND_COORDINATOR, _FIND_COORDINATOR_VERSION, body)
    error: int = struct.unpack_from(">h", answer, 4)[0]
    return error == 0


async def _ask(port: int, api: int, version: int, body: bytes) -> bytes:
    """One request, and its answer without the correlation id."""
    client = b"headrace"
    request = struct.pack(">hhih", api, version, 1, len(client)) + client + body
    async with _connection(port) as (reader, writer):
        writer.write(struct.pack(">i", len(request)) + request)
        length = struct.unpack(">i", await reader.readexactly(4))[0]
        return (await reader.readexactly(length))[4:]


async def store_answers(port: int, user: str, password: str, folder: str) -> bool:
    """Whether the Redis-compatible server on this port is the one of this folder, data loaded.

    A server that still reads its append-only file answers CONFIG, but refuses DBSIZE.

    Raises:
        OSError, EOFError: nobody answers yet.
    """
    async with _connection(port) as (reader, writer):
        writer.write(f"AUTH {user} {password}\r\nCONFIG GET dir\r\nDBSIZE\r\n".encode())
        # "+OK", "*2", "$3", "dir", "$<length>", "<folder>"
        lines = [await reader.readuntil(b"\r\n")]
        if lines[0].startswith(b"-"):
            return False
        lines += [await reader.readuntil(b"\r\n") for _ in range(5)]
        loaded = (await reader.readuntil(b"\r\n")).startswith(b":")
        return loaded and lines[-1].decode().strip() == folder


async def store_is_empty(port: int, user: str, password: str) -> bool:
    """Whether the Redis-compatible server on this port holds no key in its first database.

    Raises:
        OSError, EOFError: nobody answers.
    """
    async with _connection(port) as (reader, writer):
        writer.write(f"AUTH {user} {password}\r\nDBSIZE\r\n".encode())
        await reader.readuntil(b"\r\n")
        return await reader.readuntil(b"\r\n") == b":0\r\n"


@asynccontextmanager
async def _connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
