"""What a replay reads, as a process can be told it, and opening it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.lone_reader import lone_reader
from headrace.streams.bus.options import client_options
from headrace.streams.replay.choose import check_columns, narrow
from headrace.streams.replay.folder import PART_OFFSETS, Sheet, schema_text
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.roles import form_of, role_of, topics_or_none
from headrace.streams.replay.source import BusSource, ExportSource, Source
from headrace.streams.replay.writing import Format


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay reads.

    Attributes:
        bus: The bus.
        topic: A role of the pipeline, or a topic's name; not looked at where `export` is given.
        pipeline: Its file; None reads plain records.
        export: Folder of an export to read instead of the bus.
        raw: Add key, value and headers of each record.
    """

    bus: BusSettings
    topic: str = ""
    pipeline: str | None = None
    export: str | None = None
    raw: bool = False

    def load(self) -> Pipeline | None:
        """The pipeline; None where none is named.

        Raises:
            PipelineFileError: fatal.
        """
        return None if self.pipeline is None else load_pipeline(Path(self.pipeline))


@asynccontextmanager
async def open_source(ask: Ask) -> AsyncIterator[Source]:
    """The source of a replay, connected.

    Raises:
        SettingsError, PipelineFileError, TopicError, MissingExtraError, BusRefusedError: fatal.
        BusUnavailableError: retryable.
    """
    if ask.export is not None:
        yield ExportSource(Path(ask.export), raw=ask.raw)
        return
    pipeline = ask.load()
    folder = Path(ask.pipeline).parent if ask.pipeline else Path()
    role = role_of(ask.topic, topics_or_none(pipeline))
    form = form_of(role, pipeline, folder, raw=ask.raw)
    skew_ms = round(pipeline.input.max_skew_s * 1000) if pipeline else 0
    options = client_options(ask.bus)
    async with lone_reader(options, role.topic) as reader:
        yield BusSource(options, reader, form, skew_ms)


async def sheet_of(
    ask: Ask,
    source: Source,
    wanted: Wanted,
    *,
    form: Format,
    now_ms: int,
    part_offsets: int = PART_OFFSETS,
    by_day: bool = False,
) -> Sheet:
    """What an export of a source would be of, planned now.

    By day, that is the day of the clock that `wanted` names; of the broker's where rows have no
    other.

    Raises:
        SettingsError: a range that cannot be, or rows without what they are chosen by. Fatal.
        BusUnavailableError: retryable.
    """
    wanted.check()
    check_columns(wanted, source.facts)
    pipeline = ask.load()
    plan = await source.plan(narrow(wanted, source.facts.role, pipeline), now_ms=now_ms)
    named = source.pipeline if isinstance(source, ExportSource) else None
    return Sheet(
        table=source.facts,
        schema=schema_text(source.schema),
        pipeline=f"{pipeline.name}@{pipeline.digest}" if pipeline and not named else named,
        plan=plan,
        format=form,
        part_offsets=part_offsets,
        day_of=((wanted.by == "event" and source.facts.time) or "log_time") if by_day else None,
    )
