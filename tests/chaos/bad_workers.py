"""Workers whose lanes break one rule of delivery each: the ledger must find every one out.

python bad_workers.py RULE STAGE PIPELINE.toml
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Sequence

from headrace.schemas.batch import RecordBatch
from headrace.schemas.protocols import Effects, Output
from headrace.streams import pipeline
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ownership import Owned
from headrace.streams.workers.worker import main

_checkpoints = itertools.count(1)
_batches = itertools.count(1)


class AckBeforeEffect(Lane):
    """Commits the group's offset above a batch before its effects are durable."""

    async def _process(self, owned: Owned, records: RecordBatch) -> None:
        await self._stage.group.commit(self.topic, self.partition, records.next)
        await super()._process(owned, records)


class CommitPastAnOpenBatch(Lane):
    """Commits above records that it has fetched, or will, and not finished."""

    async def _process(self, owned: Owned, records: RecordBatch) -> None:
        _, end = await self._stage.source.log_range(self.topic, self.partition)
        await super()._process(owned, records)
        await self._stage.group.commit(self.topic, self.partition, end)


class SleepsOverCheckpoint(Lane):
    """As it should be, but stopped by the system just before its third checkpoint."""

    async def _checkpoint(self, owned: Owned, part: RecordBatch, effects: Effects) -> None:
        if next(_checkpoints) == 3:
            os.kill(os.getpid(), signal.SIGSTOP)
            await self._woken(owned)
        await super()._checkpoint(owned, part, effects)

    async def _woken(self, owned: Owned) -> None:
        """Goes on as if no time had passed."""


class UnfencedCheckpoint(SleepsOverCheckpoint):
    """Writes whoever's claim it is by now, and then is gone."""

    async def _woken(self, owned: Owned) -> None:
        claim, position = await self._stage.store.held(self._key)
        assert claim is not None
        assert position is not None
        owned.claim, owned.stored = claim, position

    async def _checkpoint(self, owned: Owned, part: RecordBatch, effects: Effects) -> None:
        before = owned.claim
        await super()._checkpoint(owned, part, effects)
        if owned.claim != before:
            os.kill(os.getpid(), signal.SIGKILL)


class OutputsApartFromOffset(Lane):
    """Two transactions where one was promised, and gone between those of its third batch."""

    async def _publish(self, outputs: Sequence[Output], upto: int) -> None:
        await super()._publish(outputs, self._position)
        if next(_batches) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        await super()._publish([], upto)


RULES = {
    "none": Lane,
    "ack before effect": AckBeforeEffect,
    "commit past an open batch": CommitPastAnOpenBatch,
    "sleep": SleepsOverCheckpoint,
    "unfenced checkpoint": UnfencedCheckpoint,
    "outputs apart from the offset": OutputsApartFromOffset,
}

if __name__ == "__main__":
    pipeline.Lane = RULES[sys.argv.pop(1)]  # type: ignore[misc]
    main()
