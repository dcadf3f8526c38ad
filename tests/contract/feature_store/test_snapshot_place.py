"""The contract of `SnapshotPlace`, kept by a folder, by object storage and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.snapshot_places import AppendingPlace, ForgetfulPlace, MemoryPlace, TornPlace

from headrace.feature_store.snapshot_folder import SnapshotFolder
from headrace.schemas.protocols import SnapshotPlace


@pytest.fixture(params=["memory", "folder", pytest.param("bucket", marks=pytest.mark.integration)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotPlace:
    """An empty place."""
    if request.param == "memory":
        return MemoryPlace()
    if request.param == "folder":
        return SnapshotFolder(tmp_path / "not there yet")
    made: SnapshotPlace = request.getfixturevalue("bucket")
    return made


def contents(place: SnapshotPlace, name: str) -> bytes:
    return b"".join(place.get(name))


def check_what_is_put_is_there(place: SnapshotPlace) -> None:
    """Bytes come back, however they were cut, and one name is one object."""
    place.put("p/enrich/t/0/1.snapshot", [b"one", b"", b"two"])
    assert contents(place, "p/enrich/t/0/1.snapshot") == b"onetwo"
    place.put("p/enrich/t/0/1.snapshot", iter([b"anew"]))
    assert contents(place, "p/enrich/t/0/1.snapshot") == b"anew"


def check_large_objects(place: SnapshotPlace) -> None:
    """More than one part of an upload."""
    pieces = [bytes([n]) * (1 << 20) for n in range(12)]
    place.put("p/large", pieces)
    assert contents(place, "p/large") == b"".join(pieces)
    assert [one.size for one in place.objects("p/")] == [12 << 20]


def check_whole_or_not_at_all(place: SnapshotPlace) -> None:
    """An error in the middle leaves what was there before, or nothing."""

    def torn() -> Iterator[bytes]:
        yield b"x" * (6 << 20)
        raise ValueError("in the middle")

    for before in ([], [b"before"]):
        if before:
            place.put("p/a", before)
        with pytest.raises(ValueError, match="in the middle"):
            place.put("p/a", torn())
        assert contents(place, "p/a") == b"".join(before)
    assert [one.name for one in place.objects("p/")] == ["p/a"]


def check_listing(place: SnapshotPlace) -> None:
    """A prefix ends where a part of a name ends; names and sizes are those that were put."""
    for name in ("p/a/1", "p/a/2", "p/ab/1", "q/p/a/1"):
        place.put(name, [name.encode()])
    assert sorted((one.name, one.size) for one in place.objects("p/a/")) == [
        ("p/a/1", 5),
        ("p/a/2", 5),
    ]
    assert place.objects("nothing/") == []


def check_removing(place: SnapshotPlace) -> None:
    """Gone is gone, and what is not there reads as nothing."""
    place.put("p/a", [b"x"])
    place.delete("p/a")
    place.delete("p/a")
    assert contents(place, "p/a") == b""
    assert place.objects("p/") == []


CHECKS = [
    check_what_is_put_is_there,
    check_large_objects,
    check_whole_or_not_at_all,
    check_listing,
    check_removing,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_place_keeps_the_contract(
    check: Callable[[SnapshotPlace], None], place: SnapshotPlace
) -> None:
    """Memory, folder and object storage answer alike."""
    check(place)


@pytest.mark.parametrize("bad", [TornPlace, AppendingPlace, ForgetfulPlace])
def test_a_place_that_breaks_it_is_caught(bad: type[MemoryPlace]) -> None:
    """The checks above can fail."""
    failed = []
    for check in CHECKS:
        try:
            check(bad())
        except AssertionError:
            failed.append(check)
    assert failed
