"""Telemetry and a device registry in, the enriched topic out: pinned, and looked through by hand.

`tests/golden/enrich` holds a pipeline file, its registry, telemetry, and `enriched.json`: what the
enrich stage made of it. A change of any number there is a change for everybody who reads features.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.agents.enrich import enrich_agent

GOLDEN = Path(__file__).parents[2] / "golden" / "enrich"
PIPELINE = load_pipeline(GOLDEN / "pipeline.toml")
TOPICS = topics_of(PIPELINE)
BEGIN_MS = 1_795_255_200_000
LINES = (GOLDEN / "telemetry.ndjson").read_bytes().splitlines()
REGISTRY = ("kind", "chip", "accelerator", "memory_gb", "born", "os")


def telemetry(first: int, last: int) -> RecordBatch:
    """Lines of the file as records; the broker has each 10 s after the log's begin."""
    offsets = np.arange(first, last)
    times = np.full(last - first, BEGIN_MS + 10_000)
    values: list[bytes | None] = [*LINES[first:last]]
    return RecordBatch(TOPICS.telemetry.name, 0, offsets, times, [b"k"] * len(values), values)


async def enriched(cuts: list[int]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Rows of the features topic, and what went elsewhere, of the telemetry cut at `cuts`."""
    agent = enrich_agent(PIPELINE, TOPICS, GOLDEN, "golden")
    state = agent.new_state(TOPICS.telemetry.name, 0)
    rows: list[dict[str, Any]] = []
    others: dict[str, list[str]] = {}
    for first, last in zip([0, *cuts], [*cuts, len(LINES)], strict=True):
        effects = await agent.process(state, telemetry(first, last), rebuilt=False)
        effects.delta.fold()
        for output in effects.outputs:
            if output.topic == TOPICS.features.name:
                rows += [row for v in output.values for row in told(FeatureBlock.decode(v))]
            else:
                others.setdefault(output.topic, []).extend(v.decode() for v in output.values)
    return rows, others


def told(block: FeatureBlock) -> list[dict[str, Any]]:
    """A block's rows as one would write them down; a missing number is None."""
    return [
        {
            "offset": int(block.offsets[row]),
            "event": block.event_ids[row].decode(),
            "device": block.entities.names[block.entities.codes[row]],
            "at_s": (int(block.event_times_ms[row]) - BEGIN_MS) / 1000,
            **{name: one.names[one.codes[row]] for name, one in block.attributes.items()},
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in zip(block.columns, block.features[row], strict=True)
            },
        }
        for row in range(len(block))
    ]


@pytest.mark.parametrize(
    "cuts", [[], [3, 7], list(range(1, len(LINES)))], ids=["whole", "three", "single"]
)
async def test_the_enriched_topic_is_the_golden_one(cuts: list[int]) -> None:
    """Every row with its device's capabilities and features; what is no good event is elsewhere."""
    golden = json.loads((GOLDEN / "enriched.json").read_text("utf-8"))

    rows, others = await enriched(cuts)

    assert rows == golden["features"]
    assert others == {
        TOPICS.deadletter.name: [LINES[n].decode() for n in golden["dead"]],
        TOPICS.late.name: [LINES[n].decode() for n in golden["late"]],
    }
    assert "Ada" not in json.dumps(rows)
    assert "cGl4ZWxz" not in json.dumps(rows)


def test_the_golden_file_joins_every_column_of_the_registry() -> None:
    """Each column of each device that the registry lists; `other` for one that it does not."""
    golden = json.loads((GOLDEN / "enriched.json").read_text("utf-8"))["features"]
    found = {row["device"]: tuple(row[name] for name in REGISTRY) for row in golden}

    assert found == {
        "P-1": ("phone", "arm-a", "npu", "8", "2024", "android 15"),
        "C-1": ("camera", "arm-b", "none", "2", "2021", "linux 6"),
        "I-1": ("ipc", "x86", "gpu", "32", "other", "linux 6"),
        "X-9": ("other",) * len(REGISTRY),
    }


async def test_latencies_are_sliced_by_a_column_of_the_registry() -> None:
    """`class_by` may name one: each chip has its own counts."""
    agent = enrich_agent(PIPELINE, TOPICS, GOLDEN, "golden")
    effects = await agent.process(
        agent.new_state(TOPICS.telemetry.name, 0), telemetry(0, len(LINES)), rebuilt=False
    )
    assert effects.timed is not None
    classes = effects.timed.classes
    assert classes is not None

    names, counts = np.unique([classes.names[c] for c in classes.codes], return_counts=True)

    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "arm-a": 5, "arm-b": 3, "other": 1, "x86": 1,
    }  # fmt: skip
