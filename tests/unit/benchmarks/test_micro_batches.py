"""What `benchmarks/micro_batches.py` counts is what went through; nothing is timed here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[3] / "benchmarks" / "micro_batches.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("micro_batches", FILE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("size", [1, 7, 60])
async def test_every_event_is_predicted_in_batches_of_any_size(
    bench: ModuleType, size: int
) -> None:
    """The cost is that of the whole path, also where the last batch is a short one."""
    found = await bench.path(bench.strokes(60), size)

    assert found["batch"] == size
    assert min(found["events_per_s"], found["cpu_us_per_event"]) > 0


async def test_events_that_are_not_predicted_are_no_result(bench: ModuleType) -> None:
    """A record that is no event ends the run with one line."""
    with pytest.raises(SystemExit, match="59 of 60 events"):
        await bench.path([*bench.strokes(59), b"{"], 60)


async def test_a_setting_joins_as_many_rows_as_it_may(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row a call without company; with a wait for it, more than one and no more than asked."""
    monkeypatch.setattr(bench, "SECONDS", 0.05)

    assert (await bench.waits(1, 0.0))["rows_per_call"] == 1
    assert 1 < (await bench.waits(16, 1.0))["rows_per_call"] <= 16
