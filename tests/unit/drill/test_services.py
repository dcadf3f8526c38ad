"""Which faults are for which services, and that every fault of a service has its blow."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.schemas.errors import LocalServiceError
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.drill.kinds import KINDS, TRAITS
from headrace.streams.drill.own_bus import OwnBus
from headrace.streams.drill.own_store import OwnStore
from headrace.streams.drill.services import Services, _Disks
from headrace.streams.drill.strikes import MOODS, ORDERS

BUS = BusSettings(url="kafka://bus.example:9092")
STORE = StoreSettings(url="redis://store.example:6379/0")


def own(folder: Path, **more: str | None) -> Services:
    """Bus and store of the drill's own, not started."""
    bus, store = OwnBus(folder / "bus"), OwnStore(folder / "store")
    return Services(BUS, STORE, own_bus=bus, own_store=store, **more)


def test_given_services_are_left_alone() -> None:
    """With a line for each fault that would strike them, and for no other."""
    services = Services(BUS, STORE)
    left_out = {kind for kind in KINDS if services.left_out(kind)}

    assert left_out == {k for k in KINDS if TRAITS[k].on in ("bus", "store")} | {"bus-lost"}
    assert services.for_workers == services.endpoints


def test_own_services_take_every_fault(tmp_path) -> None:
    """Where disks can be filled, too; workers come through a proxy."""
    services = own(tmp_path, no_disk=None)

    assert [kind for kind in KINDS if services.left_out(kind)] == []
    assert services.for_workers.bus != services.endpoints.bus


def test_disks_that_may_not_be_mounted_are_told_of(tmp_path, monkeypatch) -> None:
    """The fault says so and is left out; nothing else changes."""

    def refused() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("headrace.streams.drill.services.own_mounts", refused)
    disks = _Disks(tmp_path)
    disks.mount({"bus", "store"})
    services = own(tmp_path, no_disk=disks.refused)
    told = {kind: why for kind in KINDS if (why := services.left_out(kind))}

    assert set(told) == {"bus-disk-full", "store-disk-full"}
    assert all("refused (Operation not permitted)" in why for why in told.values())
    disks.unmount()


def test_every_fault_has_its_blow(tmp_path) -> None:
    """None is planned and then unknown."""
    struck = set(own(tmp_path)._blows()) | set(MOODS) | set(ORDERS)
    by_hand = {k for k in KINDS if TRAITS[k].on in ("worker", "group", "log")} | {"store-lost"}

    assert struck | by_hand == set(KINDS)
    assert struck & by_hand == set()


async def test_what_is_not_its_own_is_not_struck() -> None:
    """Even where a plan says so."""
    services = Services(BUS, STORE)

    with pytest.raises(LocalServiceError, match="not the drill's own"):
        await services.empty_store()
    with pytest.raises(LocalServiceError, match="not the drill's own"):
        await services.lose_bus()
