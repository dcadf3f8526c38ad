"""The embedded store's ACL users, asked in its own protocol; its TLS is tested with the client."""

from __future__ import annotations

import asyncio

import pytest

from headrace.streams.local.embedded_store import EmbeddedStore

pytestmark = pytest.mark.integration


async def ask(store: EmbeddedStore, *commands: str) -> list[str]:
    """The first line of the answer to each command."""
    reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
    try:
        answers = []
        for command in commands:
            writer.write(f"{command}\r\n".encode())
            answers.append((await asyncio.wait_for(reader.readline(), 5)).decode().strip())
        return answers
    finally:
        writer.close()


async def test_a_user_has_the_rights_of_its_rule(secure_store: EmbeddedStore) -> None:
    """The user may write its own keys, and neither others' nor the server's settings."""
    login, own, other, config = await ask(
        secure_store, "AUTH press right", "SET press:a 1", "SET other 1", "CONFIG GET dir"
    )
    assert (login, own) == ("+OK", "+OK")
    assert other.startswith("-NOPERM")
    assert config.startswith("-NOPERM")


async def test_wrong_passwords_and_nobody_are_kept_out(secure_store: EmbeddedStore) -> None:
    """A wrong password is refused, and so is whoever does not log in."""
    login, ping = await ask(secure_store, "AUTH press wrong", "PING")
    assert login.startswith("-WRONGPASS")
    assert ping.startswith("-NOAUTH")
