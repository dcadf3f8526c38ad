"""Which rows of a table a replay is asked for."""

from __future__ import annotations

from functools import reduce
from typing import Any

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.schemas.ids import source_offset
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.arrow import arrow
from headrace.streams.replay.forms import Facts, stamp
from headrace.streams.replay.ranges import Wanted

SOURCE_OFFSET = "source_offset"


def check_columns(wanted: Wanted, facts: Facts) -> None:
    """Refuse what the table has no column for.

    Raises:
        SettingsError: fatal.
    """
    lacking = [
        what
        for what, asked, column in (
            ("event time", wanted.is_timed and wanted.by == "event", facts.time),
            ("device", bool(wanted.devices), facts.device),
        )
        if asked and column is None
    ]
    if lacking:
        raise SettingsError(
            f"rows of {facts.role!r} have no {' and no '.join(lacking)} to choose them by; choose "
            f"by broker time (--by broker) or by offsets"
        )


def narrow(wanted: Wanted, role: str, pipeline: Pipeline | None) -> Wanted:
    """What is wanted, with a prediction id turned into the one place its source can be.

    Raises:
        SettingsError: the id is none of this pipeline's, or rows of this role have none. Fatal.
    """
    if wanted.prediction is None:
        return wanted
    if pipeline is None:
        raise SettingsError("a prediction id is looked up by its pipeline, expected one; name it")
    enriched = topics_of(pipeline).enriched
    if role not in (enriched.stage, "features", "predictions"):
        raise SettingsError(
            f"rows of {role!r} belong to no single prediction, expected {enriched.stage}, features "
            f"or predictions; leave the id out"
        )
    for partition in range(enriched.partitions):
        offset = source_offset(wanted.prediction, pipeline.name, enriched.name, partition)
        if offset is not None:
            place = (offset, offset + 1) if role == enriched.stage else (None, None)
            return msgspec.structs.replace(wanted, offsets={partition: place})
    raise SettingsError(
        f"{wanted.prediction!r} is no prediction id of pipeline {pipeline.name!r} on "
        f"{enriched.name}; check the id, and the pipeline's name and topics"
    )


def source_of(wanted: Wanted, pipeline: Pipeline | None) -> int | None:
    """Source offset of the wanted prediction on its partition; None where none is asked for."""
    if wanted.prediction is None or pipeline is None:
        return None
    topic = topics_of(pipeline).enriched.name
    [partition] = wanted.offsets or (0,)
    return source_offset(wanted.prediction, pipeline.name, topic, partition)


def choose(table: Any, facts: Facts, wanted: Wanted, source: int | None) -> tuple[Any, int]:
    """The rows that are asked for, and how many had no event time to be chosen by.

    Args:
        table: A `pyarrow.RecordBatch`.
        facts: Of it.
        wanted: Narrowed; its offsets are not looked at, reading has seen to them.
        source: Source offset of the one prediction asked for; None for all.
    """
    pc = arrow("compute")
    masks: list[Any] = []
    undated = 0
    if wanted.is_timed:
        column = facts.time if wanted.by == "event" else "log_time"
        times = table[column]
        undated = times.null_count
        if wanted.start_ms is not None:
            masks.append(pc.greater_equal(times, _time(wanted.start_ms)))
        if wanted.stop_ms is not None:
            masks.append(pc.less(times, _time(wanted.stop_ms)))
    if wanted.devices:
        masks.append(pc.is_in(table[facts.device], value_set=arrow().array(list(wanted.devices))))
    if facts.prediction is not None and wanted.prediction is not None:
        masks.append(pc.equal(table[facts.prediction], wanted.prediction))
    elif source is not None and SOURCE_OFFSET in table.schema.names:
        masks.append(pc.equal(table[SOURCE_OFFSET], source))
    return (table.filter(reduce(pc.and_, masks)) if masks else table), undated


def _time(ms: int) -> Any:
    return arrow().scalar(ms, stamp())
