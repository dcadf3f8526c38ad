"""A stranger follows README.md to the letter, in a folder and with a model of their own."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import onnxruntime
import pytest
from fakes.onnx_models import model_bytes, tensor
from integration.stranger.readme import Running, Terminal, blocks, commands
from onnx import helper

WEIGHTS = np.array([[0.004], [0.31], [0.05]], np.float32)
BIAS = np.array([-4.1], np.float32)


def own_model() -> bytes:
    """A model that Headrace has never seen: sigmoid(features · weights + bias)."""
    nodes = [
        helper.make_node("Gemm", ["rows", "w", "b"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    return model_bytes(
        nodes,
        [tensor("rows", ["N", 3])],
        [tensor("score", ["N", 1])],
        [("w", WEIGHTS), ("b", BIAS)],
    )


def scores_by_hand(events: list[tuple[str, float, float]]) -> list[float]:
    """Scores of (serial, zone, fan) in order: raw values and the change of zone since the last."""
    session = onnxruntime.InferenceSession(own_model())
    last: dict[str, float] = {}
    scores = []
    for serial, zone, fan in events:
        row = np.array([[zone, fan, zone - last.get(serial, zone)]], np.float32)
        last[serial] = zone
        scores.append(session.run(None, {"rows": row})[0].item())
    return scores


def readme_events() -> list[tuple[str, float, float]]:
    """The page's example events."""
    rows = [json.loads(line) for line in blocks("json")[0].splitlines()]
    return [
        (row["asset"]["serial"], row["readings"]["zone"]["temp"], row["readings"]["fan"]["amps"])
        for row in rows
    ]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def terminal(request, tmp_path) -> Terminal:
    """An empty folder with what README.md says to write, on each bus of this machine in turn."""
    folder = tmp_path / "a stranger's folder"
    folder.mkdir()
    [pipeline] = blocks("toml")
    (folder / f"{tomllib.loads(pipeline)['name']}.toml").write_text(pipeline, "utf-8")
    (folder / "furnace.onnx").write_bytes(own_model())
    (folder / "events.ndjson").write_text(blocks("json")[0], "utf-8")
    (folder / "service.py").write_text(blocks("python")[0], "utf-8")
    if request.param == "kafka":
        request.getfixturevalue("kafka_url")  # skips where there is none
    return Terminal(
        folder,
        HEADRACE_BUS_KIND=request.param,
        HEADRACE_WORKER_DATA_DIR=str(tmp_path / "data"),
    )


def export(terminal: Terminal, line: str) -> Terminal:
    """A second terminal, after its user pasted the line."""
    words = line.split()
    assert words[0] == "export"
    return Terminal(terminal.folder, **dict(word.split("=", 1) for word in words[1:]))


@pytest.mark.integration
@pytest.mark.slow
def test_every_step_of_the_readme_works(terminal):
    """Model check, doctor, up, produce, consume, features and the Python service, as written.

    The scores are those of onnxruntime on features computed by hand.
    """
    check, doctor, up, produce, features, consume = (
        words for words in commands() if "kafka" not in words
    )
    assert (up[1], produce[1], consume[1]) == ("up", "produce", "consume")
    assert "order: zone_c_raw, fan_a_raw, zone_c_delta\n" in terminal.output(check)
    assert "fail" not in terminal.output(doctor)
    events = readme_events()
    with Running(terminal, up) as running:
        second = export(terminal, running.line("export "))
        running.line("ready: enrich, serve")
        assert f"sent {len(events)}  bad 0" in second.output(produce)

        wanted = [*consume, "--json", "--count", str(len(events))]
        found = [json.loads(line) for line in second.output(wanted).splitlines()][:-1]

        by_source = sorted(found, key=lambda row: (row["device_id"], row["event_time"]))
        order = sorted(range(len(events)), key=lambda n: (events[n][0], n))
        expected = scores_by_hand(events)
        assert [row["device_id"] for row in by_source] == [events[n][0] for n in order]
        np.testing.assert_array_almost_equal_nulp(
            np.array([row["score"] for row in by_source], np.float32),
            np.array([expected[n] for n in order], np.float32),
        )
        assert {row["label"] for row in found} <= {"anomaly", "normal"}
        last = [*events, ("F-1", 902.0, 4.4)]
        serial, score, label = second.output(["python", "service.py"]).split()
        assert (serial, label) == ("F-1", "anomaly" if float(score) >= 0.8 else "normal")
        assert np.float32(score) == pytest.approx(scores_by_hand(last)[-1], rel=3e-7)
        store = json.loads(second.output([*features, "--json"]))
        assert [*store["F-1"]["furnace"]["values"].values()] == [902.0, 4.4, 902.0 - 871.0]
