"""Dead letters put back from the page: what was asked for, once, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from fakes.memory_bus import MemoryBus
from fakes.serve_world import pipeline

from headrace.schemas.deadletter import deadletter_headers
from headrace.schemas.errors import BusUnavailableError, Source
from headrace.schemas.settings import StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.console.access import Access
from headrace.streams.console.pages import PAGE, Pages
from headrace.streams.console.redriving import MOST
from headrace.streams.console.shown import Shown

SPEC = pipeline()
TOPICS = topics_of(SPEC)
TELEMETRY, DEAD = TOPICS.telemetry.name, TOPICS.deadletter.name
TOKEN = "0123456789abcdef"
ALL = {"limit": 100, "reason": None, "dry": False}


def letter(offset: int, code: str) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """One dead letter as ENRICH publishes it."""
    headers = deadletter_headers(
        code,
        Source(TELEMETRY, 0, offset),
        stage="enrich",
        pipeline=SPEC.name,
        pipeline_digest=SPEC.digest,
        first_seen_ms=0,
    )
    return b"k", b"%d" % offset, headers


@pytest.fixture
async def bus(monkeypatch: pytest.MonkeyPatch) -> MemoryBus:
    """In memory, with five dead letters of two codes."""
    monkeypatch.setattr("headrace.streams.client.topic_reader.WAIT_S", 0.001)
    made = MemoryBus()
    made.create(TELEMETRY, 1)
    made.create(DEAD, 1)
    codes = ["json.invalid", "time.future", "json.invalid", "json.invalid", "time.future"]
    await made.append(DEAD, 0, [letter(n, code) for n, code in enumerate(codes)])
    return made


def shown(bus: Any) -> Shown:
    """A pipeline on this bus; nothing else of it is asked here."""
    nothing: Any = None
    return Shown(SPEC, nothing, nothing, bus, StoreSettings())


async def served(bus: MemoryBus, access: Access) -> AsyncIterator[str]:
    """Where orders go."""
    runner = web.AppRunner(Pages({SPEC.name: shown(bus)}, access).application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/redrive/{SPEC.name}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def url(bus: MemoryBus) -> AsyncIterator[str]:
    """Of a console on this machine, without a token."""
    async for found in served(bus, Access("127.0.0.1", None)):
        yield found


async def ask(url: str, order: object, **head: str) -> tuple[int, Any]:
    """Status, and what was said."""
    async with ClientSession() as http, http.post(url, json=order, headers=head) as answer:
        found = await answer.json() if answer.status == 200 else await answer.text()
        return answer.status, found


def back(bus: MemoryBus) -> list[bytes]:
    """Values on telemetry."""
    return [value for _, value, _ in bus.topics[TELEMETRY].partitions[0]]


async def test_first_told_then_done_then_never_again(bus: MemoryBus, url: str) -> None:
    """A dry run puts nothing back; the order does; the same order once more finds it done."""
    status, told = await ask(url, ALL | {"dry": True})
    assert (status, told["redriven"], back(bus)) == (200, 5, [])
    assert told["lines"][0].startswith("5 dead letters would be redriven")

    status, done = await ask(url, ALL)
    assert (status, done["redriven"]) == (200, 5)
    assert back(bus) == [b"0", b"1", b"2", b"3", b"4"]

    status, again = await ask(url, ALL)
    assert (status, again["redriven"]) == (200, 0)
    assert "5 left, they were redriven before" in again["lines"][1]
    assert len(back(bus)) == 5


async def test_only_so_many_of_one_code(bus: MemoryBus, url: str) -> None:
    """The limit and the code of the order hold."""
    _, done = await ask(url, {"limit": 2, "reason": "json.invalid", "dry": False})
    assert (done["redriven"], back(bus)) == (2, [b"0", b"2"])


async def test_two_orders_at_once_put_each_back_once(bus: MemoryBus, url: str) -> None:
    """Two pages, or an impatient one."""
    answers = await asyncio.gather(*[ask(url, ALL) for _ in range(3)])
    assert sorted(found["redriven"] for _, found in answers) == [0, 0, 5]
    assert len(back(bus)) == 5


@pytest.mark.parametrize(
    "order",
    [
        ALL | {"limit": 0}, ALL | {"limit": MOST + 1}, ALL | {"limit": 1.5}, ALL | {"reason": 1},
        ALL | {"stage": "serve"}, {"limit": 1}, [], ALL | {"reason": "x" * 201},
    ],
)  # fmt: skip
async def test_what_is_no_order_is_refused(bus: MemoryBus, url: str, order: object) -> None:
    """Without a bound, above it, or with a word too much; nothing is put back."""
    status, said = await ask(url, order)
    assert (status, back(bus)) == (400, [])
    assert said.startswith("the order is not one: ")


def test_the_page_knows_the_bound() -> None:
    """Its field takes as many as an order may have."""
    assert f'max="{MOST}"' in (PAGE / "index.html").read_text("utf-8")


async def test_bytes_that_are_no_json_are_refused(bus: MemoryBus, url: str) -> None:
    """In one line."""
    head = {"Content-Type": "application/json"}
    async with ClientSession() as http, http.post(url, data=b"\xff{", headers=head) as answer:
        assert (answer.status, await answer.text()) == (400, "the order is not JSON\n")
    assert back(bus) == []


@pytest.mark.parametrize(
    "head",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "application/json", "Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_elsewhere_orders_nothing(
    bus: MemoryBus, url: str, head: dict[str, str]
) -> None:
    """What a browser sends for another page, without asking before or with its name."""
    body = b'{"limit": 100, "reason": null, "dry": false}'
    async with ClientSession() as http, http.post(url, data=body, headers=head) as answer:
        assert answer.status == 403
    async with ClientSession() as http, http.options(url) as answer:
        assert answer.status == 405
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert back(bus) == []


async def test_with_a_token_it_needs_the_token(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused without, done with it."""
    monkeypatch.setattr("headrace.streams.console.pages.WRONG_TOKEN_S", 0.0)
    async for url in served(bus, Access("0.0.0.0", TOKEN)):
        assert (await ask(url, ALL))[0] == 401
        assert (await ask(url, ALL, Authorization=f"Bearer {TOKEN}x"))[0] == 401
        assert back(bus) == []
        assert (await ask(url, ALL, Authorization=f"Bearer {TOKEN}"))[1]["redriven"] == 5


async def test_a_bus_that_is_away_is_told(
    bus: MemoryBus, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command's own line; the next order finds it free."""

    async def away(*_: object, **__: object) -> None:
        raise BusUnavailableError("reading the dead letters found no broker; try again")

    with monkeypatch.context() as broken:
        broken.setattr("headrace.streams.client.redrive.redriven", away)
        status, said = await ask(url, ALL)
        assert (status, said) == (503, "reading the dead letters found no broker; try again\n")
    assert (await ask(url, ALL))[1]["redriven"] == 5


async def test_a_pipeline_that_does_not_run(url: str) -> None:
    """Is not found."""
    assert (await ask(url + "x", ALL))[0] == 404
