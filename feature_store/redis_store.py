"""The only door to redis-py: connections, requests, and every error of it as one of ours.

A request is a list of commands, sent in one write and answered in order. One request costs one
round trip, whatever it holds. redis-py gives the connection (handshake, TLS, parser); requests do
not pass through its clients and pipelines: 1.6 µs of our time per command instead of 10 (measured).

Nothing is retried here. A request that fails or is given up closes its connection, and the idle
ones with it if the connection broke, so that the next request starts on a fresh one and never reads
somebody else's answer.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

import hiredis
import redis.asyncio as aioredis
from redis import exceptions as rx
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headrace.schemas.errors import (
    FatalError,
    HeadraceError,
    SettingsError,
    StoreRefusedError,
    StoreUnavailableError,
)
from headrace.schemas.settings import StoreSettings

Argument: TypeAlias = bytes | str | int
Command: TypeAlias = tuple[Argument, ...]

# The stub of hiredis knows tuples of one argument only.
_pack = cast(Callable[[Command], bytes], hiredis.pack_command)

SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")

_UNAVAILABLE_CODES = frozenset({
    "LOADING", "MASTERDOWN", "READONLY", "OOM", "BUSY", "MISCONF", "CLUSTERDOWN", "TRYAGAIN",
    "NOREPLICAS", "MOVED", "ASK",
})  # fmt: skip
_REFUSED_CODES = frozenset({"NOAUTH", "AUTH", "WRONGPASS", "NOPERM", "DENIED"})
_CODE = re.compile(r"(?:^|[\s:-])([A-Z]{3,})\b")

_UNAVAILABLE: tuple[type[Exception], ...] = (
    rx.BusyLoadingError, rx.ClusterDownError, rx.MasterDownError, rx.AskError, rx.MovedError,
    rx.TryAgainError, rx.ReadOnlyError, rx.OutOfMemoryError, rx.MaxConnectionsError,
    rx.SlotNotCoveredError, rx.ClusterError, rx.InvalidResponse, rx.TimeoutError,
    rx.ConnectionError, TimeoutError, OSError, hiredis.ProtocolError,
)  # fmt: skip
_REFUSED: tuple[type[Exception], ...] = (
    rx.AuthenticationError, rx.AuthorizationError, rx.NoPermissionError,
    rx.AuthenticationWrongNumberOfArgsError, rx.ExternalAuthProviderError,
)  # fmt: skip
_FATAL: tuple[type[Exception], ...] = (
    rx.RedisError, rx.RedisClusterException, rx.ChildDeadlockedError, rx.IncorrectPolicyType,
    hiredis.HiredisError,
)  # fmt: skip


def store_error(place: str, error: Exception) -> HeadraceError | None:
    """An error of redis-py as one of ours; None for one that is not of the store's making.

    Args:
        place: Where the store is, for the message.
        error: What redis-py, its parser or the socket raised, or the server answered.
    """
    if isinstance(error, _REFUSED):
        return _refused(place, error)
    if isinstance(error, rx.ResponseError) and not isinstance(error, _UNAVAILABLE):
        codes = set(_CODE.findall(str(error)))
        if codes & _REFUSED_CODES:
            return _refused(place, error)
        if codes & _UNAVAILABLE_CODES:
            return _unavailable(place, error)
    if isinstance(error, (rx.ConnectionError, OSError)) and _is_tls_refusal(error):
        return _refused(place, error)
    if isinstance(error, _UNAVAILABLE):
        return _unavailable(place, error)
    if isinstance(error, _FATAL):
        return FatalError(
            f"the store at {place} answered {_told(error)}, expected to know the request; "
            f"it must be Redis 6.2, Valkey 7.2 or newer, or speak like them"
        )
    return None


def _unavailable(place: str, error: Exception) -> StoreUnavailableError:
    # A server that does not trust a client's certificate may hang up before it says so.
    trust = ", and trusts our client certificate" if place.startswith("rediss") else ""
    return StoreUnavailableError(
        f"the store at {place} did not answer: {_told(error)}; "
        f"check that it runs and is reachable{trust}"
    )


def _refused(place: str, error: Exception) -> StoreRefusedError:
    return StoreRefusedError(
        f"the store at {place} refused us: {_told(error)}; "
        f"check username, password, rights, CA and client certificate"
    )


def _told(error: Exception) -> str:
    """One line of the error without what the request held."""
    text = " ".join(str(error).split())
    text = text.split(", with args beginning")[0]
    return f"{type(error).__name__} ({text[:200]})" if text else type(error).__name__


def _is_tls_refusal(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return False
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is, and how to reach it.

    Attributes:
        place: What messages call it: never holds a secret.
        nodes: Host and port of each node named; empty for a Unix socket.
        path: Path of the Unix socket, None for TCP.
        db: Database number.
        tls: TLS is on.
        cluster: It is a Redis cluster.
    """

    place: str
    nodes: tuple[tuple[str, int], ...]
    path: str | None
    db: int
    tls: bool
    cluster: bool


def address_of(settings: StoreSettings) -> Address:
    """The address in a store URL.

    Raises:
        SettingsError: another scheme, a secret in the URL, an impossible port or database. Fatal.

    Example:
        >>> address_of(StoreSettings(url="redis+cluster://a:7000,b:7001")).nodes
        (('a', 7000), ('b', 7001))
    """
    url = settings.url
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise SettingsError(
            f"the store url has the scheme {scheme[:20]!r}, "
            f"expected one of: {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    if "@" in rest.split("/")[0]:
        raise SettingsError(
            "the store url holds a user or password; "
            "set the store's username and password_file, or HEADRACE_STORE_PASSWORD"
        )
    try:
        parts = urlsplit(url)
        return _address(parts, scheme)
    except ValueError as error:
        raise SettingsError(
            f"the store url {url!r} cannot be read: {error}; expected redis://host:port/db or unix:///path"
        ) from error


def _address(parts: SplitResult, scheme: str) -> Address:
    if scheme == "unix":
        if not parts.path:
            raise ValueError("a path is missing")
        db = int(parse_qs(parts.query).get("db", ["0"])[0])
        return Address(f"unix://{parts.path}", (), parts.path, db, tls=False, cluster=False)
    db = int(parts.path.strip("/") or 0)
    tls, cluster = scheme.startswith("rediss"), scheme.endswith("+cluster")
    nodes = tuple(_node(name) for name in parts.netloc.split(","))
    if not cluster and len(nodes) > 1:
        raise ValueError("it names several nodes but is no cluster url")
    if cluster and db:
        raise ValueError("a cluster has database 0 only")
    return Address(f"{scheme}://{parts.netloc}", nodes, None, db, tls, cluster)


def _node(name: str) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or 6379


class Server:
    """One server: requests on as many connections as are in use at once.

    Args:
        place: What messages call it.
        connection: Class and keywords of a redis-py connection.
        timeout_s: Longest wait for the whole answer to one request, seconds.
    """

    def __init__(
        self,
        place: str,
        connection: tuple[type[AbstractConnection], Mapping[str, Any]],
        timeout_s: float,
    ) -> None:
        self.place = place
        self._kind, self._keywords = connection
        self._timeout_s = timeout_s
        self._idle: list[AbstractConnection] = []
        self._gathered: list[Command] = []
        self._next: asyncio.Task[list[Any]] | None = None
        self._open: set[asyncio.Task[list[Any]]] = set()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answer to each command, in order; what the server refused as `ResponseError` values.

        What is asked in the same turn of the event loop goes in one request: lanes that work side
        by side cost one write and one wake-up. Cancelling one caller changes nothing for others.

        Raises:
            StoreUnavailableError, StoreRefusedError, FatalError: the connection failed.

        Delivery: after an error or a cancellation the commands may or may not have taken effect.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._send(), name=f"request to {self.place}")
            self._open.add(self._next)
            self._next.add_done_callback(self._ended)
        request, first = self._next, len(self._gathered)
        self._gathered += commands
        answers = await asyncio.shield(request)
        return answers[first : first + len(commands)]

    def _ended(self, request: asyncio.Task[list[Any]]) -> None:
        self._open.discard(request)
        if not request.cancelled():
            request.exception()  # its callers may all be gone: seen here at the latest

    async def _send(self) -> list[Any]:
        """Answers to everything gathered, on a connection that is free or new."""
        commands, self._gathered, self._next = self._gathered, [], None
        connection = self._idle.pop() if self._idle else self._kind(**self._keywords)
        try:
            async with asyncio.timeout(self._timeout_s):
                if not connection.is_connected:
                    await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no types here
                packed = [_pack(command) for command in commands]
                await connection.send_packed_command(packed, check_health=False)
                answers = [await _answer(connection) for _ in commands]
        except BaseException as error:
            # Answers may still be on their way: nobody may read them from this connection.
            await _drop(connection)
            if isinstance(error, Exception):
                await self._close_idle()
                ours = store_error(self.place, self._timely(error))
                if ours is not None:
                    raise ours from error
            raise
        self._idle.append(connection)
        return answers

    def _timely(self, error: Exception) -> Exception:
        """A bare time-out with the time in it."""
        if isinstance(error, TimeoutError) and not str(error):
            return TimeoutError(f"no answer within {self._timeout_s:g} s")
        return error

    async def close(self) -> None:
        """Give up open requests and close every connection."""
        for request in list(self._open):
            request.cancel()
        if self._open:
            await asyncio.wait(self._open)
        await self._close_idle()

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await _drop(connection)
        await asyncio.sleep(0)  # sockets close in the loop's next turn, which may be its last


async def _drop(connection: AbstractConnection) -> None:
    """Close at once: no TLS farewell, which a server that hangs would never return."""
    writer = connection._writer
    await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except rx.ResponseError as refusal:
        return refusal


def server_at(settings: StoreSettings, address: Address, node: tuple[str, int] | None) -> Server:
    """The server at one node of an address; None is its Unix socket.

    Raises:
        SettingsError: the password file cannot be read. Fatal.
    """
    keywords: dict[str, Any] = {
        "username": settings.username,
        "password": settings.secret(),
        "db": address.db,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "health_check_interval": 0,
    }
    if node is None:
        keywords["path"] = address.path
        return Server(
            address.place, (aioredis.UnixDomainSocketConnection, keywords), settings.timeout_s
        )
    host, port = node
    keywords |= {"host": host, "port": port, "socket_keepalive": True}
    kind: type[aioredis.Connection] = aioredis.Connection
    if address.tls:
        kind = aioredis.SSLConnection
        keywords |= {
            "ssl_ca_certs": settings.ca,
            "ssl_certfile": settings.cert,
            "ssl_keyfile": settings.key,
        }
    scheme = "rediss" if address.tls else "redis"
    return Server(f"{scheme}://{host}:{port}", (kind, keywords), settings.timeout_s)


def is_missing_script(answer: object) -> bool:
    """Whether the server answered that it does not know this script."""
    return isinstance(answer, rx.NoScriptError)


def is_refusal(answer: object) -> bool:
    """Whether the server answered with an error."""
    return isinstance(answer, rx.ResponseError)


def moved_to(answer: object) -> tuple[tuple[str, int], bool] | None:
    """Host and port of the node that holds the key, and whether only for this once (ASK)."""
    if isinstance(answer, rx.AskError):
        return (answer.host, answer.port), not isinstance(answer, rx.MovedError)
    return None


def raise_refusals(place: str, answers: Sequence[object]) -> None:
    """Raise the first error among the answers, as one of ours."""
    for error in _errors(answers):
        raise store_error(place, error) or error


def _errors(answers: Sequence[object]) -> Iterator[Exception]:
    return (answer for answer in answers if isinstance(answer, rx.ResponseError))
