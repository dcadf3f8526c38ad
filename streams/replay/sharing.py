"""One export by many workers, on one machine or several: a consumer group deals the partitions.

The group decides only who works on what. What is done is told by the marks in the folder, which all
workers share; so a worker that is killed costs the part it was making, which its heir makes again
with the same bytes, and one that was taken for dead and was not does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from headrace.schemas.errors import RetryableError, SettingsError
from headrace.streams.bus.membership import Membership, member_of
from headrace.streams.bus.options import client_options
from headrace.streams.replay.ask import open_source
from headrace.streams.replay.choose import source_of
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import Folder, Report, Sheet
from headrace.streams.replay.pool import Progress
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.throttle import Throttle
from headrace.streams.replay.worker import Order

GROUPS = "headrace-replay."
"""Before the name of every group of replays, so that none is that of a stage."""

LOOK_S = 0.5
"""Between two looks at what others have done."""


async def share_export(order: Order, sheet: Sheet, group: str, progress: Progress) -> Report:
    """Make parts of the partitions that the group deals us, until every part is done.

    Args:
        order: What to do; its rates are this worker's own.
        sheet: Of the folder, which all workers of the group share.
        group: Its name.
        progress: Told how far the whole is.

    Raises:
        SettingsError: an export is read, whose partitions no group can deal. Fatal.
        RetryableError: the bus is away; the same call goes on.

    Delivery: each part is made at least once, with the same bytes each time.
    """
    if order.ask.export is not None:
        raise SettingsError(
            "a group deals the partitions of a topic, and an export is read; leave --group out, "
            "and use --workers"
        )
    folder = Folder(Path(order.folder))
    progress.total = sheet.plan.offsets
    options = client_options(order.ask.bus)
    prediction = source_of(sheet.plan.wanted, order.ask.load())
    throttle = Throttle(order.bytes_per_s, order.rows_per_s)
    async with (
        open_source(order.ask) as source,
        member_of(options, GROUPS + group, sheet.plan.topic) as member,
    ):
        exporter = Exporter(source, folder, sheet, prediction=prediction, throttle=throttle)
        while (report := _finished(folder, sheet, progress)) is None:
            await member.alive()
            span = _next(folder, sheet, member)
            if span is None:
                await _wait(member)
                continue
            await exporter.part(span)
            # The mark is what counts: who is refused here has only lost the partition.
            with contextlib.suppress(RetryableError):
                await member.commit(span.partition, span.stop)
    return report


def _finished(folder: Folder, sheet: Sheet, progress: Progress) -> Report | None:
    done = folder.done(sheet.parts)
    progress.done = sum(span.stop - span.start for span in done)
    return folder.finish(sheet)


def _next(folder: Folder, sheet: Sheet, member: Membership) -> Span | None:
    """The first part that is ours and not done."""
    ours = [span for span in sheet.parts if span.partition in member.partitions]
    done = folder.done(ours)
    return next((span for span in ours if span not in done), None)


async def _wait(member: Membership) -> None:
    """Until our share changes, or it is time to look again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await member.changed.wait()
    member.changed.clear()
