"""The campaign's own store, and its report: a table at the end, and JSON where asked for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.schemas.errors import HeadraceError
from headrace.schemas.settings import BusSettings
from headrace.streams.drill.own_store import OwnStore
from headrace.streams.drill.services import Services

_runs: list[dict[str, Any]] = []


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnStore]:
    """A store that nobody else uses: it is emptied and killed."""
    store = OwnStore(tmp_path_factory.mktemp("store"))
    try:
        asyncio.run(store.start())
    except HeadraceError as error:
        if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(str(error))
    yield store
    asyncio.run(store.end())


@pytest.fixture
def own_store(valkey: OwnStore) -> str:
    """Its address."""
    return valkey.settings.url


@pytest.fixture
def services(kafka_url: str, valkey: OwnStore) -> Services:
    """A bus that others use as well, and that store."""
    return Services(BusSettings(url=kafka_url), valkey.settings, own_store=valkey)


@pytest.fixture
def report() -> list[dict[str, Any]]:
    """Takes one row of facts for each run of the campaign."""
    return _runs


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The campaign's table; its JSON goes to the file that ``CHAOS_REPORT`` names."""
    if not _runs:
        return
    terminalreporter.section("SIGKILL campaign")
    names = list(_runs[0])
    rows = [names, *([str(run[name]) for name in names] for run in _runs)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(names))]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join(cells))
    if file := os.environ.get("CHAOS_REPORT"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(_runs, indent=1) + "\n", "utf-8")
        terminalreporter.write_line(f"wrote {file}")
