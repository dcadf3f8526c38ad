"""`/livez`, `/readyz`, `/healthz`, `/metrics` and `/observe` over HTTP/1.1: GET, one answer each.

``/livez/shops`` and so on ask for the pipeline of that name alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.streams.observe.exposition import CONTENT_TYPE

REQUEST_S = 5.0
"""Longest time for a whole request: one that says nothing holds no connection open."""

MOST_OPEN = 64


class Answers(Protocol):
    """Who knows."""

    def not_live(self) -> Sequence[str]:
        """Why it should be started again; empty where it should not."""

    def not_ready(self) -> Sequence[str]:
        """What keeps it from working; empty where nothing does."""

    def facts(self) -> dict[str, Any]:
        """Everything, ready to become JSON."""


class AnswersByName(Answers, Protocol):
    """Who knows of several."""

    def of(self, name: str) -> Answers | None:
        """Who knows of the one of this name; None where there is none."""


class HealthServer:
    """Answers probes from the event loop whose health they ask for.

    Args:
        answers: Who knows.
        metrics: The metrics of all pipelines (None) or of one by name, as Prometheus reads them;
            None where there is none of this name.
        view: What is known of them, the same way.
    """

    def __init__(
        self,
        answers: AnswersByName,
        metrics: Callable[[str | None], str | None],
        view: Callable[[str | None], dict[str, Any] | None],
    ) -> None:
        self._answers = answers
        self._metrics = metrics
        self._view = view
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the URL.

        Raises:
            SettingsError: nobody can listen there. Fatal.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=8192)
        except OSError as error:
            raise SettingsError(
                f"listening on {host}:{port} for health probes failed: {error.strerror}; "
                f"set HEADRACE_HEALTH to a free address of this machine"
            ) from error
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening; harmless when it does not."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            # A flood gets no answers rather than this loop's time.
            if self._open <= MOST_OPEN:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head.split(b"\r\n", 1)[0]))
                    await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            return
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, line: bytes) -> bytes:
        method, _, rest = line.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method != "GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n", "text/plain")
        _, probe, name = (*path.split("/", 2), "", "")[:3]
        if probe == "metrics" and (text := self._metrics(name or None)) is not None:
            return _response(HTTPStatus.OK, text.encode(), CONTENT_TYPE)
        if probe == "observe" and (facts := self._view(name or None)) is not None:
            return _response(HTTPStatus.OK, _json(facts), "application/json")
        answers = self._answers.of(name) if name else self._answers
        if answers is None or probe not in ("livez", "readyz", "healthz"):
            what = b"expected /livez, /readyz, /healthz, /metrics or /observe, or with /PIPELINE\n"
            return _response(HTTPStatus.NOT_FOUND, what, "text/plain")
        if probe == "healthz":
            return _response(HTTPStatus.OK, _json(answers.facts()), "application/json")
        why = answers.not_live() if probe == "livez" else answers.not_ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
        return _response(status, "".join(f"{w}\n" for w in why or ["ok"]).encode(), "text/plain")


def _json(facts: dict[str, Any]) -> bytes:
    return msgspec.json.encode(facts) + b"\n"


def _response(status: HTTPStatus, body: bytes, kind: str) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
