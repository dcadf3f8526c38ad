"""Kinds of devices of a simulated fleet: what each sends, how often, how well it is connected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of device.

    Attributes:
        name: Begins every device id.
        share: Share of the fleet's devices.
        weight: Readings per device, against those of a sensor.
        payload_bytes: Raw content of an event, bytes, where the pipeline has a field for it.
        clock_ms: A device's clock is wrong by at most this, milliseconds, each by its own.
        delay_ms: Mean time of an event on its way, milliseconds.
        offline_share: Share of the time without a connection; what is read meanwhile comes after.
        offline_s: One such time, seconds.
    """

    name: str
    share: float
    weight: float
    payload_bytes: int
    clock_ms: float
    delay_ms: float
    offline_share: float
    offline_s: float


PROFILES = (
    Profile("sensor", 0.4, 1.0, 16, 500.0, 20.0, 0.005, 5.0),
    Profile("phone", 0.3, 0.5, 200, 200.0, 60.0, 0.05, 8.0),
    Profile("ipc", 0.1, 10.0, 64, 5.0, 2.0, 0.0005, 2.0),
    Profile("camera", 0.1, 2.0, 1200, 50.0, 10.0, 0.002, 4.0),
    Profile("gateway", 0.1, 5.0, 400, 20.0, 15.0, 0.01, 10.0),
)
"""Sensors, phones, industrial PCs, cameras and near-device gateways."""


def counts(devices: int, profiles: Sequence[Profile]) -> list[int]:
    """Devices of each kind: by their shares, at least one of each while there are enough.

    Example:
        >>> counts(1000, PROFILES), counts(3, PROFILES)
        ([400, 300, 100, 100, 100], [1, 1, 1, 0, 0])
    """
    total = sum(profile.share for profile in profiles)
    found = [max(1, int(devices * profile.share / total)) for profile in profiles]
    # What rounding took or gave is the first kind's; of few devices the last kinds have none.
    for number in range(len(found)):
        found[number] = max(0, min(found[number], devices - sum(found[:number])))
    found[0] += devices - sum(found)
    return found
