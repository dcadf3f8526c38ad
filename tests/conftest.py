"""Marks the tests that need Java: those on services that name Kafka in a fixture or parameter."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them `kafka`, so that `make test` can leave them out before `-m` is looked at."""
    for item in items:
        if not (item.get_closest_marker("integration") or item.get_closest_marker("chaos")):
            continue
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        names = [*getattr(item, "fixturenames", ()), *map(str, values)]
        if any("kafka" in name.lower() for name in names):
            item.add_marker(pytest.mark.kafka)
