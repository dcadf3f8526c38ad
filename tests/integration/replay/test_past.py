"""The past of a pipeline that lived twice, with another model the second time, asked everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.onnx_models import mlp
from integration.delivery.ruins import Flow

from headrace.schemas.pipeline import load_pipeline

pytestmark = [pytest.mark.slow]

_MAIN = "from headrace.streams.cli.main import main; main()"


class Asked:
    """A flow on the embedded bus that lived twice, and the command line."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.file = flow, str(flow.folder / f"{flow.pipeline.name}.toml")
        self.text = Path(self.file).read_text("utf-8")
        places = {"BUS": flow.endpoints.bus.url, "STORE": flow.endpoints.store.url}
        places["SNAPSHOTS"] = str(flow.folder / "snapshots")
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self.environ = own | {f"HEADRACE_{name}": url for name, url in places.items()}

    def ask(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The JSON object that a command ends with."""
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *arguments, "--json"],
            capture_output=True, env=self.environ, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.fixture
async def asked(
    tmp_path: Path,
    tansu_url: str,
    store_url: str,
    unique: Callable[[str], str],
) -> Asked:
    """Two lives of both stages."""
    flow = Flow(tmp_path, tansu_url, store_url, unique("past"), snapshots=0.2, embedded=True)
    await flow.prepare()
    await flow.send(range(120))
    await flow.live("enrich", "serve", start="earliest")
    (tmp_path / "model.onnx").write_bytes(mlp(3, seed=7))
    await flow.send(range(120, 240))
    await flow.live("enrich", "serve")
    return Asked(flow)


async def test_the_past_answers_and_nothing_live_is_touched(asked: Asked) -> None:
    """Reproduced to the bit over a restart and a model change; the group and the store stay."""
    flow = asked.flow
    before = [await flow.committed(s) for s in ("enrich", "serve")], await flow.remembered()
    one = (await flow.predictions())[130]

    found = asked.ask("replay", "reproduce", asked.file)
    sample = asked.ask("replay", "reproduce", asked.file, "--sample", "50")
    told = asked.ask("explain", one["id"], "--pipeline", asked.file)
    tried = asked.ask("replay", "whatif", asked.file, "--threshold", "0.6", "--from", "1h")

    assert found["reproduced"], found
    assert found["differing_bits"] == 0
    assert found["features"]["compared"] >= 240
    assert len(found["models"]) == 2
    assert sample["reproduced"], sample
    assert sample["partitions"][0]["records"] == 50
    assert sample["partitions"][0]["begun"][0]["how"] == "snapshot"
    assert told["source"] == one["source"]
    assert told["prediction"]["model"] == one["model"]
    assert told["model_kept"]
    assert told["features"]["values"]["load_raw"] is not None
    assert tried["comparison"]["events"] == 240
    assert 120 <= tried["comparison"]["shift"]["equal"] < 240
    after = [await flow.committed(s) for s in ("enrich", "serve")], await flow.remembered()
    assert after == before


async def test_new_features_are_filled_beside_and_then_switched_to(asked: Asked) -> None:
    """The workers of the new file begin with what was filled, and fold nothing of the log again."""
    flow = asked.flow
    new = flow.folder / "new.toml"
    changed = asked.text.replace("alpha = 0.1", "alpha = 0.7")
    changed = changed.replace("[views.machine]\n", "[views.machine]\nversion = 2\n")
    new.write_text(changed)
    labels = flow.folder / "labels.csv"
    labels.write_text("device_id,time,label\nd1,1795255300000,1\nd2,1,0\n")
    before = await flow.remembered()
    filled = asked.ask("features", "backfill", asked.file, str(new))
    table = str(flow.folder / "training.csv")
    exported = asked.ask("features", "export", str(new), "--labels", str(labels), "--out", table)
    assert await flow.remembered() == before

    assert filled["views"] == ["machine@2"]
    assert [one["position"] for one in filled["partitions"]] == [240]
    assert (exported["labels"], exported["with_features"]) == (2, 1)
    (flow.folder / f"{flow.pipeline.name}.toml").write_text(changed)
    flow.pipeline = load_pipeline(new)
    await flow.send(range(240, 260))
    running = await flow.live("enrich", "serve")
    assert running["enrich"].counters.replayed == 0
    found = asked.ask("replay", "reproduce", asked.file)
    assert found["reproduced"], found
    assert len(found["partitions"][0]["begun"]) == 2
