"""The examples' pages, followed to the letter: every event decided as it was in training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from fakes.examples import EXAMPLES, simulated
from fit import score
from integration.stranger.readme import ROOT, Running, Terminal, blocks, commands
from labelled import Sent
from stream import featured

from headrace.schemas.pipeline import load_pipeline

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(params=["press", "wearables", "shops"])
def example(request: pytest.FixtureRequest) -> str:
    """Each example in turn."""
    name: str = request.param
    return name


@pytest.fixture(params=["embedded", "kafka"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Terminal:
    """A folder beside the examples, on the embedded bus and on a real Kafka in turn."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    settings = {"HEADRACE_BUS_KIND": "embedded", "HEADRACE_WORKER_DATA_DIR": str(tmp_path / "data")}
    if request.param == "kafka":
        bus, store = (request.getfixturevalue(name) for name in ("kafka_url", "store_url"))
        settings = {"HEADRACE_BUS": bus, "HEADRACE_STORE": store}
    return Terminal(tmp_path, **settings)


def write_events(terminal: Terminal, page: str) -> list[Sent]:
    """Run the page's `… events … > FILE`; what it simulates, which is what the file holds."""
    lines = [line for block in blocks("sh", page) for line in block.splitlines()]
    [line] = [line for line in lines if line.startswith("python examples/training events ")]
    words, _, file = line.partition(" > ")
    called = shlex.split(words)
    (terminal.folder / file).write_text(terminal.output(called), "utf-8")
    size = {name: float(called[called.index(f"--{name}") + 1]) for name in ("count", "minutes")}
    log = simulated(called[3], **size)
    values = (terminal.folder / file).read_bytes().splitlines()
    assert values == [sent.value() for sent in log]
    labels = (terminal.folder / "labels.ndjson").read_text("utf-8").splitlines()
    assert [json.loads(one)["label"] for one in labels] == [sent.label for sent in log]
    return log


def test_every_event_is_decided_as_in_training(example: str, terminal: Terminal) -> None:
    """Sent over a bus and through both stages, each event scores bit for bit as it did in training.

    Late events and repeats are served no more and no less often than there, and what is personal
    or raw is in no prediction and no summary.
    """
    page, file = f"examples/{example}/README.md", EXAMPLES / example / "pipeline.toml"
    check, up, produce, consume, summaries = commands(page)
    pipeline = load_pipeline(file)
    assert "golden" in terminal.output(check)
    with Running(terminal, up) as running:
        words = running.line("export ").split()[1:]
        second = Terminal(terminal.folder, **dict(word.split("=", 1) for word in words))
        running.line("ready: enrich, serve")
        log = write_events(second, page)
        assert f"sent {len(log)}" in second.output(produce)
        expected = featured(file, log)
        wanted = [*consume, "--json", "--count", str(len(expected.sent))]
        rows = second.output(wanted).splitlines()[:-1]
        windows = second.output([*summaries, "--json", "--count", "1"]).splitlines()[:-1]

    model = (file.parent / pipeline.model.file).read_bytes()
    scores = dict(
        zip(
            [sent.event["id"] for sent in expected.sent],
            score(model, expected.inputs).tolist(),
            strict=True,
        )
    )
    found = {row["event_id"]: row for row in map(json.loads, rows)}
    assert {name: np.float32(row["score"]) for name, row in found.items()} == {
        name: np.float32(value) for name, value in scores.items()
    }
    labels = pipeline.model.outputs
    assert {row["label"] for row in found.values()} == {labels.label, labels.otherwise}
    for line in [*rows, *windows]:
        assert not [
            name for name in (*pipeline.input.raw, *pipeline.input.personal) if name in line
        ]
    if pipeline.input.entity_personal:
        assert not [sent.key for sent in log if f'"{sent.key}"' in windows[0]]
