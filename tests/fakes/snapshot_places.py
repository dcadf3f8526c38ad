"""Places of snapshots in memory: one that keeps the contract, and ones that break it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headrace.schemas.protocols import StoredObject


class MemoryPlace:
    """`SnapshotPlace` in a dict."""

    place = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        self.kept[name] = b"".join(pieces)

    def get(self, name: str) -> Iterator[bytes]:
        content = self.kept.get(name, b"")
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    def objects(self, prefix: str) -> list[StoredObject]:
        found = [name for name in self.kept if name.startswith(prefix)]
        return [StoredObject(name, len(self.kept[name])) for name in found]

    def delete(self, name: str) -> None:
        self.kept.pop(name, None)


class TornPlace(MemoryPlace):
    """Known bad: what was written before an error stays."""

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        self.kept[name] = b""
        for piece in pieces:
            self.kept[name] += piece


class AppendingPlace(MemoryPlace):
    """Known bad: an object of the same name is not replaced."""

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        self.kept[name] = self.kept.get(name, b"") + b"".join(pieces)


class ForgetfulPlace(MemoryPlace):
    """Known bad: a prefix is taken for part of a name."""

    def objects(self, prefix: str) -> list[StoredObject]:
        return [one for one in super().objects("") if prefix.rstrip("/") in one.name]
