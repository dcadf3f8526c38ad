"""Backfill: the state of new features computed from the log beside the live ones, ready to switch.

The fold over the log by another pipeline file is kept as a snapshot under the new layout, and its
online rows go to the store as new versions of their views. Nothing that is live reads either. When
the workers are started with the new file, their takeover sets the old state aside, finds this
snapshot, and reads on from there: seconds instead of the whole log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.store import Store
from headrace.schemas.batch import LastRecord
from headrace.schemas.errors import SettingsError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import CheckpointMeta, PartitionState
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.delivery.ports import checkpoint_key
from headrace.streams.delivery.recovery import FORMAT
from headrace.streams.replay.anew import features_anew
from headrace.streams.replay.history import Begun, ReplayedStage, state_before
from headrace.streams.replay.past import Past, closing
from headrace.streams.replay.ranges import Span

EVERY_ROWS = 1_000_000
"""A snapshot is kept after so many offsets: what is killed goes on from the last one."""


class Filled(msgspec.Struct, kw_only=True):
    """One partition, done.

    Attributes:
        partition: Partition number.
        position: Next offset that is not in the state.
        begun: Where it began.
        entities: Entities it holds.
        rows: Online rows written, over all new versions of views.
        snapshot: Name of the snapshot that a takeover finds.
    """

    partition: int
    position: int
    begun: Begun
    entities: int = 0
    rows: int = 0
    snapshot: str = ""


def new_views(live: Pipeline, new: Pipeline) -> list[str]:
    """Views of the new file, as the store calls them, that the live one has not got.

    Raises:
        SettingsError: another pipeline; or a view has other features under the same version, so
            that its rows would go among the live ones. Fatal.
    """
    if live.name != new.name:
        raise SettingsError(
            f"the new file is of pipeline {new.name!r}, the live one of {live.name!r}: a pipeline "
            f"of another name has a state of its own; give both the same name"
        )
    if live.input != new.input:
        raise SettingsError(
            "the new file has another [input] than the live one: its events could be others; "
            "change the views only"
        )
    ours, theirs = live.stored_views(), new.stored_views()
    for name, view in theirs.items():
        if name in ours and ours[name].features != view.features:
            raise SettingsError(
                f"view {name!r} has other features than the live one and the same version; raise "
                f"its version, so that its rows stand beside those that are served"
            )
    return [name for name in theirs if name not in ours]


async def backfill(
    past: Past,
    store: Store,
    snapshots: Snapshots,
    spans: Sequence[Span],
    views: Sequence[str],
    *,
    every: int = EVERY_ROWS,
    said: Callable[[int], None] = lambda count: None,
) -> list[Filled]:
    """Fold the log by the given pipeline file, and leave its state and online rows behind.

    Args:
        past: What to read, by the new file.
        store: Takes the online rows.
        snapshots: Takes the states.
        spans: Offsets of the topic that ENRICH reads, from the log's first to where to stop.
        views: Of which to write online rows, as `new_views` says.
        every: Offsets between two snapshots.
        said: Told how many offsets were done since it was told last.

    Raises:
        TopicError, StoreRefusedError: fatal. BusUnavailableError, StoreUnavailableError: retryable.

    Delivery: idempotent. Killed, it goes on from its last snapshot when it is asked again.
    """
    digest = past.definitions.pipeline.digest
    definition, _ = await past.definitions.definition(digest)
    return [
        await _Fill(past, store, snapshots, definition.agent, span, every, said).run(views)
        for span in spans
    ]


class _Fill:
    """One partition on its way."""

    def __init__(
        self,
        past: Past,
        store: Store,
        snapshots: Snapshots,
        agent: EnrichAgent,
        span: Span,
        every: int,
        said: Callable[[int], None],
    ) -> None:
        self._past, self._store, self._snapshots = past, store, snapshots
        self._agent, self._span, self._every, self._said = agent, span, every, said
        topics = past.definitions.topics
        self._topic, self._partitions = topics.enriched.name, topics.telemetry.partitions
        self._key = checkpoint_key(agent.stage, self._topic, span.partition)
        self._epoch = 0

    async def run(self, views: Sequence[str]) -> Filled:
        """Fold, keep, write."""
        checkpoint = await self._store.read(self._key)
        self._epoch = 0 if checkpoint is None else checkpoint.meta.epoch
        stage = ReplayedStage(self._agent, self._partitions, self._past.log, self._past.snapshots)
        state, begun = await state_before(
            stage, self._topic, self._span.partition, self._span.stop, first_read=None
        )
        filled = Filled(partition=self._span.partition, position=begun.position, begun=begun)
        await self._fold(state, filled)
        for rows in state.online():
            if rows.view in views:
                ttl_s = self._past.definitions.pipeline.stored_views()[rows.view].ttl_s
                await self._store.write_rows(rows, epoch=self._epoch, ttl_s=ttl_s)
                filled.rows += len(rows.entities)
                filled.entities = len(rows.entities)
        return filled

    async def _fold(self, state: PartitionState, filled: Filled) -> None:
        kept, last = filled.position, None
        log = self._past.log.read_range(
            self._topic, self._span.partition, filled.position, self._span.stop
        )
        async with closing(log):
            async for done in features_anew(self._agent, state, log, start=self._span.stop):
                self._said(done.upto - filled.position)
                filled.position, last = done.upto, done.records.last_record()
                if filled.position - kept >= self._every:
                    filled.snapshot = self._keep(state, filled, last)
                    kept = filled.position
        if last is not None and filled.position > kept:
            filled.snapshot = self._keep(state, filled, last)

    def _keep(self, state: PartitionState, filled: Filled, last: LastRecord) -> str:
        meta = CheckpointMeta(
            position=filled.position,
            layout=self._agent.layout,
            format=FORMAT,
            partitions=self._partitions,
            numerics=numerics_fingerprint(),
            epoch=self._epoch,
            last=last,
            rebuilt=not filled.begun.complete,
        )
        # Under a key of its own: the live stage's snapshots do not push it out.
        key = f"{self._key}/{self._agent.layout}"
        return self._snapshots.save(key, meta, state.dump()).name
