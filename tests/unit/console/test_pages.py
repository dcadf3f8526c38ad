"""What the console answers over HTTP, and what its page is made of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web

from headrace.streams.console import chart_library
from headrace.streams.console.access import Access
from headrace.streams.console.pages import COOKIE, PAGE, Pages

TOKEN = "0123456789abcdef"
SCRIPTS = sorted(PAGE.glob("*.js"))
HTML = sorted(PAGE.glob("*.html"))
MAKERS = '<a href="https://www.tradingview.com/"'
"""Whom the chart library's licence wants named: a link, followed by who clicks it."""


async def served(access: Access) -> AsyncIterator[str]:
    """URL of a console that shows nothing."""
    runner = web.AppRunner(Pages({}, access).application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def loopback() -> AsyncIterator[str]:
    """On this machine, without a token."""
    async for url in served(Access("127.0.0.1", None)):
        yield url


@pytest.fixture
async def guarded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """With a token; a wrong one costs no second here."""
    monkeypatch.setattr("headrace.streams.console.pages.WRONG_TOKEN_S", 0.0)
    async for url in served(Access("0.0.0.0", TOKEN)):
        yield url


async def test_every_file_of_the_page_is_answered(loopback: str) -> None:
    """With its kind, a policy that allows nothing inline, and out of every cache."""
    async with ClientSession() as http:
        for path in ("/", *(f"/{file.name}" for file in (*SCRIPTS, PAGE / "console.css"))):
            async with http.get(loopback + path) as answer:
                assert answer.status == 200, path
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"
                kind = "text/javascript" if path.endswith(".js") else "text/"
                assert answer.content_type.startswith(kind)


async def test_the_chart_library_is_that_of_its_package(
    loopback: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, and it is one; without the package a comment that says what to install."""
    file = chart_library.chart_library()
    assert file is not None
    async with ClientSession() as http:
        async with http.get(f"{loopback}/chart-library.js") as answer:
            script = await answer.read()
            assert (answer.status, answer.content_type) == (200, "text/javascript")
        assert script == file.read_bytes()
        assert b"window.LightweightCharts=" in script
        monkeypatch.setattr(chart_library, "PACKAGE", "no_such_package")
        async with http.get(f"{loopback}/chart-library.js") as answer:
            assert (answer.status, answer.content_type) == (200, "text/javascript")
            (line,) = (await answer.text()).splitlines()
    assert line.startswith("//")
    assert "headrace[console]" in line


@pytest.mark.parametrize(
    "path", ["/..%2fpages.py", "/token.html", "/pages.py", "/device/x?name=y", "/events/x"]
)
async def test_nothing_else_is_answered(loopback: str, path: str) -> None:
    """No other file, and no pipeline that does not run."""
    async with ClientSession() as http, http.get(loopback + path) as answer:
        assert answer.status == 404
        assert "Content-Security-Policy" in answer.headers


async def test_a_foreign_name_is_refused(loopback: str) -> None:
    """A browser that was led here by another name gets nothing."""
    async with ClientSession() as http:
        for path in ("/", "/pipelines"):
            async with http.get(loopback + path, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 421


async def test_without_the_token_nothing_is_shown(guarded: str) -> None:
    """The page asks for it; everything else is refused, also with a wrong one."""
    async with ClientSession() as http:
        for path in ("/pipelines", "/console.js", "/events/x", "/device/x?name=y"):
            async with http.get(guarded + path) as answer:
                assert answer.status == 401, path
            wrong = {"Authorization": f"Bearer {TOKEN}x", "Cookie": f"{COOKIE}={TOKEN}"}
            async with http.get(guarded + path, headers=wrong) as answer:
                assert answer.status == 401, path
        async with http.get(guarded) as answer:
            assert (answer.status, "token" in await answer.text()) == (401, True)
        async with http.post(f"{guarded}/session", data={"token": "wrong"}) as answer:
            assert (answer.status, answer.cookies) == (401, {})


async def test_guesses_of_the_header_wait_one_after_another(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wrong token costs its second, whatever is asked side by side; the right one does not."""
    monkeypatch.setattr("headrace.streams.console.pages.WRONG_TOKEN_S", 77.0)
    paused, at_once, most = asyncio.sleep, 0, []

    async def sleep(delay: float, result: object = None) -> object:
        nonlocal at_once
        if delay != 77.0:
            return await paused(delay, result)
        at_once += 1
        most.append(at_once)
        await paused(0.01)
        at_once -= 1
        return result

    monkeypatch.setattr(asyncio, "sleep", sleep)
    async with ClientSession() as http:

        async def status(path: str, token: str) -> int:
            head = {"Authorization": f"Bearer {token}"}
            async with http.get(guarded + path, headers=head) as answer:
                return answer.status

        assert await status("/pipelines", TOKEN) == 200
        assert most == []
        guesses = [status(path, f"{TOKEN}x") for path in ("/", "/pipelines", "/console.js") * 2]
        assert await asyncio.gather(*guesses) == [401] * 6
        assert most == [1] * 6


@pytest.mark.parametrize("head", [b"Cookie: headrace=\xff", b"Authorization: Bearer \xff"])
async def test_bytes_that_are_no_text_are_wrong(guarded: str, head: bytes) -> None:
    """Refused like any other wrong token; they ended in an error of the server."""
    url = urlsplit(guarded)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(b"GET /pipelines HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"token=\xff"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"token=%ff"),
        ("multipart/form-data; boundary=b", b"--b\r\n\xff"),
        ("multipart/form-data", b"token=x"),
        ("application/json", b"{}"),
    ],
)
async def test_a_form_that_is_none_is_a_wrong_token(guarded: str, kind: str, body: bytes) -> None:
    """Refused like any other; bytes that are no text ended in an error of the server."""
    async with (
        ClientSession(headers={"Content-Type": kind}) as http,
        http.post(f"{guarded}/session", data=body) as answer,
    ):
        assert (answer.status, answer.cookies) == (401, {})


async def test_the_token_opens_a_session(guarded: str) -> None:
    """By a cookie that scripts and other sites cannot use; the token itself is not in it."""
    async with ClientSession() as http:
        data = {"token": TOKEN}
        async with http.post(f"{guarded}/session", data=data, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.cookies[COOKIE]
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
        assert TOKEN not in cookie.value
        headers = {"Cookie": f"{COOKIE}={cookie.value}"}
        async with http.get(f"{guarded}/pipelines", headers=headers) as answer:
            assert await answer.json() == []
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with http.get(f"{guarded}/pipelines", headers=bearer) as answer:
            assert answer.status == 200


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No address of another server, no inline script, style or handler; text is never markup."""
    for file in (*HTML, *SCRIPTS, PAGE / "console.css"):
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text.replace(MAKERS, ""), file.name
    for file in HTML:
        text = file.read_text("utf-8")
        assert re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", text) is None
        assert '<html lang="en">' in text
    for file in SCRIPTS:
        text = file.read_text("utf-8")
        assert (
            re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
            is None
        )


def test_scripts_and_page_agree_on_names() -> None:
    """Every element that a script looks for by its id is in the page, each id once."""
    page = (PAGE / "index.html").read_text("utf-8")
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    asked = {
        name for file in SCRIPTS for name in re.findall(r'\bat\("([^"]+)"\)', file.read_text())
    }
    asked |= {f"{kind}-{stage}" for kind in ("box", "edge") for stage in ("enrich", "serve")}
    assert asked <= set(ids)
    named = re.findall(r'aria-labelledby="([^"]+)"', page)
    assert set(named) <= set(ids)
