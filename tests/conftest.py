"""Session-wide services on loopback, and names that no other test uses.

``HEADRACE_TEST_KAFKA`` and ``HEADRACE_TEST_REDIS`` name services to use instead of local ones.
A service that cannot be had skips its tests with the reason; ``HEADRACE_REQUIRE_SERVICES=1`` (CI)
fails them.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from fakes.services import running

from headrace.streams.local.embedded_bus import EmbeddedBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.local_kafka import LocalKafka

SERVICES = {"kafka_url", "tansu_url", "store_url", "bus_url"}

# A busy machine is no failure: no example is judged by how long it took.
hypothesis.settings.register_profile("headrace", deadline=None)
hypothesis.settings.load_profile("headrace")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a service `integration`, and `kafka` what needs Java.

    Before `-m` is looked at, so that `make test` can leave the latter out: tests of services that
    name Kafka in a fixture or a parameter.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if SERVICES.intersection(fixtures):
            item.add_marker(pytest.mark.integration)
        if not (item.get_closest_marker("integration") or item.get_closest_marker("chaos")):
            continue
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        if any("kafka" in name.lower() for name in [*fixtures, *map(str, values)]):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    """A real Apache Kafka, empty at the start of the session: ``kafka://127.0.0.1:…``."""
    named = os.environ.get("HEADRACE_TEST_KAFKA")
    if named:
        yield named
        return
    yield from running(LocalKafka())


@pytest.fixture(scope="session")
def tansu_url() -> Iterator[str]:
    """The embedded bus: ``kafka://127.0.0.1:…``; no transactions, one member per group."""
    yield from running(EmbeddedBus())


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """A Redis-compatible server: ``redis://127.0.0.1:…/0``; keep to a `unique` prefix."""
    named = os.environ.get("HEADRACE_TEST_REDIS")
    if named:
        yield named
        return
    yield from running(EmbeddedStore())


@pytest.fixture(params=["tansu_url", "kafka_url"])
def bus_url(request: pytest.FixtureRequest) -> str:
    """Each bus in turn: the embedded one, and a real Apache Kafka."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes a topic name, group or key prefix that no other test uses: ``unique("telemetry")``."""
    suffix = uuid.uuid4().hex[:8]
    return lambda name: f"{name}-{suffix}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The chaos campaign's table, whoever ran it; its JSON where ``CHAOS_REPORT`` says."""
    done = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = [report for report in done if getattr(report, "when", None) == "call"]
    facts = [fact for report in calls for fact in report.user_properties]
    runs = [row for name, row in facts if name == "campaign"]
    if not runs:
        return
    terminalreporter.section("SIGKILL campaign")
    rows = [list(runs[0]), *([str(cell) for cell in run.values()] for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join(cells))
    if file := os.environ.get("CHAOS_REPORT"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(runs, indent=1) + "\n", "utf-8")
        terminalreporter.write_line(f"wrote {file}")
