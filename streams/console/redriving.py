"""Dead letters put back from the page: the command's own code, a bounded number at a time."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import msgspec

from headrace.streams.client.deadletters import Wanted
from headrace.streams.client.redrive import Redrive
from headrace.streams.client.redrive_report import outcome_lines
from headrace.streams.console.shown import Shown

log = logging.getLogger("headrace.console")

MOST = 1000
"""Dead letters put back at a time: what a wrong click can do is bounded."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page asks for.

    Attributes:
        limit: Most to put back.
        reason: Only of this code; None for all.
        dry: Only say what would become of each.
    """

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)]
    reason: Annotated[str, msgspec.Meta(max_length=200)] | None
    dry: bool


class Done(msgspec.Struct, frozen=True):
    """What became of it.

    Attributes:
        redriven: Put back; in a dry run, what would be.
        lines: All of it, for people; no content.
    """

    redriven: int
    lines: list[str]


class Redriving:
    """Redrives dead letters of one pipeline, one order after the other.

    Args:
        shown: The pipeline.
    """

    def __init__(self, shown: Shown) -> None:
        self._shown, self._busy = shown, asyncio.Lock()

    async def carry_out(self, order: Order) -> Done:
        """See `Redrive`.

        Raises:
            BusUnavailableError: retryable. TopicError, BusRefusedError: fatal.

        Delivery: at-least-once, that of `Redrive`.
        """
        shown, wanted = self._shown, Wanted(reason=order.reason)
        # Two side by side would put the same ones back: the second finds the marks of the first.
        async with self._busy:
            redrive = Redrive(shown.bus, shown.pipeline, wanted, limit=order.limit)
            outcome = await redrive.run(dry=order.dry)
        if not order.dry:
            log.info(
                "console: %d dead letters of %s put back", outcome.redriven, shown.pipeline.name
            )
        lines = list(outcome_lines(outcome, shown.pipeline, dry=order.dry))
        return Done(outcome.redriven, lines)
