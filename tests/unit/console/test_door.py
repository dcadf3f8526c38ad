"""The console's address: there at once, nothing behind it before the first visitor."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from aiohttp import ClientConnectionError, ClientSession

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import ConsoleSettings
from headrace.streams.console.door import Console
from headrace.streams.console.shown import Shown


async def test_it_opens_with_the_first_visitor_and_closes() -> None:
    """Nobody is asked what to show before; several visitors at once are all answered."""
    asked = []

    def shown() -> dict[str, Shown]:
        asked.append(1)
        return {}

    console = Console(ConsoleSettings(), shown)
    url = console.listen()
    assert url is not None
    assert url.startswith("http://127.0.0.1:")
    await asyncio.sleep(0)
    assert asked == []
    async with ClientSession() as http:

        async def visit() -> int:
            async with http.get(f"{url}pipelines") as answer:
                return answer.status

        assert await asyncio.gather(*(visit() for _ in range(8))) == [200] * 8
        assert asked == [1]
        await console.stop()
        with pytest.raises(ClientConnectionError):
            await visit()


async def test_it_stops_without_a_visitor() -> None:
    """And with one that says nothing; off listens nowhere."""
    console = Console(ConsoleSettings(), dict)
    assert console.listen() is not None
    await console.stop()
    off = Console(ConsoleSettings(address="off"), dict)
    assert off.listen() is None
    await off.stop()

    console = Console(ConsoleSettings(), dict)
    url = console.listen()
    assert url is not None
    port = int(url.rstrip("/").rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0)
    await console.stop()
    writer.close()


def test_it_is_loaded_when_the_start_is_over() -> None:
    """Without any visitor, in the background; a console that is stopped before loads nothing."""
    code = """if True:
        import asyncio, sys
        from headrace.schemas.settings import ConsoleSettings
        from headrace.streams.console import door

        def loaded():
            return "headrace.streams.console.pages" in sys.modules

        async def stopped_before():
            console = door.Console(ConsoleSettings(), dict)
            console.listen()
            await console.stop()
            await asyncio.sleep(3 * door.LOAD_AFTER_S)

        async def left_alone():
            console = door.Console(ConsoleSettings(), dict)
            console.listen()
            async with asyncio.timeout(60):
                while not loaded():
                    await asyncio.sleep(0.01)
            await console.stop()

        door.LOAD_AFTER_S = 0.01
        asyncio.run(stopped_before())
        print(loaded())
        asyncio.run(left_alone())
        print(loaded())
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "True"]


async def test_what_fails_refuses_rather_than_holds_up(caplog: pytest.LogCaptureFixture) -> None:
    """A console that cannot open says so in one line, and its visitors are turned away."""

    def shown() -> dict[str, Shown]:
        raise RuntimeError("broken")

    console = Console(ConsoleSettings(), shown)
    url = console.listen()
    async with ClientSession() as http:
        for _ in range(2):
            with pytest.raises(ClientConnectionError):
                await http.get(f"{url}pipelines")
    assert [record.getMessage() for record in caplog.records if record.name == "headrace.console"]
    await console.stop()


async def test_an_address_in_use_is_one_line() -> None:
    """Refused with the setting that mends it."""
    first = Console(ConsoleSettings(), dict)
    url = first.listen()
    assert url is not None
    place = url.removeprefix("http://").rstrip("/")
    with pytest.raises(SettingsError, match="set HEADRACE_CONSOLE"):
        Console(ConsoleSettings(address=place), dict).listen()
    await first.stop()


def test_a_start_loads_nothing_of_it() -> None:
    """Neither the web server nor what the page asks: the first predictions need the time."""
    names = ["aiohttp", "headrace.streams.console.pages", "headrace.streams.console.feed"]
    code = (
        "import sys, headrace.streams.cli.up, headrace.streams.cli.demo_run\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
