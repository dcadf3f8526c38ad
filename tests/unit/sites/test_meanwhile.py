"""Imports wait until the processes beside them were started."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from headrace.streams.sites.meanwhile import import_meanwhile

TURNS = 12
"""More turns of the loop than it takes to start bus and store."""


async def test_modules_are_imported_after_what_is_being_started(
    tmp_path: Path, monkeypatch
) -> None:
    """Whatever turns of the loop a start takes; and each module is there afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    said = tmp_path / "said"
    names = [f"meanwhile_{number}" for number in range(3)]
    for name in names:
        (tmp_path / f"{name}.py").write_text(
            f"with open({str(said)!r}, 'a') as said: said.write('{name} ')\n"
        )

    async def start() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        with said.open("a") as file:
            file.write("started ")

    starting = asyncio.create_task(start())
    try:
        await import_meanwhile(*names)
        assert said.read_text().split() == ["started", *names]
        assert set(names) <= set(sys.modules)
    finally:
        await starting
        for name in names:
            sys.modules.pop(name, None)


async def test_a_module_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError):
        await import_meanwhile("headrace.no_such_module")
