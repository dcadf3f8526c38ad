"""Find the record that makes a batch fail, and let its neighbours pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import HeadraceError, PoisonError
from headrace.schemas.protocols import Agent, Effects, PartitionState
from headrace.streams.delivery.retry import retried

log = logging.getLogger("headrace.delivery")


async def effects_of(
    agent: Agent,
    state: PartitionState,
    records: RecordBatch,
    *,
    rebuilt: bool,
    on_retry: Callable[[str], None],
) -> AsyncIterator[tuple[RecordBatch, Effects]]:
    """The effects of `records`, part by part, in log order; usually one part.

    A batch that fails is halved until the failing record stands alone; that one's effect is a dead
    letter. The caller folds each part's delta before it asks for the next, since the next part's
    effects build on it.

    Raises:
        FatalError: passed on from the agent, as is everything that is no verdict on a record.
    """
    parts = [records]
    while parts:
        part = parts.pop()

        async def process(part: RecordBatch = part) -> Effects:
            return await agent.process(state, part, rebuilt=rebuilt)

        effects: Effects | None
        try:
            where = f"{agent.stage} of {part.source(0)}"
            effects = await retried(process, what=where, on_retry=on_retry)
        except PoisonError as error:
            effects = _halve_or_dead(agent, state, part, parts, error.code, error)
        except (HeadraceError, asyncio.CancelledError):
            raise
        # A task boundary: whatever an agent raises on a batch is a verdict on one of its records.
        except Exception as error:  # noqa: BLE001
            effects = _halve_or_dead(agent, state, part, parts, "record.failed", error)
        if effects is not None:
            yield part, effects


def _halve_or_dead(
    agent: Agent,
    state: PartitionState,
    part: RecordBatch,
    parts: list[RecordBatch],
    code: str,
    error: Exception,
) -> Effects | None:
    """Effects of a dead letter for a single record; None after halving a longer part."""
    if len(part) > 1:
        middle = len(part) // 2
        parts += [part.slice(middle, len(part)), part.slice(0, middle)]
        return None
    log.warning(
        "%s cannot process record %s (%s); it goes to the dead letter as %r",
        agent.stage, part.source(0), type(error).__name__, code,
    )  # fmt: skip
    return agent.dead(part, 0, code, state)
