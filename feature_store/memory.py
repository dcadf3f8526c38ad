"""Both stores in this process's memory: same answers, same bits, nothing kept after it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from headrace.feature_store.codec import pack_rows, row_bytes, unpack_rows
from headrace.feature_store.store import ServerInfo
from headrace.schemas.protocols import (
    CheckpointMeta,
    Fields,
    OnlineAnswer,
    OnlineRows,
    Snapshot,
    WriteOutcome,
)


@dataclass(slots=True)
class _Row:
    order: tuple[int, int, int]
    packed: bytes
    expires_s: float


@dataclass(slots=True)
class _Checkpoint:
    claim: int = 0
    meta: CheckpointMeta | None = None
    fields: dict[bytes, bytes] = field(default_factory=dict)


class MemoryStore:
    """`OnlineStore` and `CheckpointStore` in memory.

    Args:
        now: Monotonic seconds, by which rows expire.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._views: dict[str, dict[str, _Row]] = {}
        self._checkpoints: dict[str, _Checkpoint] = {}

    async def write_rows(self, rows: OnlineRows, *, epoch: int, ttl_s: float) -> int:
        """Keep each row unless a newer one is there; how many were kept."""
        packed, size = pack_rows(rows, epoch), row_bytes(rows.values.shape[1])
        now_s = self._now()
        view = self._living(rows.view, now_s)
        kept = 0
        times, offsets = rows.event_times_ms.tolist(), rows.offsets.tolist()
        for at, entity in enumerate(rows.entities):
            order = (times[at], epoch, offsets[at])
            old = view.get(entity)
            if old is None or old.expires_s <= now_s or old.order <= order:
                view.pop(entity, None)  # so that the dict stays in order of writing
                row = packed[at * size : (at + 1) * size]
                view[entity] = _Row(order, row, now_s + ttl_s)
                kept += 1
        return kept

    async def read_rows(
        self, view: str, entities: Sequence[str], *, width: int, ttl_s: float, now_ms: int
    ) -> OnlineAnswer:
        """The rows of these entities; see `OnlineStore`."""
        held, now_s = self._views.get(view, {}), self._now()
        rows = [held.get(entity) for entity in entities]
        packed = [row.packed if row and row.expires_s > now_s else None for row in rows]
        return unpack_rows(packed, width=width, ttl_s=ttl_s, now_ms=now_ms)

    async def delete_entity(self, view: str, entity: str) -> bool:
        """Forget one entity in one view; whether there was a row."""
        row = self._views.get(view, {}).pop(entity, None)
        return row is not None and row.expires_s > self._now()

    async def claim(self, key: str) -> int:
        """Raise the claim on `key` by one and return it."""
        checkpoint = self._checkpoints.setdefault(key, _Checkpoint())
        checkpoint.claim += 1
        return checkpoint.claim

    async def held(self, key: str) -> tuple[int, int | None]:
        """The claim now on `key` (0: never claimed) and its position R (None: no checkpoint)."""
        checkpoint = self._checkpoints.get(key, _Checkpoint())
        return checkpoint.claim, checkpoint.meta.position if checkpoint.meta else None

    async def read(self, key: str) -> Snapshot | None:
        """The checkpoint, or None where there is none."""
        checkpoint = self._checkpoints.get(key, _Checkpoint())
        if checkpoint.meta is None:
            return None
        return Snapshot(checkpoint.meta, list(checkpoint.fields.items()))

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
        """Compare and set; see `CheckpointStore`."""
        checkpoint = self._checkpoints.get(key)
        if checkpoint is None or checkpoint.claim != claim:
            return WriteOutcome.NOT_OWNER
        position = checkpoint.meta.position if checkpoint.meta else None
        if position != base:
            done = position == meta.position
            return WriteOutcome.WRITTEN if done else WriteOutcome.ROLLED_BACK
        for name in dropped:
            checkpoint.fields.pop(name, None)
        checkpoint.fields.update(changed)
        checkpoint.meta = meta
        return WriteOutcome.WRITTEN

    async def rewrite(
        self, key: str, *, claim: int, meta: CheckpointMeta, fields: Fields
    ) -> WriteOutcome:
        """Write the partition whole."""
        checkpoint = self._checkpoints.get(key)
        if checkpoint is None or checkpoint.claim != claim:
            return WriteOutcome.NOT_OWNER
        checkpoint.fields, checkpoint.meta = dict(fields), meta
        return WriteOutcome.WRITTEN

    async def ping(self) -> None:
        """See `Store`."""

    async def server_info(self) -> ServerInfo:
        """See `Store`."""
        return ServerInfo("in memory", ("nothing is kept after this process ends",))

    async def close(self) -> None:
        """See `Store`; what was written stays until the object goes."""

    def _living(self, name: str, now_s: float) -> dict[str, _Row]:
        """Rows of a view, without those at the front that have expired."""
        view = self._views.setdefault(name, {})
        while view:
            oldest = next(iter(view))
            if view[oldest].expires_s > now_s:
                break
            del view[oldest]
        return view
