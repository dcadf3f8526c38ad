"""Cost and energy: what a bill by hand says, and never a guess that is not called one."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.schemas.errors import SettingsError
from headrace.schemas.prices import Prices, load_prices
from headrace.streams.observe.cost import cost_view, money_samples
from headrace.streams.observe.energy import EnergyMeter
from headrace.streams.observe.samples import Samples

PRICES = Prices(cpu_hour=3.6, egress_gb=2.0, cloud_1000=0.5, watts_per_core=7.0)


def counted(times: float) -> Samples:
    """What a pipeline counts in so many seconds, 500 predictions in each."""
    found: Samples = {
        ("headrace_worker_cpu_seconds_total", ("p", "enrich", "enrich")): 0.3,
        ("headrace_worker_cpu_seconds_total", ("p", "serve", "serve")): 0.2,
        ("headrace_stream_events_total", ("p", "enrich", "out")): 500,
        ("headrace_stream_events_total", ("p", "serve", "out")): 500,
        ("headrace_stream_events_total", ("p", "serve", "canary")): 3,
        ("headrace_raw_bytes_total", ("p", "enrich")): 1e6,
        ("headrace_raw_bytes_total", ("p", "serve")): 5e6,
        ("headrace_upstream_bytes_total", ("p", "serve")): 1e3,
        ("headrace_serving_saved_cpu_seconds_total", ("p", "m")): 0.1,
    }
    return {sample: value * times for sample, value in found.items()}


def test_a_thousand_predictions_cost_what_a_bill_by_hand_says() -> None:
    """A second of a core is 0.001, a kB sent 2e-6; the cloud's is its inferences and raw events."""
    view = cost_view(PRICES, counted(100.0), counted(1.0), None)

    assert view.per_1000 is not None
    assert view.per_1000.cpu == pytest.approx(2 * 0.5 * 0.001)
    assert view.per_1000.egress == pytest.approx(2 * 2e-6)
    assert view.per_1000.cloud == pytest.approx(0.5 + 2 * 2e-3)
    assert view.total.cpu == pytest.approx(100 * 0.5 * 0.001)
    assert view.total.saved == pytest.approx(100 * 0.1 * 0.001)
    assert view.total.cloud == pytest.approx(50 * 0.5 + 100 * 2e-3)


def test_energy_says_where_it_comes_from() -> None:
    """By the meter where there is one, else by the stated watts, else not at all."""
    rates = counted(1.0)
    bare = Prices(cpu_hour=3.6, egress_gb=2.0, cloud_1000=0.5)

    metered = cost_view(PRICES, rates, rates, 11.0)
    stated = cost_view(PRICES, rates, rates, None)
    unknown = cost_view(bare, rates, rates, None)

    assert (metered.joules, metered.energy) == (pytest.approx(11.0), "rapl")
    assert (stated.joules, stated.energy) == (pytest.approx(7.0), "estimate")
    assert (unknown.joules, unknown.energy) == (None, None)
    assert ("headrace_cost_energy_joules", ("p", "estimate")) in money_samples("p", stated)
    assert not [k for k in money_samples("p", unknown) if k[0] == "headrace_cost_energy_joules"]


def test_while_nothing_is_predicted_only_the_total_is_told() -> None:
    """No division by none: the bill goes on."""
    view = cost_view(PRICES, counted(1.0), {}, 11.0)

    assert (view.per_1000, view.joules) == (None, None)
    assert view.total.cpu > 0


class Machine:
    """A folder that looks like the kernel's: two packages, a part of one, busy time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stat = folder, folder / "stat"
        for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl"):
            (folder / name).mkdir()
            (folder / name / "max_energy_range_uj").write_text("10000000\n")
        self.reads(0, 0, 0)

    def reads(self, first_uj: int, second_uj: int, busy: int) -> None:
        """What the meters and the clock say now; the part says much, as it is in its package."""
        told = {"intel-rapl:0": first_uj, "intel-rapl:1": second_uj, "intel-rapl:0:0": 9_999_999}
        for name, energy in told.items():
            (self.folder / name / "energy_uj").write_text(f"{energy}\n")
        self.stat.write_text(f"cpu  {busy} 0 {busy} 12345 99 0 0 0 0 0\ncpu0 1 1 1 1\n")


def test_a_meter_tells_joules_of_a_busy_second_of_a_core(tmp_path: Path) -> None:
    """Packages are added up, parts within them are not; a meter that was full begins again."""
    machine = Machine(tmp_path)
    machine.reads(9_000_000, 0, 0)
    meter = EnergyMeter(tmp_path, machine.stat)
    assert meter.readable

    machine.reads(2_000_000, 1_000_000, 100)  # 3 J over the end, and 1 J; 2 s busy
    assert meter.joules_per_core_s(0.01) == pytest.approx(2.0)
    assert meter.joules_per_core_s(0.01) is None  # nothing was busy since


def test_a_machine_without_a_meter_says_so(tmp_path: Path) -> None:
    """Nothing there, or nothing that may be read: never a number."""
    meter = EnergyMeter(tmp_path, tmp_path / "stat")

    assert not meter.readable
    assert meter.joules_per_core_s(0.01) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpu_hour = 1\negress_gb = 1", "cloud_1000"),
        ("cpu_hour = -1\negress_gb = 1\ncloud_1000 = 1", "cpu_hour"),
        ("cpu_hour = 1\negress_gb = 1\ncloud_1000 = 1\nwatt_per_core = 3", "watts_per_core"),
        ("cpu_hour =", "reading prices"),
    ],
)
def test_prices_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """One line that names the file and the key."""
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_prices(file)
    assert said in str(error.value)
    assert "prices.toml" in str(error.value)
