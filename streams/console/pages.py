"""The console over HTTP: the page, its events, one device; loaded with the first request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from headrace.schemas.errors import HeadraceError
from headrace.streams.console.access import Access
from headrace.streams.console.chart_library import WITHOUT, chart_library
from headrace.streams.console.drill import Drill
from headrace.streams.console.feed import Feed
from headrace.streams.console.redriving import Order, Redriving
from headrace.streams.console.shown import Shown

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
OPEN = frozenset({"/session", "/console.css"})
"""What the page that asks for the token needs."""

COOKIE = "headrace"
MOST_VIEWERS = 32
WRONG_TOKEN_S = 1.0
STOP_S = 0.5

HEADERS = {
    # No inline script or style, nothing from elsewhere, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Pages:
    """Everything the console answers.

    Args:
        shown: Pipelines by name, in the order shown.
        access: Who may look.
    """

    def __init__(self, shown: Mapping[str, Shown], access: Access) -> None:
        self._access = access
        self._feeds = {name: Feed(one) for name, one in shown.items()}
        self._drills = {name: Drill(one, self._feeds[name].board) for name, one in shown.items()}
        self._redriving = {name: Redriving(one) for name, one in shown.items()}
        self._order = msgspec.json.Decoder(Order).decode
        self._viewers = 0
        self._checking = asyncio.Lock()

    def application(self) -> web.Application:
        """The routes, each guarded."""
        app = web.Application(middlewares=[self._guarded()], client_max_size=4096)
        app.on_response_prepare.append(_add_headers)
        app.on_cleanup.append(self._close)
        app.router.add_get("/", self._page)
        for file in sorted(PAGE.iterdir()):
            if file.suffix in (".css", ".js"):
                app.router.add_get(f"/{file.name}", _file(file.name))
        app.router.add_get("/chart-library.js", _chart_library)
        app.router.add_post("/session", self._open_session)
        app.router.add_get("/pipelines", self._names)
        app.router.add_get("/events/{pipeline}", self._events)
        app.router.add_get("/device/{pipeline}", self._device)
        app.router.add_post("/redrive/{pipeline}", self._redrive)
        return app

    def _guarded(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        return guard

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._access.names_us(request.host):
            return web.Response(status=421, text="this name is not the console's\n")
        if request.path in OPEN or await self._knows(request):
            return await handler(request)
        if request.path == "/":
            return await _file("token.html", status=401)(request)
        return web.Response(status=401, text="the console asks for its token\n")

    async def _knows(self, request: web.Request) -> bool:
        if self._access.knows(request.cookies.get(COOKIE), None):
            return True
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return False
        # As in `_open_session`: judged one at a time, or guesses side by side would cost nothing.
        async with self._checking:
            if self._access.knows(None, authorization):
                return True
            await asyncio.sleep(WRONG_TOKEN_S)
            return False

    async def _open_session(self, request: web.Request) -> web.StreamResponse:
        token = await _said(request)
        # One at a time: guessing gets no faster by asking side by side.
        async with self._checking:
            if not self._access.opens(token):
                await asyncio.sleep(WRONG_TOKEN_S)
                return await _file("token.html", status=401)(request)
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(COOKIE, self._access.session, httponly=True, samesite="Strict")
        return answer

    async def _page(self, request: web.Request) -> web.StreamResponse:
        for feed in list(self._feeds.values())[:1]:  # the one that the page shows first
            feed.expect()
        return await _file("index.html")(request)

    async def _names(self, request: web.Request) -> web.StreamResponse:
        return _json(list(self._feeds))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        feed = self._feeds.get(request.match_info["pipeline"])
        if feed is None:
            raise web.HTTPNotFound(text="no such pipeline\n")
        if self._viewers >= MOST_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_VIEWERS} pages are open already\n")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._viewers += 1
        try:
            async with aclosing(feed.snapshots()) as snapshots:
                async for made in snapshots:
                    await response.write(b"data: " + made + b"\n\n")
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._viewers -= 1
        return response

    async def _device(self, request: web.Request) -> web.StreamResponse:
        drill = self._drills.get(request.match_info["pipeline"])
        if drill is None:
            raise web.HTTPNotFound(text="no such pipeline\n")
        try:
            found = await drill.of(request.query.get("name", ""))
        except HeadraceError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from error
        if found is None:
            raise web.HTTPNotFound(text="no prediction of this device was seen\n")
        return _json(found)

    async def _redrive(self, request: web.Request) -> web.StreamResponse:
        redriving = self._redriving.get(request.match_info["pipeline"])
        if redriving is None:
            raise web.HTTPNotFound(text="no such pipeline\n")
        if not _comes_from_here(request):
            raise web.HTTPForbidden(text="only the console's own page and programs may ask this\n")
        try:
            return _json(await redriving.carry_out(self._order(await request.read())))
        except msgspec.ValidationError as error:
            raise web.HTTPBadRequest(text=f"the order is not one: {error}\n") from error
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text="the order is not JSON\n") from error
        except HeadraceError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from error

    async def _close(self, _: web.Application) -> None:
        for feed in self._feeds.values():
            await feed.stop()
        for drill in self._drills.values():
            await drill.close()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers[name] = value


def _comes_from_here(request: web.Request) -> bool:
    """Whether no page of elsewhere can have sent it.

    A browser sends JSON across origins only where the answer to its question before allows it,
    and that is never given; where it says who asks, it is believed.
    """
    asks = request.headers.get("Sec-Fetch-Site", "same-origin")
    return request.content_type == "application/json" and asks == "same-origin"


async def _said(request: web.Request) -> str:
    """The token of a form, as the page sends it; "" where there is none.

    Not aiohttp's own reading of forms: bytes that are no text are a wrong token, and no error.
    """
    form = parse_qs((await request.read()).decode("utf-8", "surrogateescape"))
    return form.get("token", [""])[0]


def _file(name: str, *, status: int = 200) -> Handler:
    """Answers with a file of the page, read anew: it is small, and no path comes from outside."""
    file = PAGE / name

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status,
            body=file.read_bytes(),
            content_type=KINDS[file.suffix],
            charset="utf-8",
        )

    return answer


async def _chart_library(_: web.Request) -> web.StreamResponse:
    """The library as its package has it; a line of comment where there is none."""
    file = chart_library()
    body = WITHOUT if file is None else file.read_bytes()
    return web.Response(body=body, content_type=KINDS[".js"], charset="utf-8")


def _json(found: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")
