"""The ledger file: what was written is read, in both forms, and holds what was sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes.services import without

from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.producers.fleet import Block
from headrace.streams.producers.ledger_file import TYPES, LedgerReader
from headrace.streams.producers.plan import EXPECTED, KINDS, OUTCOMES, Plan
from headrace.streams.producers.run_fleet import FleetRun

PRESS = load_pipeline(pipeline_file("press"))
PLAN = Plan(rate_per_s=1000, seconds=2, gaps=0.1, anomalies=0.3, seed=3)
START_MS = 1_795_255_200_000


@pytest.fixture(params=["l.ndjson", "l.parquet"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file name of each form."""
    if request.param.endswith("parquet"):
        try:
            import pyarrow as _  # noqa: F401
        except ImportError:
            without("pyarrow is not installed; install the extra `tables`")
    return tmp_path / request.param


class Listening(FleetRun):
    """Remembers the blocks."""

    def _keep(self, block: Block) -> None:
        self.blocks = [*getattr(self, "blocks", []), block]
        super()._keep(block)


def test_every_row_is_there(ledger: Path, tmp_path: Path) -> None:
    """Number, partition, intended time, kind and anomaly of every row, gaps too, in order."""
    run = Listening(PLAN, PRESS, START_MS, ledger)
    report = run.to_file(tmp_path / "e.ndjson")

    reader = LedgerReader(ledger)
    parts = list(reader)

    rows = [block.rows for block in run.blocks]
    for name in ("number", "kind", "anomaly"):
        written = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(written, np.concatenate([getattr(r, name) for r in rows]))
    partitions = np.concatenate([part.partition for part in parts])
    assert np.array_equal(partitions, np.concatenate([b.partitions for b in run.blocks]))
    intended = np.concatenate([part.intended_ms for part in parts])
    sent_ms = np.concatenate([r.send_ms for r in rows])
    assert np.abs(intended - sent_ms).max() < 0.001
    assert reader.header.run == report["run"]
    assert reader.header.plan["seed"] == 3
    assert report["kinds"]["gap"] > 0


def test_the_two_forms_say_the_same(tmp_path: Path) -> None:
    """Every column of NDJSON is the one of Parquet, and each row is the event's own."""
    pq = pytest.importorskip("pyarrow.parquet")
    events = tmp_path / "e.ndjson"
    for name in ("l.ndjson", "l.parquet"):
        FleetRun(PLAN, PRESS, START_MS, tmp_path / name).to_file(events)
    lines = (tmp_path / "l.ndjson").read_bytes().splitlines()[1:]
    rows = [msgspec.json.decode(line) for line in lines]

    assert pq.read_table(tmp_path / "l.parquet").to_pylist() == rows
    assert list(rows[0]) == list(TYPES)
    sent = [row for row in rows if row["expected"] != "absent"]
    for row, line in zip(sent, events.read_bytes().splitlines(), strict=True):
        event = msgspec.json.decode(line)
        assert (event["id"], event["device_id"]) == (row["id"], row["key"])
        assert row["expected"] == OUTCOMES[EXPECTED[KINDS.index(row["kind"])]]


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    """Events and ledger, byte by byte."""
    digests = set()
    for name in "ab":
        ledger, events = tmp_path / f"{name}l.ndjson", tmp_path / f"{name}.ndjson"
        FleetRun(PLAN, PRESS, START_MS, ledger).to_file(events)
        digests.add(hashlib.sha256(ledger.read_bytes() + events.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_no_ledger_is_one_line(ledger: Path, tmp_path: Path) -> None:
    """A file that is none, and a place that cannot be written."""
    if ledger.suffix == ".ndjson":
        ledger.write_bytes(b'{"some":"thing"}\n')
        with pytest.raises(SettingsError, match="found no ledger"):
            LedgerReader(ledger)
    run = FleetRun(PLAN, PRESS, START_MS, tmp_path / "none" / ledger.name)
    with pytest.raises(SettingsError, match="name a file in a folder"):
        run.to_file(tmp_path / "e.ndjson")
