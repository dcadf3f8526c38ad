"""What `headrace up` prints for a second terminal leads there, whatever was set there before."""

from __future__ import annotations

import pytest

from headrace.schemas.settings import BusSettings, StoreSettings, load_settings
from headrace.streams.cli.up import _exported
from headrace.streams.local.services import bus_kind
from headrace.streams.workers.jobs import Endpoints


@pytest.mark.parametrize(("embedded", "kind"), [(True, "embedded"), (False, "remote")])
@pytest.mark.parametrize("before", ["embedded", "kafka", "auto"])
def test_the_exported_line_says_which_bus_it_is(embedded: bool, kind: str, before: str) -> None:
    """A terminal that was led to an embedded bus is led to a Kafka by the next line."""
    places = Endpoints(
        bus=BusSettings(url="kafka://127.0.0.1:9092"),
        store=StoreSettings(url="redis://127.0.0.1:6379/0"),
        embedded=embedded,
    )
    environ = {"HEADRACE_BUS_KIND": before}

    words = _exported(places).split()
    environ |= dict(word.split("=", 1) for word in words[1:])

    assert words[0] == "export"
    assert bus_kind(load_settings(None, environ)) == kind
