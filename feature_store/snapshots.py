"""Snapshots of checkpoints: named by position and time, verified when read, kept within bounds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from headrace.feature_store.snapshot_file import SnapshotHead, decode_snapshot, encode_snapshot
from headrace.schemas.errors import StoreUnavailableError
from headrace.schemas.protocols import CheckpointMeta, Fields, Snapshot, SnapshotPlace
from headrace.schemas.settings import SnapshotSettings

_SUFFIX = ".snapshot"


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot that is kept, by what its name tells.

    Attributes:
        name: Name of the object.
        key: Checkpoint key: stage, topic and partition.
        position: R, the next source offset that is not in its state.
        created_ms: When it was written, milliseconds since 1970.
        size: Bytes.
    """

    name: str
    key: str
    position: int
    created_ms: int
    size: int


class Snapshots:
    """One pipeline's snapshots in one place. Calls block: not for the event loop.

    Args:
        place: Where they are.
        pipeline: Pipeline name, which begins every name.
        settings: How many are kept, and for how long.
        now: Wall clock, seconds since 1970: names a snapshot and tells its age.
    """

    def __init__(
        self,
        place: SnapshotPlace,
        pipeline: str,
        settings: SnapshotSettings,
        now: Callable[[], float],
    ) -> None:
        self.place = place.place
        self._place = place
        self._pipeline = pipeline
        self._settings = settings
        self._now = now

    def stored(self, key: str | None = None) -> list[StoredSnapshot]:
        """What is kept of one checkpoint, or of all; the newest first.

        Those kept for it under a key of their own, as ``<key>/<what for>``, are among them.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        prefix = f"{self._pipeline}/" + (f"{key}/" if key else "")
        parsed = (self._parse(found.name, found.size) for found in self._place.objects(prefix))
        return sorted(
            (one for one in parsed if one is not None),
            key=lambda one: (one.created_ms, one.position),
            reverse=True,
        )

    def save(self, key: str, meta: CheckpointMeta, fields: Fields) -> StoredSnapshot:
        """Keep the whole state `fields` at `meta`, and remove what is beyond the bounds.

        An error that `fields` raises comes through, and nothing is kept.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        created_ms = round(self._now() * 1000)
        name = f"{self._pipeline}/{key}/{meta.position:020d}-{created_ms:015d}{_SUFFIX}"
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            head = SnapshotHead(pipeline=self._pipeline, key=key, created_ms=created_ms, meta=meta)
            for part in encode_snapshot(head, fields):
                size += len(part)
                yield part

        self._place.put(name, counted())
        self._prune(key, created_ms)
        return StoredSnapshot(name, key, meta.position, created_ms, size)

    def probe(self) -> None:
        """Write, read and remove an object, as snapshots are.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        name = f"{self._pipeline}/{uuid.uuid4().hex}.probe"
        self._place.put(name, [b"probe"])
        found = b"".join(self._place.get(name))
        self._place.delete(name)
        if found != b"probe":
            raise StoreUnavailableError(
                f"an object written to {self.place!r} did not come back as it was; see to that "
                f"storage"
            )

    def fields(self, stored: StoredSnapshot) -> Iterator[tuple[bytes, bytes]]:
        """The state of a snapshot, proved only when the iterator has come to its end.

        Raises:
            ValueError: damaged or gone, from the iterator.
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        _, fields = self._open(stored)
        yield from fields

    def read(self, stored: StoredSnapshot) -> Snapshot:
        """A snapshot, verified.

        Raises:
            ValueError: damaged, gone, or of something else than its name says.
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        head, fields = self._open(stored)
        return Snapshot(head.meta, list(fields))

    def _open(self, stored: StoredSnapshot) -> tuple[SnapshotHead, Iterator[tuple[bytes, bytes]]]:
        head, fields = decode_snapshot(self._place.get(stored.name))
        if (head.pipeline, head.key) != (self._pipeline, stored.key):
            raise ValueError(f"it is of {head.key!r} of pipeline {head.pipeline!r}")
        if head.meta.position != stored.position:
            raise ValueError(f"it is of offset {head.meta.position}")
        return head, fields

    def _prune(self, key: str, now_ms: int) -> None:
        """Remove the too old, of two close together the older, and what is too many or too much.

        Close together are those that a worker leaves that is started again and again. Of too many
        those stay that reach far back: the older, the further apart (`crowded`).
        """
        limits, last_ms = self._settings, None
        kept: list[StoredSnapshot] = []
        for one in [one for one in self.stored(key) if one.key == key]:
            close = last_ms is not None and last_ms - one.created_ms < limits.every_s * 500
            old = now_ms - one.created_ms > limits.keep_s * 1000
            if kept and (close or old):
                self._place.delete(one.name)
                continue
            kept.append(one)
            last_ms = one.created_ms
        while len(kept) > 1 and (
            len(kept) > limits.keep or sum(one.size for one in kept) > limits.keep_bytes
        ):
            place = crowded([now_ms - one.created_ms for one in kept])
            self._place.delete(kept.pop(place).name)

    def _parse(self, name: str, size: int) -> StoredSnapshot | None:
        """What a name tells; None of a file that is no snapshot of ours."""
        path, _, last = name.rpartition("/")
        position, _, created = last.removesuffix(_SUFFIX).partition("-")
        if not last.endswith(_SUFFIX) or not (position.isdecimal() and created.isdecimal()):
            return None
        key = path.removeprefix(f"{self._pipeline}/")
        return StoredSnapshot(name, key, int(position), int(created), size)


def crowded(ages_ms: Sequence[int]) -> int:
    """Which of several snapshots is missed least: a replay of any time finds one not much older.

    Never the newest; the oldest only of two. Of the others the one without which the gap is the
    smallest part of the age at its far end.

    Args:
        ages_ms: Ages, the youngest first; at least two.

    Example:
        >>> crowded([0, 10, 60, 65, 80])
        3
        >>> crowded([0, 40, 80, 90])
        2
    """
    if len(ages_ms) == 2:
        return 1
    gaps = zip(ages_ms, ages_ms[1:-1], ages_ms[2:], strict=False)
    parts = [(far - near) / max(far, 1) for near, _, far in gaps]
    return 1 + parts.index(min(parts))


def merged(
    base: Fields, changed: Mapping[bytes, bytes], dropped: AbstractSet[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """A state with what has changed since; one field at a time, so `base` is never held whole.

    No step is long, as each of them holds up the event loop's thread.

    Args:
        base: The state before.
        changed: Fields to set.
        dropped: Fields to remove, none of them in `changed`.

    Example:
        >>> list(merged([(b"a", b"1"), (b"b", b"1")], {b"a": b"2", b"c": b"3"}, {b"b"}))
        [(b'a', b'2'), (b'c', b'3')]
    """
    seen: set[bytes] = set()
    for name, value in base:
        if name in dropped:
            continue
        newer = changed.get(name)
        if newer is None:
            yield name, value
        else:
            seen.add(name)
            yield name, newer
    for name, value in changed.items():
        if name not in seen:
            yield name, value
    while seen:  # one by one: to free it all is a step that holds up every thread
        seen.pop()
