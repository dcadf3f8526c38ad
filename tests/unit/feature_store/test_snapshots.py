"""How many snapshots are kept, for how long, and what is passed over."""

from __future__ import annotations

import itertools
import os
import resource
import sys
from pathlib import Path

import pytest
from fakes.snapshot_places import MemoryPlace

from headrace.feature_store.snapshot_folder import SnapshotFolder
from headrace.feature_store.snapshot_places import open_place
from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.errors import (
    MissingExtraError,
    SettingsError,
    StoreRefusedError,
    StoreUnavailableError,
)
from headrace.schemas.protocols import CheckpointMeta, StoredObject
from headrace.schemas.settings import SnapshotSettings

KEY = "enrich/t/0"


def meta(position: int) -> CheckpointMeta:
    return CheckpointMeta(
        position=position, layout="l", format=1, partitions=1, numerics="n", epoch=0, last=None
    )


class Clocked:
    """Snapshots of one place, at times that a test says."""

    def __init__(self, **bounds: float) -> None:
        self.place, self.now_s = MemoryPlace(), 1_000_000.0
        settings = SnapshotSettings(**{"every_s": 10.0, **bounds})  # type: ignore[arg-type]
        self.kept = Snapshots(self.place, "p", settings, lambda: self.now_s)

    def save(self, position: int, *, after_s: float = 10.0, size: int = 0) -> None:
        self.now_s += after_s
        self.kept.save(KEY, meta(position), [(b"x", b"y" * size)])

    @property
    def positions(self) -> list[int]:
        return [one.position for one in self.kept.stored(KEY)]


def test_the_older_the_further_apart() -> None:
    """By number: the newest stays, and what reaches back to the oldest that may be kept."""
    clocked = Clocked(keep=8)
    for position in range(1000):
        clocked.save(position)
    ages = [999 - position for position in clocked.positions]
    assert len(ages) == 8
    assert (ages[0], ages[1], ages[-1]) == (0, 1, 999)
    assert all(far <= 8 * near for near, far in itertools.pairwise(ages[1:]))


def test_old_ones_go_but_the_last() -> None:
    """By age, counted when a new one is written."""
    clocked = Clocked(keep_s=25.0)
    for position in range(6):
        clocked.save(position)
    assert clocked.positions == [5, 4, 3]
    clocked.save(6, after_s=1e6)
    assert clocked.positions == [6]


def test_large_ones_go_but_the_last() -> None:
    """By bytes of one partition."""
    clocked = Clocked(keep_bytes=3000)
    for position in range(5):
        clocked.save(position, size=1000)
    assert clocked.positions == [4, 0]
    clocked.save(5, size=10_000)
    assert clocked.positions == [5]


def test_many_starts_do_not_push_out_what_is_older() -> None:
    """Of snapshots closer than half the interval only the newest stays."""
    clocked = Clocked(keep=3)
    for position in range(3):
        clocked.save(position)
    for position in range(3, 9):
        clocked.save(position, after_s=1.0)
    assert clocked.positions == [8, 1, 0]


def test_partitions_and_pipelines_do_not_mix() -> None:
    """Bounds and lists are of one partition of one pipeline."""
    clocked = Clocked(keep=1)
    other = Snapshots(clocked.place, "p2", SnapshotSettings(), lambda: clocked.now_s)
    other.save(KEY, meta(7), [])
    clocked.kept.save("enrich/t/1", meta(8), [])
    clocked.save(9)
    assert clocked.positions == [9]
    assert [one.position for one in clocked.kept.stored("enrich/t/1")] == [8]
    assert [one.key for one in other.stored()] == [KEY]
    assert {one.key for one in clocked.kept.stored()} == {KEY, "enrich/t/1"}


def test_files_of_somebody_else_are_left_alone() -> None:
    """A name that is none of ours is neither listed nor removed."""
    clocked = Clocked(keep=1)
    clocked.place.kept[f"p/{KEY}/notes.txt"] = b""
    for position in range(3):
        clocked.save(position)
    assert clocked.positions == [2]
    assert f"p/{KEY}/notes.txt" in clocked.place.kept


def test_one_under_another_name_is_refused() -> None:
    """A snapshot copied to another partition, or renamed to another offset, is no snapshot."""
    clocked = Clocked()
    clocked.save(5)
    [one] = clocked.kept.stored(KEY)
    content = clocked.place.kept[one.name]
    for name in (one.name.replace("/t/0/", "/t/1/"), one.name.replace("05-", "06-")):
        clocked.place.kept[name] = content
    found = [other for other in clocked.kept.stored() if other.name != one.name]
    assert len(found) == 2
    for other in found:
        with pytest.raises(ValueError, match="it is of"):
            clocked.kept.read(other)


def test_an_unfinished_file_is_no_snapshot(tmp_path: Path) -> None:
    """What a killed writer left behind is not listed."""
    folder = SnapshotFolder(tmp_path)
    folder.put("p/a", [b"x"])
    (tmp_path / "p" / "a.0123.part").write_bytes(b"half")
    assert folder.objects("p/") == [StoredObject("p/a", 1)]


def test_a_folder_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    """One line that names the setting."""
    (tmp_path / "p").write_bytes(b"")
    with pytest.raises(StoreRefusedError, match=r"snapshots\.url"):
        SnapshotFolder(tmp_path).put("p/a", [b"x"])


def test_a_disk_that_takes_no_more_is_retryable(tmp_path: Path) -> None:
    """What was there stays, and nothing of the new file is left."""
    folder = SnapshotFolder(tmp_path)
    folder.put("p/a", [b"before"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoreUnavailableError, match=r"snapshots\.url"):
            folder.put("p/a", [b"x" * 100_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert b"".join(folder.get("p/a")) == b"before"
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["a"]


def test_object_storage_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a folder needs none."""
    for name in ("obstore", "obstore.exceptions", "obstore.store"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"headrace\[snapshots\]"):
        open_place("s3://bucket/x")
    open_place("folder")


@pytest.mark.parametrize("url", ["nosuch://bucket", "s3://bucket/x"])
def test_a_url_that_cannot_be_used_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown scheme, and object storage without credentials."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "only half of it")
    with pytest.raises(SettingsError, match=r"snapshots\.url"):
        open_place(url)
