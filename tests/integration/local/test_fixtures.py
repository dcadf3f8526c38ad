"""The session's services answer, and their URLs say how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.streams.local.probes import GROUP, coordinator_answers


async def answers(url: str, request: bytes, expected: bytes) -> bool:
    """Whether the server behind `url` answers `request` with a line of `expected`."""
    host, _, port = url.split("//")[1].split("/")[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    line = await reader.readline()
    writer.close()
    return line == expected


async def test_store_url_names_a_redis_compatible_server(store_url: str) -> None:
    """The store fixture answers PING."""
    assert await answers(store_url, b"PING\r\n", b"+PONG\r\n")


async def test_bus_urls_name_a_broker(bus_url: str) -> None:
    """The bus fixtures coordinate groups from the first question on."""
    assert await coordinator_answers(int(bus_url.rpartition(":")[2]), GROUP)


def test_names_of_one_test_are_stable(unique: Callable[[str], str]) -> None:
    """The same name asked for twice is the same, another name another."""
    assert unique("topic") == unique("topic") != unique("group")
