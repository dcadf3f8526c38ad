"""From what a caller knows of the bus to a `Bus`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.schemas.settings import BusSettings
from headrace.streams.client.bus import Bus


def bus_of(bus: BusSettings | Mapping[str, Any] | Bus) -> Bus:
    """Connection settings or aiokafka client options as a `Bus`; a `Bus` as it is.

    Raises:
        SettingsError: settings that no connection can be made of. Fatal.
    """
    if isinstance(bus, BusSettings | Mapping):
        # Loads aiokafka, which a caller with a bus of its own does not need.
        from headrace.streams.bus.options import client_options
        from headrace.streams.client.kafka_bus import KafkaBus

        return KafkaBus(client_options(bus) if isinstance(bus, BusSettings) else bus)
    return bus
