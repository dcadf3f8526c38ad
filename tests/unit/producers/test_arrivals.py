"""When devices read: the rates that were asked for."""

from itertools import pairwise

import numpy as np
import pytest

from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.producers import arrivals
from headrace.streams.producers.arrivals import BURST, Arrivals
from headrace.streams.producers.fleet import BLOCK_MS, Fleet
from headrace.streams.producers.plan import Plan
from headrace.streams.producers.profiles import PROFILES, counts

PRESS = load_pipeline(pipeline_file("press"))
CHANCE = np.random.default_rng(1)


def readings(plan: Plan) -> np.ndarray:
    """How many readings were made in each second."""
    fleet, made = Fleet(plan, PRESS, 2, 0), []
    while fleet.take() is not None:
        made.append(fleet.made)
    per_block = np.diff(made, prepend=0)[: int(plan.seconds * 1000 / BLOCK_MS)]
    return per_block.reshape(-1, 1000 // BLOCK_MS).sum(axis=1)


def test_a_steady_fleet_keeps_its_rate() -> None:
    """Every second holds the asked number of readings, but for the rounding of each kind."""
    assert np.abs(readings(Plan(rate_per_s=777, seconds=10)) - 777).max() <= len(PROFILES)


def test_a_burst_is_ten_times_the_rate_for_thirty_seconds() -> None:
    """Seconds 30 to 60 hold ten times as many, the others what is steady."""
    found = readings(Plan(rate_per_s=100, seconds=90, pattern="bursty"))

    assert np.abs(found[30:60] - 100 * BURST).max() <= len(PROFILES)
    assert np.abs(np.delete(found, np.s_[30:60]) - 100).max() <= len(PROFILES)


def test_a_day_rises_and_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate at noon is ten times that of midnight."""
    monkeypatch.setattr(arrivals, "DAY_S", 40.0)
    found = readings(Plan(rate_per_s=1000, seconds=40, devices=10, pattern="diurnal"))

    assert found[0] < 110
    assert 980 < found[19:21].min() <= found.max() < 1010
    assert found[-1] < 110


def test_without_skew_every_device_has_its_turn() -> None:
    """In one period each device reads once, and not in the order of their numbers."""
    kind = Arrivals(PROFILES[0], 101, 10.1, 0.0)
    device, at = kind.between(0.0, kind.period_s, CHANCE)

    assert sorted(device.tolist()) == list(range(101))
    assert (np.abs(np.diff(device)) > 1).mean() > 0.9
    assert (np.diff(at) > 0).all()


def test_skewed_devices_follow_their_rank() -> None:
    """With exponent 1, the busiest device has twice the readings of the second."""
    device, _ = Arrivals(PROFILES[0], 1000, 1e5, 1.0).between(0.0, 1.0, CHANCE)
    often = np.sort(np.bincount(device, minlength=1000))[::-1]

    assert 1.8 < often[0] / often[1] < 2.2
    assert 0.11 < often[0] / often.sum() < 0.16


def test_stretches_add_up() -> None:
    """However the time is cut, the same readings come."""
    kind = Arrivals(PROFILES[1], 7, 33.3, 0.0)
    whole = kind.between(0.0, 10.0, CHANCE)[1]
    cuts = [0.0, 0.01, 2.5, 2.5001, 9.0, 10.0]
    parts = [kind.between(a, b, CHANCE)[1] for a, b in pairwise(cuts)]

    assert np.array_equal(whole, np.concatenate(parts))


def test_every_device_has_a_kind() -> None:
    """Shares of devices add up to all of them, for any number."""
    for devices in range(1, 2000, 7):
        found = counts(devices, PROFILES)
        assert sum(found) == devices
        assert min(found) >= (devices >= len(PROFILES))
