"""One prediction, walked back to its event and forward to the summary of its window."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec
import numpy as np

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.errors import SettingsError, Source
from headrace.schemas.ids import source_offset
from headrace.schemas.prediction import Prediction
from headrace.schemas.summary import SummaryRecord
from headrace.streams.agents.summarize import Summarizer
from headrace.streams.delivery.ports import checkpoint_key
from headrace.streams.replay.held import KEPT_ROWS
from headrace.streams.replay.past import Past, closing
from headrace.streams.replay.recorded import Answer
from headrace.streams.replay.reproduce import SLACK_MS

_END = 1 << 62


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A telemetry record, without its content.

    Attributes:
        at: ``topic[partition]@offset``.
        log_time_ms: Broker time, milliseconds since 1970.
        size: Bytes of its value.
        digest: BLAKE2b of its value, 16 hex digits: whether it is the one that was sent.
    """

    at: str
    log_time_ms: int
    size: int
    digest: str


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What the model was given, and what that was made by.

    Attributes:
        at: Record of the block, ``topic[partition]@offset``.
        row: Row of it.
        entity: Entity.
        event_time_ms: Device time of the event.
        age_ms: Broker time of the event less its device time: how old the newest value was.
        values: Feature to value; null is missing.
        pipeline_digest: Pipeline file they were made by.
        numerics: Numerics fingerprint they were made under.
        rebuilt: The state behind them came from a truncated history.
    """

    at: str
    row: int
    entity: str
    event_time_ms: int
    age_ms: int
    values: dict[str, float | None]
    pipeline_digest: str
    numerics: str
    rebuilt: bool


class WentInto(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of its window and group, in its highest revision.

    It counts the prediction unless that came too late for it: one that did is in no summary.

    Attributes:
        at: Its record, ``topic[partition]@offset``.
        window_start_ms: Start of the window, milliseconds since 1970.
        window_end_ms: Its end.
        group: Group.
        rev: Its revision: 0 is the first answer, a higher one replaced those below.
        rows: Predictions in it.
        suppressed: Nothing but the count was released.
    """

    at: str
    window_start_ms: int
    window_end_ms: int
    group: str
    rev: int
    rows: int
    suppressed: bool


class Explained(msgspec.Struct, kw_only=True):
    """Everything that is known of one prediction.

    Attributes:
        id: Prediction id.
        source: Telemetry record it is of, ``topic[partition]@offset``.
        prediction: As it was published; None where it is gone.
        at: Its record on the predictions topic.
        record: The telemetry record; None where it is gone.
        features: What the model was given; None where that is gone.
        state: Snapshot before the event that its features can be computed from again; None for
            none.
        model_kept: Whether the model it names is kept, or beside the pipeline file.
        summaries: Those of its window and group.
        missing: One line for everything that is not to be had, with the reason.
    """

    id: str
    source: str
    prediction: Prediction | None = None
    at: str | None = None
    record: Record | None = None
    features: Features | None = None
    state: str | None = None
    model_kept: bool = False
    summaries: list[WentInto] = msgspec.field(default_factory=list)
    missing: list[str] = msgspec.field(default_factory=list)


def source_of(prediction: str, past: Past) -> Source:
    """The telemetry record of a prediction id; the id alone tells.

    Raises:
        SettingsError: the id is of no partition of this pipeline. Fatal.
    """
    pipeline, topic = past.definitions.pipeline, past.definitions.topics.enriched
    for partition in range(topic.partitions):
        offset = source_offset(prediction, pipeline.name, topic.name, partition)
        if offset is not None:
            return Source(topic.name, partition, offset)
    raise SettingsError(
        f"{prediction!r} is no prediction id of pipeline {pipeline.name!r}; give the 32 hex "
        f"digits of `id`, and name the pipeline that made it with --pipeline"
    )


async def explain(prediction: str, past: Past) -> Explained:
    """Walk one prediction back to its event, and forward to its summaries.

    Raises:
        SettingsError: no id of this pipeline. Fatal.
        BusUnavailableError, StoreUnavailableError: retryable. BusRefusedError: fatal.

    Delivery: reads only, without a group.
    """
    source = source_of(prediction, past)
    found = Explained(id=prediction, source=str(source))
    since_ms = await _record(found, source, past) - SLACK_MS
    await _answer(found, source, past, since_ms)
    labels = await _features(found, source, past, since_ms)
    await _made_by(found, source, past)
    if found.prediction is not None:
        await _summaries(found, past, labels, since_ms)
    return found


async def _record(found: Explained, source: Source, past: Past) -> int:
    """Look up the telemetry record; its broker time, or 0 where it is gone."""
    begin, end = await past.log.log_range(source.topic, source.partition)
    if source.offset >= end:
        raise SettingsError(
            f"prediction {found.id!r} would be of {source}, and that log ends at {end}: it is of "
            f"another log of this name"
        )
    log = past.log.read_range(
        source.topic, source.partition, max(begin, source.offset), source.offset + 1
    )
    async with closing(log):
        records = await anext(log, None) if source.offset >= begin else None
    if records is None:
        found.missing.append(
            f"the telemetry record {source} has expired: that log begins at {begin}"
        )
        return 0
    value = records.values[0] or b""
    found.record = Record(
        at=str(source),
        log_time_ms=int(records.log_times_ms[0]),
        size=len(value),
        digest=hashlib.blake2b(value, digest_size=8).hexdigest(),
    )
    return found.record.log_time_ms


async def _answer(found: Explained, source: Source, past: Past, since_ms: int) -> None:
    """Look up the prediction as it was published last."""
    topic = past.definitions.topics.predictions.name
    log = await _since(past, topic, source.partition, since_ms)
    decode = msgspec.json.Decoder(Prediction).decode
    async with closing(log):
        async for records in log:
            for row, value in enumerate(records.values):
                if value is None or found.id.encode() not in value:
                    continue
                prediction = decode(value)
                if prediction.id == found.id:
                    found.prediction, found.at = prediction, str(records.source(row))
            if found.prediction is not None and _beyond(records, source):
                return
    if found.prediction is None:
        found.missing.append(
            f"no prediction of {source} is on {topic}[{source.partition}]: it has expired, was not "
            f"served yet, or the event gave none (see headrace deadletter)"
        )


def _beyond(records: RecordBatch, source: Source) -> bool:
    """Whether predictions are of events so much later that none of ours comes again."""
    try:
        last = msgspec.json.decode(records.values[-1] or b"", type=Answer)
        return int(last.source.rpartition("@")[2]) > source.offset + KEPT_ROWS
    except (msgspec.DecodeError, ValueError):
        return False


async def _features(
    found: Explained, source: Source, past: Past, since_ms: int
) -> dict[str, Labels] | None:
    """Look up the row of its block; its attributes, None where it is gone."""
    topic = past.definitions.topics.features.name
    log = await _since(past, topic, source.partition, since_ms)
    async with closing(log):
        async for records in log:
            for row, value in enumerate(records.values):
                block = _block(value)
                if block is None or block.topic != source.topic:
                    continue
                at = int(np.searchsorted(block.offsets, source.offset))
                if at < len(block) and block.offsets[at] == source.offset:
                    found.features = _row(block, at, str(records.source(row)))
                    return {n: labels.slice(at, at + 1) for n, labels in block.attributes.items()}
    found.missing.append(f"no features of {source} are on {topic}[{source.partition}] any more")
    return None


def _block(value: bytes | None) -> FeatureBlock | None:
    try:
        block = FeatureBlock.decode(value or b"")
    except ValueError:
        return None
    return block if len(block) else None


def _row(block: FeatureBlock, at: int, place: str) -> Features:
    values = [None if v != v else v for v in block.features[at].tolist()]
    age_ms = int(block.log_times_ms[at] - block.event_times_ms[at])
    return Features(
        at=place,
        row=at,
        entity=block.entities.names[int(block.entities.codes[at])],
        event_time_ms=int(block.event_times_ms[at]),
        age_ms=age_ms,
        values=dict(zip(block.columns, values, strict=True)),
        pipeline_digest=block.pipeline_digest,
        numerics=block.numerics,
        rebuilt=block.rebuilt,
    )


async def _made_by(found: Explained, source: Source, past: Past) -> None:
    """Whether its model is kept, and from where its features could be computed again."""
    digest = found.features.pipeline_digest if found.features else ""
    if found.prediction is not None:
        model = found.prediction.model.digest
        found.model_kept = bool(await past.definitions.candidates(model, digest))
        if not found.model_kept:
            found.missing.append(
                f"model {model} is kept nowhere; its file is not beside the pipeline"
            )
    definition, known = await past.definitions.definition(digest)
    if digest and not known:
        found.missing.append(f"the pipeline file {digest} is kept nowhere")
    if past.snapshots is not None:
        key = checkpoint_key(definition.agent.stage, source.topic, source.partition)
        kept = [one for one in past.snapshots.stored(key) if one.position <= source.offset]
        if kept:
            found.state = max(kept, key=lambda one: one.position).name


async def _summaries(
    found: Explained,
    past: Past,
    labels: dict[str, Labels] | None,
    since_ms: int,
) -> None:
    """Look up the summary of its window and group, as it was released last."""
    prediction, definitions = found.prediction, past.definitions
    if prediction is None:
        return
    summarizer = Summarizer(definitions.pipeline, definitions.topics)
    empty = Labels([""], np.zeros(1, np.int32))
    if labels is None and summarizer.group_by:
        found.missing.append("its group is not known without its features: no summary is looked up")
        return
    groups = summarizer.groups([(labels or {}).get(n, empty) for n in summarizer.group_by], 1)
    group, at_ms = groups.names[0], prediction.times_ms.device
    topic = definitions.topics.summaries
    last: dict[tuple[int, int], WentInto] = {}
    for partition in range(topic.partitions):
        log = await _since(past, topic.name, partition, since_ms)
        async with closing(log):
            async for records in log:
                for row, value in enumerate(records.values):
                    summary = _summary(value)
                    if (
                        summary is not None
                        and summary.window_start_ms <= at_ms < summary.window_end_ms
                        and summary.group == group
                    ):
                        one = _went_into(summary, str(records.source(row)))
                        window = one.window_start_ms, one.window_end_ms
                        last[window] = max(last.get(window, one), one, key=lambda w: w.rev)
    found.summaries = list(last.values())
    if not found.summaries:
        found.missing.append(
            f"no summary of its window and group {group!r} is on {topic.name}: it is still open, "
            f"or has expired"
        )


def _summary(value: bytes | None) -> SummaryRecord | None:
    try:
        return msgspec.json.decode(value or b"", type=SummaryRecord)
    except msgspec.DecodeError:
        return None


def _went_into(summary: SummaryRecord, at: str) -> WentInto:
    return WentInto(
        at=at,
        window_start_ms=summary.window_start_ms,
        window_end_ms=summary.window_end_ms,
        group=summary.group,
        rev=summary.rev,
        rows=summary.rows,
        suppressed=summary.suppressed,
    )


async def _since(
    past: Past, topic: str, partition: int, since_ms: int
) -> AsyncIterator[RecordBatch]:
    """Records of a topic from a broker time to its end."""
    start = await past.log.offset_at(topic, partition, max(0, since_ms))
    return past.log.read_range(topic, partition, start, _END)
