"""A service that several processes of one user share: who runs it leaves a note of where it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.streams.local.folders import writing

NOTE = "service.json"
PATIENCE_S = 10.0

Facts = dict[str, str]


def write_note(folder: Path, facts: Facts) -> None:
    """Leave a note, readable by this user only, whole or not at all."""
    new = folder / f"{NOTE}.new"
    with writing(folder):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(facts, file)
        new.replace(folder / NOTE)


def read_note(folder: Path) -> Facts:
    """The note of the last run in this folder; empty where there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / NOTE).read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def last_port(folder: Path) -> int:
    """The port of the last run in this folder; 0 where it is not known."""
    return int(read_note(folder).get("port", 0))


async def find_shared(
    folder: Path, what: str, answers: Callable[[Facts], Awaitable[bool]]
) -> Facts:
    """The note of the service that another process runs in this folder; it may be starting.

    Args:
        folder: Owned by that process.
        what: The service, for messages.
        answers: Whether the service of a note answers.

    Raises:
        LocalServiceError: nothing answers in time. Fatal.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        facts = read_note(folder)
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError):
            if await answers(facts):
                return facts
        await asyncio.sleep(0.05)
    raise LocalServiceError(
        f"another process uses {str(folder)!r} and its {what} does not answer; end that process, "
        f"or name another folder in worker.data_dir"
    )
