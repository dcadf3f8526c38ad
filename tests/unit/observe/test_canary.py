"""Probes: what is right, what is told of them, and who never sees one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fakes.predicted import predicted

from headrace.enrichers.decode import Decoder
from headrace.enrichers.registry import NO_REGISTRY
from headrace.schemas.batch import RecordBatch
from headrace.schemas.canary import RESERVED, Canary, probe_device
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.client.predictions import Predictions
from headrace.streams.console.devices import DeviceBoard
from headrace.streams.observe.canary_book import FAILING, CanaryBook, outcome_of
from headrace.streams.observe.objectives import ObjectiveBook
from headrace.streams.observe.prober import ProbeEvents

RIGHT = Canary(metrics={"load": 0.1}, within_ms=100.0, least=0.2, most=0.4)
EXAMPLES = ("hosts", "press", "wearables", "shops")


@pytest.mark.parametrize(
    ("score", "took_ms", "outcome"),
    [(0.3, 99.0, "right"), (0.3, 101.0, "slow"), (0.5, 1.0, "wrong"), (None, 1.0, "wrong")],
)
def test_an_answer_is_right_in_value_and_in_time(
    score: float | None, took_ms: float, outcome: str
) -> None:
    """A wrong answer is wrong however late it is; none at all is missing."""
    assert outcome_of(RIGHT, predicted("d", score), took_ms) == outcome
    assert outcome_of(RIGHT, None, 0.0) == "missing"


def test_three_in_a_row_are_trouble_and_one_that_is_right_ends_it() -> None:
    """The health names what became of the newest; metrics count all of them."""
    book = CanaryBook()
    for _ in range(FAILING - 1):
        book.add("missing")
    assert book.trouble() == []
    book.add("wrong", 12.0)
    assert book.trouble() == ["canary: the last 3 probes were not right, the newest wrong"]
    book.add("right", 7.0)
    assert book.trouble() == []
    assert book.samples("press") == {
        ("headrace_canary_probes_total", ("press", "missing")): 2,
        ("headrace_canary_probes_total", ("press", "wrong")): 1,
        ("headrace_canary_probes_total", ("press", "right")): 1,
        ("headrace_canary_answer_seconds", ("press",)): 0.007,
    }


def test_lost_probes_make_an_incident_without_any_objective_in_the_file() -> None:
    """Three that are missing page somebody; the incident ends when probes are right again."""
    plain = load_pipeline(pipeline_file("hosts"))
    pipeline = msgspec.structs.replace(plain, canary=RIGHT)
    assert [name for _, name, _ in plain.objectives.every()] == [
        name for _, name, _ in pipeline.objectives.every() if name != "canary"
    ]
    book, probes = ObjectiveBook("hosts", pipeline.objectives, lambda: "bus.away"), CanaryBook()
    begun = []
    for look in range(3):
        probes.add("missing")
        begun += book.observe(look * 10.0, look, probes.samples("hosts"), {})
    assert [(i.objective, i.severity, i.cause) for i in begun] == [("canary", "page", "bus.away")]
    ended = []
    for look in range(3, 100):
        probes.add("right", 5.0)
        ended += book.observe(look * 10.0, look, probes.samples("hosts"), {})
    assert [incident.end_ms is not None for incident in ended if incident.end_ms] == [True]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_probe_is_an_event_of_its_pipeline(example: str) -> None:
    """Decoded by the pipeline's own input: no dead letter, its device, time and metrics."""
    pipeline = load_pipeline(pipeline_file(example))
    metrics = {
        name: one.min if one.min is not None else 0.5
        for name, one in pipeline.input.metrics.items()
    }
    device, time_ms = probe_device(3), 1_790_000_000_123
    value = ProbeEvents(pipeline.input, Canary(metrics=metrics), "a1").one(7, device, time_ms)
    log_ms = np.array([time_ms + 5])
    key = device.encode()
    batch = RecordBatch("t", 0, np.array([0]), log_ms, [key], [value])

    decoded = Decoder(pipeline.input, NO_REGISTRY)(batch)

    assert decoded.dead == {}
    assert decoded.events.entities == [device]
    assert decoded.events.event_times_ms.tolist() == [time_ms]
    assert decoded.events.metrics.tolist() == [[metrics[n] for n in pipeline.input.metric_names]]


def test_no_consumer_and_no_board_sees_a_probe() -> None:
    """A reader marks it, counts no latency of it; the console's devices do without it."""
    both = [predicted(probe_device(0), 0.9), predicted("core-1", 0.1)]
    values = [msgspec.json.encode(one) for one in both]
    keys = [one.device_id.encode() for one in both]
    content = Predictions()
    batch = RecordBatch("p", 0, np.arange(2), np.arange(2), list(keys), list(values))
    read = [row for row in content.read(batch) if row is not None]
    content.arrive([(row, False) for row in read], 10.0)
    board = DeviceBoard("anomaly")
    board.take(both)

    assert [row.probe for row in read] == [True, False]
    assert content.latency.count == 1
    assert [row["name"] for row in board.ranked(9, now_ms=0.0)] == ["core-1"]
    assert probe_device(0).startswith(RESERVED)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("metrics = { lod = 1.0 }", "canary.metrics names 'lod', which does not exist"),
        ("metrics = { memory = 0.1 }", "canary.metrics lacks"),
        ("metrics = {{ {all} }}\nleast = 2.0", "canary.least is 2, expected at most"),
        ("metrics = {{ {all} }}\ninterval_s = 0.5", "canary.within_ms is 1000, expected at most"),
    ],
)
def test_a_probe_that_could_tell_nothing_is_refused(tmp_path, table: str, said: str) -> None:
    """The line names the key, what was found and what was expected."""
    file = pipeline_file("hosts")
    names = load_pipeline(file).input.metric_names
    every = ", ".join(f"{name} = 0.1" for name in names)
    made = table.replace("{all}", every).replace("{{", "{").replace("}}", "}")
    copy = tmp_path / "pipeline.toml"
    copy.write_text(file.read_text("utf-8") + f"\n[canary]\n{made}\n", "utf-8")

    with pytest.raises(PipelineFileError) as error:
        load_pipeline(copy)
    assert said in str(error.value)
