"""The recording, its labels, the simulation and the measure of quality."""

from pathlib import Path

import numpy as np
import pytest
from changes import CHANGES, changes
from dataset import METRICS, Telemetry, is_affected, load_recording, mark
from measures import roc_auc
from quality import delays_s, quality
from record import Recording, columns
from simulate import TICKS, simulate

from headrace.schemas.pipeline import load_pipeline
from headrace.streams.producers.sample import HostEvent

HOSTS = Path(__file__).parents[3] / "examples" / "hosts"


def blank(rows: int) -> Telemetry:
    """One device, ten rows a second, nothing labelled."""
    zeros = np.zeros(rows, np.int64)
    return Telemetry(
        run=zeros,
        time_ms=np.arange(rows) * 100,
        device=zeros,
        kind=zeros,
        metrics=np.zeros((rows, len(METRICS))),
        label=np.zeros(rows, np.int8),
        episode=np.full(rows, -1, np.int64),
        episodes=["burn-all"],
        onset_ms=np.array([3000]),
    )


def test_an_episode_is_change_after_its_rise_and_unjudged_around_it() -> None:
    """From 1.2 s to 5 s after the start rows are change; before and 3 s after, not judged."""
    telemetry = blank(150)
    mark(telemetry, 0, 0, 3000, 8000, np.ones(150, bool))
    label = telemetry.label
    assert set(label[:28].tolist()) == {0}
    assert set(label[28:42].tolist()) == {-1}
    assert set(label[42:80].tolist()) == {1}
    assert set(label[80:110].tolist()) == {-1}
    assert set(label[110:].tolist()) == {0}


def test_a_device_that_need_not_show_it_is_not_judged_meanwhile() -> None:
    """What a disturbance does to other devices is neither rest nor change."""
    telemetry = blank(150)
    mark(telemetry, 0, 0, 3000, 8000, np.zeros(150, bool))
    assert set(telemetry.label[28:110].tolist()) == {-1}
    assert (telemetry.episode == -1).all()


@pytest.mark.parametrize(
    ("name", "affected", "is_it"),
    [
        ("core-0", ("core-first", "host"), True),
        ("core-1", ("core-first", "host"), False),
        ("core-1", ("core", "host"), True),
        ("net-lo", ("net-lo",), True),
        ("net-eth0", ("net-lo",), False),
        ("host", ("core", "host"), True),
        ("proc-0", ("core", "host"), False),
    ],
)
def test_who_must_show_a_disturbance(name: str, affected: tuple[str, ...], is_it: bool) -> None:
    """A burn of one core is the first core's and the host's, loopback traffic is loopback's."""
    assert is_affected(name, affected) is is_it


def test_the_recording_holds_no_personal_field() -> None:
    """Device names are numbered; there is no text but kinds of device and of disturbance."""
    with np.load(HOSTS / "recording.npz") as file:
        texts = {name for name in file.files if file[name].dtype.kind in "US"}
        names = file["devices"].tolist()
    assert texts == {"devices", "kinds", "episode_kind"}
    processes = [name for name in names if name.startswith("proc-")]
    assert processes == [f"proc-{number}" for number in range(len(processes))]
    assert {name.split("-")[0] for name in names} == {"core", "disk", "net", "host", "proc"}


def test_recording_a_process_leaves_its_name_and_pseudonym_out() -> None:
    """What `record.py` writes has neither name, command line nor hashed id of a process."""
    event = HostEvent(
        id="i",
        device_id="proc-5ec3e7",
        time="t",
        seq=1,
        kind="process",
        metrics=dict.fromkeys(METRICS, 0.5),
        payload="command line",
        process="secret name",
    )
    recording = Recording(events=[(10.0, event)], strange=[(10.0, 0.0), (10.1, 0.1)])
    written = b"".join(value.tobytes() for value in columns([recording]).values())
    text = written.replace(b"\0", b"")
    assert b"proc-0" in text
    for personal in (b"secret", b"command", b"5ec3e7"):
        assert personal not in text


def test_rows_near_other_peoples_work_are_not_judged() -> None:
    """The second session was recorded beside other work, and leaves those rows out."""
    telemetry = load_recording(HOSTS / "recording.npz")
    judged = [float((telemetry.label[telemetry.run == run] >= 0).mean()) for run in range(8)]
    assert min(judged[:5]) > 0.4
    assert max(judged[5:]) < 0.4


def test_the_simulation_is_the_same_for_the_same_seed() -> None:
    """Training can be repeated."""
    one, two, other = simulate(5, 7), simulate(5, 7), simulate(5, 8)
    assert np.array_equal(one.metrics, two.metrics)
    assert not np.array_equal(one.metrics, other.metrics)


def test_simulated_changes_are_rises_that_last() -> None:
    """On average a core is busier in the rows labelled change than at rest, by half a core."""
    telemetry = simulate(100, 7)
    core = telemetry.kind == 0
    load = telemetry.metrics[:, 0]
    assert len(telemetry) == 5 * 100 * TICKS
    rest, change = (load[core & (telemetry.label == label)].mean() for label in (0, 1))
    assert change - rest > 0.5
    assert (telemetry.metrics >= 0).all()


def test_a_perfect_score_has_perfect_quality_and_a_constant_one_has_none() -> None:
    """The measure tells a good model from one that says the same of everything."""
    telemetry = blank(150)
    mark(telemetry, 0, 0, 3000, 8000, np.ones(150, bool))
    perfect = quality(telemetry, (telemetry.label == 1).astype(float), 0.5)
    assert (perfect["precision"], perfect["recall"], perfect["roc_auc"]) == (1.0, 1.0, 1.0)
    constant = quality(telemetry, np.full(150, 0.9), 0.5)
    assert constant["roc_auc"] == 0.5
    assert constant["false_alarm_share"] == 1.0


def test_the_delay_counts_from_the_start_of_the_episode() -> None:
    """The first alarm 1.5 s after the start is a delay of 1.5 s; alarms before it do not count."""
    telemetry = blank(150)
    mark(telemetry, 0, 0, 3000, 8000, np.ones(150, bool))
    alarm = np.isin(telemetry.time_ms, [2900, 4500, 6000])
    assert delays_s(telemetry, alarm)["burn-all"]["max_delay_s"] == 1.5
    assert delays_s(telemetry, np.zeros(150, bool))["burn-all"]["found"] == 0


def test_ties_count_half() -> None:
    """Equal scores on both sides are neither right nor wrong."""
    assert roc_auc(np.array([0.5, 0.5]), np.array([0.5])) == 0.5
    assert roc_auc(np.array([0.9]), np.array([0.1])) == 0.0


def test_every_change_is_made_of_features_of_the_pipeline() -> None:
    """The fixed layer names model inputs only, and keeps each column within its bounds."""
    inputs = load_pipeline(HOSTS / "pipeline.toml").model_inputs
    features = np.random.default_rng(1).normal(0, 100, (500, len(inputs))).astype(np.float32)
    found = changes(features, inputs)
    for column, (terms, low, high) in zip(found.T, CHANGES, strict=True):
        assert set(terms) <= set(inputs)
        assert column.min() == low
        assert column.max() == high
