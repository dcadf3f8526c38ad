"""A bus without transactions is not asked for exactly-once delivery: one line, before the start."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.options import client_options
from headrace.streams.sites.modes import check_mode, check_transactions

HOSTS = Path(__file__).parents[3] / "examples" / "hosts" / "pipeline.toml"


def pipeline(mode: str) -> Pipeline:
    """The default pipeline in one delivery mode."""
    loaded = load_pipeline(HOSTS)
    delivery = msgspec.structs.replace(loaded.delivery, mode=mode)
    return msgspec.structs.replace(loaded, delivery=delivery)


@pytest.fixture
def tansu(tansu_url: str) -> str:
    """The session's embedded bus, started outside any event loop."""
    return tansu_url


@pytest.fixture
def kafka(kafka_url: str) -> str:
    """The session's Kafka, likewise."""
    return kafka_url


def test_the_embedded_bus_is_refused_by_name() -> None:
    """Setting, reason and both remedies in one line; the default mode is not refused."""
    with pytest.raises(SettingsError) as refused:
        check_mode(pipeline("exactly-once"), embedded=True)
    line = str(refused.value)
    assert "delivery.mode 'exactly-once'" in line
    assert "headrace kafka --install" in line
    assert 'mode = "at-least-once"' in line
    assert "\n" not in line
    check_mode(pipeline("at-least-once"), embedded=True)
    check_mode(pipeline("exactly-once"), embedded=False)


async def test_a_bus_that_turns_out_to_have_none_is_refused(tansu: str) -> None:
    """A bus named by its address says so only when it is asked."""
    options = client_options(BusSettings(url=tansu))
    with pytest.raises(SettingsError, match="a bus that has no transactions"):
        await check_transactions(pipeline("exactly-once"), options)
    await check_transactions(pipeline("at-least-once"), options)


async def test_a_real_kafka_passes(kafka: str) -> None:
    """And may be asked again and again."""
    options = client_options(BusSettings(url=kafka))
    for _ in range(2):
        await check_transactions(pipeline("exactly-once"), options)
