"""Requests to a store that is one server, or a cluster of them, as its stores see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from headrace.feature_store.redis_store import (
    Argument,
    Command,
    Server,
    is_missing_script,
    raise_refusals,
)
from headrace.feature_store.scripts import Script, text_of


class Wire(Protocol):
    """A way to the store.

    Attributes:
        place: Where it is, for messages.
        spans: One script may name keys of several buckets.
    """

    place: str
    spans: bool

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answer to each command, in order, in one round trip per server.

        Raises:
            StoreUnavailableError: retryable; any part of the commands may have taken effect.
            StoreRefusedError, FatalError: fatal.
        """

    async def ask_each(self, command: Command) -> list[Any]:
        """The answer of every server to one command."""

    async def close(self) -> None:
        """Close every connection."""


def run(script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Command:
    """The command that runs a script the server already has; `ask` sends the text where not."""
    return (b"EVALSHA", script.sha, len(keys), *keys, *arguments)


def key_of(command: Command) -> bytes:
    """The first key of a command.

    Example:
        >>> key_of((b"HGETALL", b"k")), key_of((b"EVALSHA", "5c1a", 1, b"k", b"argument"))
        (b'k', b'k')
    """
    key = command[3] if command[0] == b"EVALSHA" else command[1]
    return key if isinstance(key, bytes) else str(key).encode()


async def ask_server(server: Server, commands: Sequence[Command]) -> list[Any]:
    """Answers of one server, errors among them; a script it lacks is sent whole, once."""
    answers = await server.ask(commands)
    missing = [at for at, answer in enumerate(answers) if is_missing_script(answer)]
    if missing:
        again = await server.ask([with_text(commands[at]) for at in missing])
        for at, answer in zip(missing, again, strict=True):
            answers[at] = answer
    return answers


def with_text(command: Command) -> Command:
    """A command as it is for a server that may lack its script."""
    if command[0] != b"EVALSHA":
        return command
    return (b"EVAL", text_of(str(command[1])), *command[2:])


class SingleWire:
    """One server."""

    spans = True

    def __init__(self, server: Server) -> None:
        self.place = server.place
        self._server = server

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """See `Wire`."""
        answers = await ask_server(self._server, commands)
        raise_refusals(self.place, answers)
        return answers

    async def ask_each(self, command: Command) -> list[Any]:
        """See `Wire`."""
        return await self.ask([command])

    async def close(self) -> None:
        """See `Wire`."""
        await self._server.close()
