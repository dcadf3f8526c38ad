"""A store that keeps snapshots of its checkpoints, made beside the data path.

What a worker writes to a checkpoint is remembered here by name of field, the last value only. When
a snapshot is due, a thread reads the one before it piece by piece and writes it anew with what has
changed since: neither the worker's state nor the store is asked, and nothing is copied at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from headrace.feature_store.snapshots import Snapshots, StoredSnapshot, merged
from headrace.feature_store.store import ServerInfo, Store
from headrace.schemas.errors import FatalError, RetryableError
from headrace.schemas.protocols import (
    CheckpointMeta,
    Fields,
    OnlineAnswer,
    OnlineRows,
    Snapshot,
    WriteOutcome,
)

log = logging.getLogger(__name__)

MOST_PENDING_BYTES = 64 << 20
"""Changes of one partition that are remembered: with more, a snapshot is due at once."""

HOLD_S = 10.0
"""How long the state of a takeover is held for the first snapshot: the store has it, too, and is
asked again where a partition that rested goes on."""

_CLOSE_S = 2.0
"""Longest wait for a snapshot that is being written when the worker ends."""


@dataclass(slots=True)
class _Changes:
    """What has changed since a state was in a snapshot."""

    changed: dict[bytes, bytes] = field(default_factory=dict)
    dropped: set[bytes] = field(default_factory=set)
    _rows: int = 0
    _bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of the values remembered, by the mean of all that were written."""
        return self._bytes * len(self.changed) // max(1, self._rows)

    def add(self, changed: Sequence[tuple[bytes, bytes]], dropped: Iterable[bytes]) -> None:
        """One more write; a field in both ends up set."""
        for name in dropped:
            self.changed.pop(name, None)
            self.dropped.add(name)
        self.changed.update(changed)
        if self.dropped:
            self.dropped.difference_update([name for name, _ in changed])
        self._rows += len(changed)
        self._bytes += sum([len(value) for _, value in changed])

    def before(self, newer: _Changes) -> _Changes:
        """These changes and then `newer`, as one."""
        self.add(list(newer.changed.items()), newer.dropped)
        return self


@dataclass(slots=True)
class _Followed:
    """A checkpoint that we own and keep snapshots of.

    Attributes:
        meta: Of the last write.
        due_s: When the next snapshot is due, monotonic seconds.
        whole: The state at the takeover, until a snapshot holds it or `HOLD_S` have passed.
        base: The last snapshot, on which `changes` build; None before the first.
        changes: Since `whole` or `base`.
        job: The snapshot that is being written.
    """

    meta: CheckpointMeta
    due_s: float
    whole: list[tuple[bytes, bytes]] | None
    base: StoredSnapshot | None = None
    changes: _Changes = field(default_factory=_Changes)
    job: asyncio.Task[None] | None = None

    def rest(self) -> None:
        """Hold no second copy of a state that nothing is written to; a snapshot asks the store."""
        if self.job is None:
            self.whole = None


class SnapshottingStore:
    """`Store` that hands everything on to another and keeps snapshots of what is written.

    A snapshot that cannot be written is a line in the log and tried again an interval later: it
    never holds up or ends the worker.

    Args:
        store: The store.
        snapshots: Where snapshots go.
        every_s: Seconds between two of one partition.
        monotonic: Monotonic seconds.
    """

    def __init__(
        self,
        store: Store,
        snapshots: Snapshots,
        *,
        every_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._every_s = every_s
        self._monotonic = monotonic
        self._followed: dict[str, _Followed] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def read(self, key: str) -> Snapshot | None:
        """See `CheckpointStore`; what is read at a takeover is what later writes build on."""
        self._forget(key)
        found = await self._store.read(key)
        if found is not None:
            self._follow(key, found.meta, list(found.fields))
        return found

    async def write(
        self,
        key: str,
        *,
        claim: int,
        base: int,
        meta: CheckpointMeta,
        changed: Fields,
        dropped: Iterable[bytes],
    ) -> WriteOutcome:
        """See `CheckpointStore`."""
        changed, dropped = list(changed), list(dropped)
        outcome = await self._store.write(
            key, claim=claim, base=base, meta=meta, changed=changed, dropped=dropped
        )
        followed = self._followed.get(key)
        if outcome is WriteOutcome.NOT_OWNER:
            self._forget(key)
        elif outcome is WriteOutcome.WRITTEN and followed is not None:
            followed.meta = meta
            followed.changes.add(changed, dropped)
            self._snapshot_if_due(key, followed)
        return outcome

    async def rewrite(
        self, key: str, *, claim: int, meta: CheckpointMeta, fields: Fields
    ) -> WriteOutcome:
        """See `CheckpointStore`."""
        whole = list(fields)
        outcome = await self._store.rewrite(key, claim=claim, meta=meta, fields=whole)
        self._forget(key)
        if outcome is WriteOutcome.WRITTEN:
            self._follow(key, meta, whole)
        return outcome

    def _follow(self, key: str, meta: CheckpointMeta, whole: list[tuple[bytes, bytes]]) -> None:
        """From a takeover on: the first write makes a snapshot of what the takeover had in hand."""
        followed = self._followed[key] = _Followed(meta, self._monotonic(), whole)
        asyncio.get_running_loop().call_later(HOLD_S, followed.rest)

    def _forget(self, key: str) -> None:
        """What is being written of it is still a snapshot of that moment."""
        self._followed.pop(key, None)

    def _snapshot_if_due(self, key: str, followed: _Followed) -> None:
        due = self._monotonic() >= followed.due_s or followed.changes.size > MOST_PENDING_BYTES
        if due and followed.job is None:
            followed.job = asyncio.create_task(
                self._snapshot(key, followed), name=f"snapshot of {key}"
            )
            self._jobs.add(followed.job)
            followed.job.add_done_callback(self._jobs.discard)

    async def _snapshot(self, key: str, followed: _Followed) -> None:
        """A task boundary: whatever goes wrong, the data path goes on."""
        try:
            async with self._one_at_a_time:
                await self._write(key, followed)
        except (RetryableError, FatalError, ValueError) as error:
            log.warning(
                "the snapshot of %r was not written: %s; it is tried again in %.0f s",
                key, error, self._every_s,
            )  # fmt: skip
        # Nobody awaits this task, and a snapshot more or less must not end a worker.
        except Exception:
            log.exception("the snapshot of %r was not written", key)
        finally:
            followed.due_s, followed.job = self._monotonic() + self._every_s, None

    async def _write(self, key: str, followed: _Followed) -> None:
        if followed.whole is None and followed.base is None:
            await self._read_whole(key, followed)
        meta, whole, base = followed.meta, followed.whole, followed.base
        taken, followed.changes = followed.changes, _Changes()
        try:
            followed.base = await asyncio.to_thread(self._save, key, meta, whole, base, taken)
            followed.whole = None
        except ValueError:
            # The snapshot before this one is damaged or gone: the store has the whole state.
            followed.base = None
            raise
        except BaseException:
            followed.changes = taken.before(followed.changes)
            raise

    async def _read_whole(self, key: str, followed: _Followed) -> None:
        """Begin anew from the store's state; what was written since it is among the changes."""
        position = followed.meta.position
        followed.changes = _Changes()
        found = await self._store.read(key)
        if found is None or found.meta.position < position:
            raise ValueError("the checkpoint in the store is older or gone")
        if found.meta.position > followed.meta.position:
            # A write of which we do not know yet that it arrived; it will be remembered again.
            followed.meta, followed.changes = found.meta, _Changes()
        followed.whole = list(found.fields)

    def _save(
        self,
        key: str,
        meta: CheckpointMeta,
        whole: list[tuple[bytes, bytes]] | None,
        base: StoredSnapshot | None,
        changes: _Changes,
    ) -> StoredSnapshot:
        before: Fields = whole if whole is not None else ()
        if whole is None and base is not None:
            before = self._snapshots.fields(base)
        stored = self._snapshots.save(key, meta, merged(before, changes.changed, changes.dropped))
        # Freed in small steps, as a large one holds up every thread.
        while changes.changed:
            changes.changed.popitem()
        while whole:
            del whole[-1000:]
        return stored

    async def close(self) -> None:
        """See `Store`; a snapshot that is being written may end first, within a few seconds."""
        jobs = set(self._jobs)
        if jobs:
            await asyncio.wait(jobs, timeout=_CLOSE_S)
        for job in jobs:
            job.cancel()
        await self._store.close()

    async def claim(self, key: str) -> int:
        """See `CheckpointStore`."""
        return await self._store.claim(key)

    async def held(self, key: str) -> tuple[int, int | None]:
        """See `CheckpointStore`."""
        return await self._store.held(key)

    async def write_rows(self, rows: OnlineRows, *, epoch: int, ttl_s: float) -> int:
        """See `OnlineStore`."""
        return await self._store.write_rows(rows, epoch=epoch, ttl_s=ttl_s)

    async def read_rows(
        self, view: str, entities: Sequence[str], *, width: int, ttl_s: float, now_ms: int
    ) -> OnlineAnswer:
        """See `OnlineStore`."""
        return await self._store.read_rows(view, entities, width=width, ttl_s=ttl_s, now_ms=now_ms)

    async def delete_entity(self, view: str, entity: str) -> bool:
        """See `OnlineStore`."""
        return await self._store.delete_entity(view, entity)

    async def ping(self) -> None:
        """See `Store`."""
        await self._store.ping()

    async def server_info(self) -> ServerInfo:
        """See `Store`."""
        return await self._store.server_info()
