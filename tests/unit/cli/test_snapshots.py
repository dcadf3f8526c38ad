"""`headrace features snapshots` lists what is kept, and finds what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.feature_store.snapshot_places import open_snapshots
from headrace.schemas.protocols import CheckpointMeta
from headrace.schemas.settings import SnapshotSettings
from headrace.streams.cli.main import main
from headrace.streams.cli.snapshots import snapshot_finding
from headrace.streams.client.clock import wall_clock

PARTITIONS = ["enrich/headrace.hosts.telemetry.v1/0", "serve/headrace.hosts.features.v1/1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two partitions with two snapshots each, named by the environment."""
    folder = tmp_path / "kept"
    settings = SnapshotSettings(url=str(folder), every_s=1e-6)
    for position in (7, 9):
        kept = open_snapshots(settings, "hosts", lambda p=position: wall_clock() - 60 + p)
        assert kept is not None
        for key in PARTITIONS:
            meta = CheckpointMeta(
                position=position, layout="l", format=1, partitions=2, numerics="n", epoch=0,
                last=None, rebuilt=position == 9,
            )  # fmt: skip
            kept.save(key, meta, [(b"name", b"value")])
    monkeypatch.setenv("HEADRACE_SNAPSHOTS", str(folder))
    return folder


def run(*args: str):
    return CliRunner().invoke(main, ["features", "snapshots", *args])


def test_every_partition_the_newest_first(folder: Path) -> None:
    """Place, offset, age and size; as lines and as JSON."""
    done = run("hosts")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == f"4 snapshots in {folder}"
    assert [line.split()[1] for line in lines[1:]] == [
        "headrace.hosts.telemetry.v1[0]@9",
        "headrace.hosts.telemetry.v1[0]@7",
        "headrace.hosts.features.v1[1]@9",
        "headrace.hosts.features.v1[1]@7",
    ]
    found = json.loads(run("hosts", "--json").output)
    assert [one["position"] for one in found["snapshots"]] == [9, 7, 9, 7]
    assert all(40 < one["age_s"] < 70 for one in found["snapshots"])
    assert all((folder / one["name"]).stat().st_size == one["bytes"] for one in found["snapshots"])


def test_a_damaged_one_is_found(folder: Path) -> None:
    """`--verify` reads them all, names what is wrong and ends with 2."""
    assert run("hosts", "--verify").exit_code == 0
    assert run("hosts", "--verify").output.count("rebuilt from a truncated history, whole") == 2
    file = sorted(folder.rglob("*.snapshot"))[0]
    file.write_bytes(file.read_bytes()[:-1])
    done = run("hosts", "--verify")
    assert done.exit_code == 2
    assert done.output.count("damaged: it is cut short") == 1


def test_none_kept_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting there is one line that names it."""
    monkeypatch.delenv("HEADRACE_SNAPSHOTS", raising=False)
    done = run("hosts")
    assert done.exit_code != 0
    assert "HEADRACE_SNAPSHOTS" in str(done.exception) + done.output


def test_the_doctor_tries_the_place(tmp_path: Path) -> None:
    """It writes, reads and removes; a place that does not take objects is named."""
    kept = snapshot_finding(SnapshotSettings(url=str(tmp_path / "kept")), "hosts")
    assert (kept.level, kept.found.split()[0]) == ("ok", "0")
    assert list(tmp_path.rglob("*.probe")) == []
    assert snapshot_finding(SnapshotSettings(), "hosts").found.startswith("none are kept")

    (tmp_path / "file").write_bytes(b"")
    refused = snapshot_finding(SnapshotSettings(url=str(tmp_path / "file")), "hosts")
    assert refused.level == "fail"
    assert "snapshots.url" in refused.found
