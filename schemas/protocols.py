"""What crosses layers: effects of an agent, state of a partition, the stores, the scorer."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64, Headers, LastRecord, RecordBatch
from headrace.schemas.timed import Timed

Fields = Iterable[tuple[bytes, bytes]]
"""State as the checkpoint keeps it: opaque field names and values."""


@dataclass(slots=True)
class Output:
    """Records to publish to one partition of one topic, in order.

    Attributes:
        topic: Target topic.
        partition: Target partition.
        keys: N keys, or None when no record has one.
        values: N values.
        headers: N header lists, or None when no record has headers.
    """

    topic: str
    partition: int
    keys: Sequence[bytes | None] | None
    values: Sequence[bytes]
    headers: Sequence[Headers] | None = None


@dataclass(slots=True)
class OnlineRows:
    """The newest row of each of n entities in one view.

    Attributes:
        view: View name.
        entities: n entity keys, each once.
        event_times_ms: int64 (n,), event time of each row, milliseconds since 1970.
        offsets: int64 (n,), source offset of each row.
        values: float64 (n, K), columns in the order of the view.
    """

    view: str
    entities: list[str]
    event_times_ms: I64
    offsets: I64
    values: F64


@dataclass(slots=True)
class OnlineAnswer:
    """What the online store knows of n entities in one view.

    Attributes:
        found: bool (n,), false where there is no row within the view's TTL.
        event_times_ms: int64 (n,), 0 where not found.
        values: float64 (n, K), NaN where not found.
    """

    found: NDArray[np.bool_]
    event_times_ms: I64
    values: F64


class OnlineStore(Protocol):
    """Newest-wins rows by entity, atomic per row, shared by every service."""

    async def write_rows(self, rows: OnlineRows, *, epoch: int, ttl_s: float) -> int:
        """Keep each row unless a newer one is there; how many were kept.

        Newer is by (event time, `epoch` of the log, offset). Repeating a write changes nothing.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """

    async def read_rows(
        self, view: str, entities: Sequence[str], *, width: int, ttl_s: float, now_ms: int
    ) -> OnlineAnswer:
        """The rows of these entities, in one round trip; `width` is the view's column count K.

        A row whose event time is more than `ttl_s` before `now_ms` counts as not found.
        """

    async def delete_entity(self, view: str, entity: str) -> bool:
        """Forget one entity in one view; whether there was a row."""


class CheckpointMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says of itself.

    Attributes:
        position: R, the next source offset that is not in the state.
        layout: Digest of the state's layout.
        format: Version of the checkpoint's own format.
        partitions: Partition count of the source topic when it was written.
        numerics: Numerics fingerprint.
        epoch: How many logs of this name the state has seen, from 0.
        last: The last record below `position`, None while there is none.
        rebuilt: The state comes from a truncated history.
    """

    position: int
    layout: str
    format: int
    partitions: int
    numerics: str
    epoch: int
    last: LastRecord | None
    rebuilt: bool = False


class WriteOutcome(enum.Enum):
    """What became of a checkpoint write."""

    WRITTEN = "written"
    NOT_OWNER = "not_owner"
    """Another claim is on the key: we are no longer the owner."""
    ROLLED_BACK = "rolled_back"
    """Stored R is not the one the delta builds on: write the partition whole."""


@dataclass(slots=True)
class Snapshot:
    """One partition's checkpoint as read back."""

    meta: CheckpointMeta
    fields: list[tuple[bytes, bytes]]


class CheckpointStore(Protocol):
    """Checkpoints by key, each behind a claim that only ever rises."""

    async def claim(self, key: str) -> int:
        """Raise the claim on `key` by one and return it: every lower claim is refused from now."""

    async def held(self, key: str) -> tuple[int, int | None]:
        """The claim now on `key` (0: never claimed) and its position R (None: no checkpoint)."""

    async def read(self, key: str) -> Snapshot | None:
        """The checkpoint, or None where there is none or it cannot be read as one."""

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
        """Compare and set: `changed` and `dropped` fields and `meta`, atomically.

        WRITTEN when the claim is ours and stored R is `base`; also when stored R is already
        `meta.position` under our claim: an earlier try had succeeded.
        """

    async def rewrite(
        self, key: str, *, claim: int, meta: CheckpointMeta, fields: Fields
    ) -> WriteOutcome:
        """Write the partition whole, in chunks, then switch to it at once. Never ROLLED_BACK."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a `SnapshotPlace`: its name and its length in bytes."""

    name: str
    size: int


class SnapshotPlace(Protocol):
    """Where snapshots are kept: whole objects by name, ``/`` between the parts of a name.

    Calls block; they are made on a thread, off the event loop. Each raises StoreUnavailableError
    (retryable) or StoreRefusedError (fatal) where the place is away or does not let us in.
    """

    place: str
    """What it is called in messages; never a credential."""

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write an object whole or not at all, durably; one of that name is replaced.

        An error that `pieces` raises comes through, and nothing is written.
        """

    def get(self, name: str) -> Iterator[bytes]:
        """The object in pieces of any size; none at all where there is no such object."""

    def objects(self, prefix: str) -> list[StoredObject]:
        """Every object whose name begins with `prefix`, which ends at a ``/``; in any order."""

    def delete(self, name: str) -> None:
        """Remove an object; that it is gone already is no error."""


class Delta(Protocol):
    """What one batch changes in a partition's state; nothing is changed before `fold`."""

    def changed(self) -> Fields:
        """Checkpoint fields to set."""

    def dropped(self) -> Iterable[bytes]:
        """Checkpoint fields to remove."""

    def fold(self) -> None:
        """Apply it to the state it was made from, after the batch's last durable step."""


@dataclass(slots=True)
class Effects:
    """Everything one batch does to the world, computed before any of it is done.

    Attributes:
        outputs: Records to publish; all are acknowledged before anything is stored.
        online: Rows for the online store.
        delta: Change of the partition's state.
        counts: Events by what became of them: ``in``, ``out``, ``dead``, ``late``, ``repeated``;
            where there are probes also ``canary``, which are not in ``out``.
        timed: When the events that came through happened; None where there are none.
    """

    outputs: list[Output]
    online: list[OnlineRows]
    delta: Delta
    counts: dict[str, int] = field(default_factory=dict)
    timed: Timed | None = None


class PartitionState(Protocol):
    """State of one source partition: a fold over its log."""

    def load(self, fields: Fields) -> None:
        """Become what `dump` once gave, in any order of fields."""

    def dump(self) -> Fields:
        """The whole state as checkpoint fields."""

    def online(self) -> list[OnlineRows]:
        """Every online row this state implies, to rewrite them on assignment."""


class Agent(Protocol):
    """One stage's logic: pure but for the scorer it may call."""

    stage: str
    layout: str
    """Digest of the state's layout: a checkpoint of another layout is set aside."""

    def new_state(self, topic: str, partition: int) -> PartitionState:
        """The state before the first record."""

    async def process(
        self, state: PartitionState, records: RecordBatch, *, rebuilt: bool
    ) -> Effects:
        """What `records` do, given `state` (which is not changed).

        Args:
            state: State at the batch's first record.
            records: Records in log order.
            rebuilt: The state comes from a truncated history; outputs are flagged.

        Raises:
            RetryableError: the same call may succeed later.
            Exception: any other error makes the runner split the batch; a single record that
                still raises goes to the dead letter as `record.failed`.
        """

    def dead(self, records: RecordBatch, row: int, code: str, state: PartitionState) -> Effects:
        """Effects that dead-letter one record under `code` and change nothing else."""


@dataclass(slots=True)
class Scores:
    """What the model says of N rows.

    Attributes:
        score: float32 (N,).
        confidence: float32 (N,).
        high: bool (N,), score at or above the threshold.
        tier: N small integers (uint8) into `tiers`: who answered.
        tiers: Names of the tiers.
        values: Further named outputs, float32 (N,).
    """

    score: NDArray[np.float32]
    confidence: NDArray[np.float32]
    high: NDArray[np.bool_]
    tier: NDArray[np.uint8]
    tiers: tuple[str, ...]
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answered: name and version from the pipeline file, digest of the file's bytes."""

    name: str
    version: int
    digest: str


class Scorer(Protocol):
    """Batched, cached inference."""

    model: ModelIdentity

    async def score(self, features: F64) -> Scores:
        """Scores of float64 (N, F) features, columns in the order of the model's inputs.

        Cancelling one caller leaves every other caller of the same session call untouched.

        Raises:
            Exception: what the model raised for these rows; the caller splits them.
        """
