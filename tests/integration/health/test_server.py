"""The endpoints over real sockets: what a probe gets, and what a stranger gets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from headrace.schemas.errors import SettingsError
from headrace.streams.health import server as server_module
from headrace.streams.health.server import MOST_OPEN, HealthServer

pytestmark = pytest.mark.integration


class Told:
    """What the server is to answer, of all and of each."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.unready: list[str] = []
        self.each: dict[str, Told] = {}

    def of(self, name: str) -> Told | None:
        return self.each.get(name)

    def not_live(self) -> list[str]:
        return self.dead

    def not_ready(self) -> list[str]:
        return self.unready

    def facts(self) -> dict[str, object]:
        return {"ready": not self.unready}


class Probe:
    """A server on a free port and a client that speaks bytes."""

    def __init__(self) -> None:
        self.told = Told()
        self.server = HealthServer(
            self.told, {None: "# all\n", "shops": "# shops\n"}.get, {None: {"pipelines": []}}.get
        )
        self.port = 0

    async def send(self, request: bytes) -> tuple[int, str]:
        """Status and body; status 0 where the connection was closed without an answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            answer = await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            answer = b""
        writer.close()
        if not answer:
            return 0, ""
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        return int(head.split()[1]), body.decode()

    async def get(self, path: str) -> tuple[int, str]:
        """One GET."""
        return await self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    made = Probe()
    url = await made.server.start("127.0.0.1", 0)
    made.port = int(url.rpartition(":")[2])
    yield made
    await made.server.stop()


async def test_all_is_well(probe: Probe) -> None:
    """200 and ok, from both; a query is no other path."""
    assert await probe.get("/livez") == (200, "ok\n")
    assert await probe.get("/readyz?verbose") == (200, "ok\n")
    status, body = await probe.get("/healthz")
    assert (status, json.loads(body)) == (200, {"ready": True})


async def test_reasons_are_the_body(probe: Probe) -> None:
    """503 with one line per reason; the two endpoints are independent."""
    probe.told.unready = ["store: no answer within 3 s", "takeover of t[3] by enrich"]

    assert await probe.get("/livez") == (200, "ok\n")
    assert await probe.get("/readyz") == (503, "\n".join([*probe.told.unready, ""]))
    probe.told.dead = ["serve is stuck: …"]
    assert await probe.get("/livez") == (503, "serve is stuck: …\n")


async def test_a_pipeline_is_asked_by_name(probe: Probe) -> None:
    """Its own answer, whatever the others say; 404 for a name that nobody has."""
    probe.told.unready = ["shops/serve is starting"]
    probe.told.each = {"press": Told()}

    assert await probe.get("/readyz/press") == (200, "ok\n")
    assert (await probe.get("/readyz"))[0] == 503
    assert (await probe.get("/livez/hosts"))[0] == 404
    assert (await probe.get("/other/press"))[0] == 404
    assert json.loads((await probe.get("/healthz/press"))[1]) == {"ready": True}


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /livez HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /livez/../etc HTTP/1.1\r\n\r\n", 404),
        (b"GET\r\n\r\n", 404),
        (b"\x00\xff\xfe\r\n\r\n", 405),
        (b"GET /livez HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 0),
        (b"\xff" * 20_000, 0),
    ],
    ids=["post", "root", "dots", "no path", "no text", "long header", "flood"],
)
async def test_anything_else_is_refused(probe: Probe, request_bytes: bytes, status: int) -> None:
    """Other methods, other paths and what is no request; the next probe is answered."""
    assert (await probe.send(request_bytes))[0] == status
    assert await probe.get("/livez") == (200, "ok\n")


async def test_silent_strangers_hold_nothing_up(probe: Probe, monkeypatch) -> None:
    """Connections that say nothing are closed, and until then more than enough are refused."""
    monkeypatch.setattr(server_module, "REQUEST_S", 0.5)
    open_connection = asyncio.open_connection
    silent = [await open_connection("127.0.0.1", probe.port) for _ in range(MOST_OPEN + 8)]
    ends = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in silent)), 10)
    for _, writer in silent:
        writer.close()

    assert set(ends) == {b""}
    assert await probe.get("/livez") == (200, "ok\n")


async def test_an_address_in_use_is_one_line() -> None:
    """Fatal, with the address and the remedy."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            await HealthServer(Told(), {}.get, {}.get).start("127.0.0.1", port)

    assert str(caught.value).startswith(f"listening on 127.0.0.1:{port} for health probes failed")
    assert "\n" not in str(caught.value)
    assert "HEADRACE_HEALTH" in str(caught.value)


async def test_metrics_of_all_and_of_one(probe: Probe) -> None:
    """The exposition is given as it is, by name too; a name that nobody has is not found."""
    assert await probe.get("/metrics") == (200, "# all\n")
    assert await probe.get("/metrics/shops") == (200, "# shops\n")
    assert (await probe.get("/metrics/press"))[0] == 404
    assert await probe.get("/observe") == (200, '{"pipelines":[]}\n')
    assert (await probe.get("/observe/press"))[0] == 404
