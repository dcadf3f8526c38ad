"""From two samples to events: the pure core of the host source."""

import json

import msgspec
import pytest

from headrace.streams.producers.sample import Reading, Sample, events, measure, rfc3339

# Two samples of one Linux machine, 0.1 s apart, as read: a disk that writes, a busy core.
BEFORE = {
    "core-0": Reading("core-0", "core", busy_s=43.05, span_s=2100.25, operations=68_400),
    "disk-vda": Reading(
        "disk-vda",
        "disk",
        busy_s=7.8,
        span_s=2101.0,
        operations=80_266,
        moved_bytes=4_133_164_032,
        waited_s=50.159,
    ),
    "proc-3f": Reading("proc-3f", "process", busy_s=1.25, span_s=2101.0, process="postgres"),
}
AFTER = {
    "core-0": Reading("core-0", "core", busy_s=43.13, span_s=2100.35, operations=68_425),
    "disk-vda": Reading(
        "disk-vda",
        "disk",
        busy_s=7.875,
        span_s=2101.1,
        operations=80_296,
        moved_bytes=4_164_621_312,
        waited_s=50.409,
        payload="sdiskio(read_count=70225)",
    ),
    "net-eth0": Reading("net-eth0", "net", busy_s=1.0, span_s=2101.1),
}


def sample(number: int, at_s: float, readings: dict[str, Reading]) -> Sample:
    return Sample(number, 1795255200.123 + at_s, at_s, readings)


def test_recorded_samples_give_the_metrics_computed_by_hand() -> None:
    """Each counter's growth over 0.1 s becomes a rate, busy time a share of the possible time."""
    core, disk = events(sample(7, 0.0, BEFORE), sample(8, 0.1, AFTER), run="ab12")
    assert core.metrics == pytest.approx(
        {"load": 0.8, "ops_per_s": 250.0, "bytes_per_s": 0.0, "pressure": 0.0, "memory": 0.0}
    )
    assert disk.metrics == pytest.approx(
        {
            "load": 0.75,
            "ops_per_s": 300.0,
            "bytes_per_s": 314_572_800.0,
            "pressure": 2.5,
            "memory": 0.0,
        }
    )


def test_only_devices_in_both_samples_give_events() -> None:
    """A process that vanished and an interface that just came up are no error and no event."""
    made = events(sample(7, 0.0, BEFORE), sample(8, 0.1, AFTER), run="ab12")
    assert [event.device_id for event in made] == ["core-0", "disk-vda"]


def test_an_event_has_the_default_form() -> None:
    """Encoded, an event has the fields of the contract and nothing that is not set."""
    core = events(sample(7, 0.0, BEFORE), sample(8, 0.1, AFTER), run="ab12")[0]
    tree = json.loads(msgspec.json.encode(core))
    assert tree == {
        "id": "core-0-ab12-8",
        "device_id": "core-0",
        "time": "2026-11-21T10:00:00.223Z",
        "seq": 8,
        "kind": "core",
        "metrics": core.metrics,
        "payload": "",
    }


def test_a_process_is_named_in_its_personal_field_only() -> None:
    """The name of a process stands in `process`, never in the id or the device id."""
    again = {"proc-3f": Reading("proc-3f", "process", 1.3, 2101.1, process="postgres")}
    (event,) = events(sample(7, 0.0, BEFORE), sample(8, 0.1, again), run="ab12")
    tree = json.loads(msgspec.json.encode(event))
    assert tree.pop("process") == "postgres"
    assert "postgres" not in json.dumps(tree)


@pytest.mark.parametrize("counter", ["busy_s", "operations", "moved_bytes", "waited_s"])
def test_a_counter_that_goes_back_counts_as_unchanged(counter: str) -> None:
    """A device that was reset gives 0 and never a negative rate."""
    values = {"busy_s": 0.0, "operations": 0.0, "moved_bytes": 0.0, "waited_s": 0.0}
    before = Reading("net-eth0", "net", span_s=10.0, **{**values, counter: 5.0})
    after = Reading("net-eth0", "net", span_s=10.1, **values)
    assert set(measure(before, after, 0.1).values()) == {0.0}


def test_samples_at_the_same_moment_give_nothing() -> None:
    """Without time between two samples there is no rate to tell."""
    assert events(sample(7, 0.5, BEFORE), sample(8, 0.5, AFTER), run="ab12") == []


def test_a_core_that_did_not_count_at_all_has_no_load() -> None:
    """A span of zero (a core taken offline) is no division by zero."""
    still = Reading("core-1", "core", busy_s=5.0, span_s=10.0)
    assert measure(still, still, 0.1)["load"] == 0.0


def test_times_have_milliseconds_even_when_they_are_zero() -> None:
    """The width of the time is fixed, so that the fast decoder takes it."""
    assert rfc3339(1795255200.0) == "2026-11-21T10:00:00.000Z"
