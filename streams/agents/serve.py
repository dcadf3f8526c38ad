"""The serve stage: feature blocks to predictions, and to parts of summaries of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import orjson
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64, Headers, RecordBatch
from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.deadletter import Tried
from headrace.schemas.errors import PoisonError, Source
from headrace.schemas.fragments import strings
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prediction import PredictionColumns, encode_predictions
from headrace.schemas.protocols import (
    Effects,
    Output,
    PartitionState,
    Scorer,
    Scores,
)
from headrace.schemas.timed import Timed
from headrace.schemas.topics import PipelineTopics
from headrace.streams.agents.feature_rows import FeatureRows, join_blocks
from headrace.streams.agents.isolate import Isolated, score_rows, slice_scores, split
from headrace.streams.agents.probes import real_rows, without_probes
from headrace.streams.agents.refusals import Refusals
from headrace.streams.agents.scored_rows import Change, Rest, ScoredRows
from headrace.streams.agents.serve_state import Mark, ServeDelta, ServeState, SourceKey
from headrace.streams.agents.summarize import Summarizer, layout_of
from headrace.streams.agents.together import SMALL_ROWS, Together
from headrace.streams.agents.windows import Windows, WindowsDelta
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.traceparent import TRACEPARENT
from headrace.streams.observe.traces import going_on

_FORMAT = 5
"""Version of the state's fields."""

_UNSERVED = Mark(-1, -1)
_NONE = np.empty(0, np.float32)

_NO_BLOCK = (ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What decoding anything else raises."""


class ServeAgent:
    """`Batch -> Effects` of the serve stage, pure but for the scorer's clock and cache.

    Predictions go to the source's partition number, keyed by entity. A row whose telemetry offset
    was served before is dropped, so blocks that ENRICH cut anew after a restart may overlap; a
    telemetry topic that was made anew begins again at 0 and is known by its broker times. A row
    that the model refuses goes to the dead letter as `model.failed`, as a block of that one row;
    its neighbours are served. ``in = out + dead + repeated`` for every batch, counted in rows.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.
        scorer: The model, ready.
        now: Wall clock, seconds since 1970; only for the time a prediction was served.
    """

    stage = "serve"

    def __init__(
        self,
        pipeline: Pipeline,
        topics: PipelineTopics,
        scorer: Scorer,
        *,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        self._name = pipeline.name
        self._topics, self._scorer, self._now = topics, scorer, now
        self._together = Together[F64, Isolated](self._score_all)
        self._folded = Together[Change, tuple[WindowsDelta, list[Output]]](self._fold_all)
        self._refusals = Refusals(pipeline, topics, self.stage, model=scorer.model.digest)
        self._inputs = pipeline.model_inputs
        outputs = pipeline.model.outputs
        self._labels = (outputs.otherwise, outputs.label)
        self._class_by = () if (name := pipeline.observe.class_by) is None else (name,)
        self._probed = pipeline.canary is not None
        self._summarizer = Summarizer(pipeline, topics)
        self.layout = _layout(pipeline)

    def new_state(self, topic: str, partition: int) -> ServeState:
        """The state before the first record of a partition."""
        return ServeState()

    async def process(
        self, state: PartitionState, records: RecordBatch, *, rebuilt: bool
    ) -> Effects:
        """What `records`, blocks in log order, do; `state` is only read.

        Predictions are flagged by what their block says of its features: SERVE's own state, of
        which `rebuilt` tells, has no part in a score.

        Raises:
            PoisonError: a record is no block (`block.invalid`), or one that lacks columns of the
                model (`block.columns`).
            RetryableError, FatalError: from the scorer.
        """
        ours = _ours(state)
        blocks = [self._block(ours, records, row) for row in range(len(records))]
        fresh, ready, served, rests = _fresh(ours.served, blocks, records.log_times_ms)
        counts = {"in": sum(map(len, blocks)), "out": 0, "dead": 0, "late": 0}
        counts["repeated"] = counts["in"] - sum(map(len, fresh))
        if not fresh:
            windows, summaries = self._summarizer.fold(ours.windows, None, records.partition, rests)
            return Effects(summaries, [], ServeDelta(ours, served, windows), counts)
        rows = join_blocks(
            fresh,
            columns=self._inputs,
            metrics=self._summarizer.metrics,
            attributes=(*self._summarizer.group_by, *self._class_by),
        )
        begun_ms = self._now() * 1000
        found = await self._scored(rows.features)
        real = real_rows(rows.entities) if self._probed else None
        windows, summaries = await self._summarized(ours.windows, rows, found, rests, real)
        timed = self._timed(rows, found, ready, begun_ms)
        traces = going_on(self.stage, timed)
        outputs = [*self._predictions(rows, found, traces), *self._refused(rows, found), *summaries]
        counts["out"], counts["dead"] = len(found.served), len(found.failed)
        if self._probed:
            timed = timed if real is None else timed.take(real[found.served])
            counts["canary"] = len(found.served) - len(timed)
            counts["out"] = len(timed)
        delta = ServeDelta(ours, served, windows)
        return Effects(outputs, [], delta, counts, timed if len(timed) else None)

    async def _scored(self, features: F64) -> Isolated:
        """Scores of float64 (N, F) features; few rows share a call with those of other lanes."""
        if len(features) > SMALL_ROWS:
            return await score_rows(self._scorer, features)
        return await self._together.ask(features)

    async def _score_all(self, parts: Sequence[F64]) -> Sequence[Isolated]:
        found = await score_rows(
            self._scorer, parts[0] if len(parts) == 1 else np.concatenate(parts)
        )
        return [found] if len(parts) == 1 else split(found, list(map(len, parts)))

    def dead(self, records: RecordBatch, row: int, code: str, state: PartitionState) -> Effects:
        """Effects that dead-letter one record under `code`, without rows that were served before.

        Its own count as served: a block of an aborted transaction comes again, cut otherwise.
        """
        left, served = _unserved(_ours(state), records, row)
        output = self._refusals.dead(left, {0: code})
        counts = {"in": 1, "out": 0, "dead": 1, "late": 0, "repeated": 0}
        return Effects([output], [], ServeDelta(_ours(state), served, None), counts)

    def _block(self, ours: ServeState, records: RecordBatch, row: int) -> FeatureBlock:
        """A block of rows that can be scored, or were all served before."""
        try:
            block = FeatureBlock.decode(records.values[row] or b"")
        except _NO_BLOCK as error:
            raise PoisonError(
                "block.invalid", source=records.source(row), found="is no feature block"
            ) from error
        missing = set(self._inputs).difference(block.columns)
        if missing and _fresh(ours.served, [block], records.log_times_ms[row : row + 1])[0]:
            raise PoisonError(
                "block.columns",
                source=records.source(row),
                found=f"lacks {len(missing)} columns of the model's inputs",
            )
        return block

    def _predictions(
        self, rows: FeatureRows, found: Isolated, traces: dict[int, str]
    ) -> Iterator[Output]:
        """Predictions, run by run of blocks that differ in nothing a prediction's head says.

        Args:
            rows: What was to be scored.
            found: What was.
            traces: Traceparent of the few predictions that carry one, by their place among these.
        """
        if found.scores is None:
            return
        served_ms = int(self._now() * 1000)
        names = rows.entities.names
        fragments, keys = strings(names), [name.encode() for name in names]
        codes = rows.entities.codes.tolist()
        for first, last in _runs(rows.blocks):
            begin, end = int(rows.starts[first]), int(rows.starts[last])
            at, to = np.searchsorted(found.served, (begin, end)).tolist()
            if at == to:
                continue
            served = found.served[at:to]
            entities = [codes[row] for row in served.tolist()]
            ids = [text for block in rows.blocks[first:last] for text in block.event_ids]
            if to - at < end - begin:
                ids = [ids[row] for row in (served - begin).tolist()]
            values = encode_predictions(
                PredictionColumns(
                    pipeline=self._name,
                    model=self._scorer.model,
                    topic=rows.blocks[first].topic,
                    partition=rows.blocks[first].partition,
                    offsets=rows.offsets[served],
                    event_times_ms=rows.event_times_ms[served],
                    log_times_ms=rows.log_times_ms[served],
                    event_ids=ids,
                    entities=[fragments[code] for code in entities],
                    scores=_part(found.scores, at, to),
                    labels=self._labels,
                    served_ms=served_ms,
                    flags=("rebuilt",) if rows.blocks[first].rebuilt else (),
                )
            )
            by_entity = [keys[code] for code in entities]
            partition = rows.blocks[first].partition
            headers = _trace_headers(traces, at, to)
            yield Output(self._topics.predictions.name, partition, by_entity, values, headers)

    def _timed(
        self, rows: FeatureRows, found: Isolated, ready: list[int], begun_ms: float
    ) -> Timed:
        """When what was served happened."""
        served = found.served
        classes = rows.attributes[-1] if self._class_by else None
        return Timed(
            rows.blocks[0].topic,
            rows.blocks[0].partition,
            rows.offsets[served],
            rows.event_times_ms[served],
            rows.log_times_ms[served],
            Labels(classes.names, classes.codes[served]) if classes is not None else None,
            np.repeat(np.array(ready, np.int64), np.diff(rows.starts))[served],
            begun_ms,
            rows.features if len(served) == len(rows) else rows.features[served],
            None if found.scores is None else found.scores.score,
            None if found.scores is None else found.scores.confidence,
            None if found.scores is None else found.scores.high,
            {
                int(np.searchsorted(served, row)): text
                for row, text in rows.traces.items()
                if row not in found.failed
            },
        )

    def _refused(self, rows: FeatureRows, found: Isolated) -> Iterator[Output]:
        """Dead letters of the rows that the model refused, each a block of one row."""
        blocks = [(rows.one(row), code) for row, code in sorted(found.failed.items())]
        for partition in sorted({block.partition for block, _ in blocks}):
            ours = [(block, code) for block, code in blocks if block.partition == partition]
            yield Output(
                self._topics.deadletter.name,
                partition,
                [block.entities.names[0].encode() for block, _ in ours],
                [block.encode() for block, _ in ours],
                [self._headers(block, code) for block, code in ours],
            )

    def _headers(self, block: FeatureBlock, code: str) -> Headers:
        source = Source(block.topic, block.partition, int(block.offsets[0]))
        return self._refusals.headers(code, source, Tried(1, int(block.log_times_ms[0])))

    async def _summarized(
        self,
        windows: Windows,
        rows: FeatureRows,
        found: Isolated,
        rests: Sequence[Rest],
        real: NDArray[np.bool_] | None,
    ) -> tuple[WindowsDelta, list[Output]]:
        """Fold what was served. Event time goes on by every row: ENRICH found its time right.

        Where the model refuses all rows of a partition, every summary would wait for it otherwise.
        Of probes nothing is folded: `real` (bool (N,)) says which rows are none, None: all.
        """
        served = found.served
        attributes = rows.attributes[: len(self._summarizer.group_by)]
        groups = self._summarizer.groups(attributes, len(rows))
        scored = ScoredRows(
            event_times_ms=rows.event_times_ms,
            log_times_ms=rows.log_times_ms,
            served=served,
            entities=Labels(rows.entities.names, rows.entities.codes[served]),
            groups=Labels(groups.names, groups.codes[served]),
            score=_NONE if found.scores is None else found.scores.score,
            high=_NONE > 0 if found.scores is None else found.scores.high,
            metrics=rows.metrics[served],
            model=self._scorer.model.digest,
        )
        left, told = (scored, rests) if real is None else without_probes(scored, rests, real)
        change = Change(windows, left, rows.blocks[0].partition, told)
        if len(rows) > SMALL_ROWS:
            return self._summarizer.fold_all([change])[0]
        return await self._folded.ask(change)

    async def _fold_all(
        self, changes: Sequence[Change]
    ) -> Sequence[tuple[WindowsDelta, list[Output]]]:
        return self._summarizer.fold_all(changes)


def _fresh(
    served: dict[SourceKey, Mark], blocks: Sequence[FeatureBlock], log_times: I64
) -> tuple[list[FeatureBlock], list[int], dict[SourceKey, Mark], list[Rest]]:
    """The blocks' rows that were not served before, how far each source is served, and rests.

    The second is the broker time of each of the first, milliseconds since 1970.

    Args:
        served: How far each source was served before.
        blocks: Blocks in log order.
        log_times: int64 (B,), broker time of each block's record, milliseconds since 1970.
    """
    marks: dict[SourceKey, Mark] = {}
    fresh: list[FeatureBlock] = []
    ready: list[int] = []
    rests: list[Rest] = []
    rows = 0
    for block, log_ms in zip(blocks, log_times.tolist(), strict=True):
        if not len(block):
            rests.append(Rest(rows, log_ms))
            continue
        source = (block.topic, block.partition)
        mark = marks.get(source) or served.get(source) or _UNSERVED
        start = int(np.searchsorted(block.offsets, mark.offset, side="right"))
        if start and block.log_times_ms[:start].max() > mark.log_ms:
            start = 0
        if start < len(block):
            fresh.append(block.slice(start, len(block)) if start else block)
            ready.append(log_ms)
            latest = max(mark.log_ms, int(block.log_times_ms.max()))
            marks[source] = Mark(int(block.offsets[-1]), latest)
            rows += len(block) - start
    return fresh, ready, marks, rests


def _unserved(
    ours: ServeState, records: RecordBatch, row: int
) -> tuple[RecordBatch, dict[SourceKey, Mark]]:
    """A block's record without the rows that were served before, and how far its source is then.

    The record as it is where all of it is left; where it is no block, there is no mark.
    """
    one = records.slice(row, row + 1)
    try:
        block = FeatureBlock.decode(one.values[0] or b"")
    except _NO_BLOCK:
        return one, {}
    fresh, _, marks, _ = _fresh(ours.served, [block], one.log_times_ms)
    if fresh and len(fresh[0]) < len(block):
        one = replace(one, values=[fresh[0].encode()])
    return one, marks


def _trace_headers(traces: dict[int, str], at: int, to: int) -> list[Headers] | None:
    """Headers of predictions `at` to `to`, None where none of them carries a trace."""
    found = {place: text for place, text in traces.items() if at <= place < to}
    if not found:
        return None
    headers: list[Headers] = [()] * (to - at)
    for place, text in found.items():
        headers[place - at] = [(TRACEPARENT, text.encode())]
    return headers


def _runs(blocks: Sequence[FeatureBlock]) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) of consecutive blocks of one source and one flag."""
    first = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or _head(blocks[at]) != _head(blocks[first]):
            yield first, at
            first = at


def _head(block: FeatureBlock) -> tuple[str, int, bool]:
    return block.topic, block.partition, block.rebuilt


def _part(scores: Scores, start: int, stop: int) -> Scores:
    whole = start == 0 and stop == len(scores.score)
    return scores if whole else slice_scores(scores, start, stop)


def _layout(pipeline: Pipeline) -> str:
    """Digest of what the state's content hangs on; another one begins with an empty state."""
    facts = orjson.dumps([_FORMAT, layout_of(pipeline)])
    return hashlib.blake2b(facts, digest_size=8).hexdigest()


def _ours(state: PartitionState) -> ServeState:
    if not isinstance(state, ServeState):
        raise TypeError(f"the serve stage got a {type(state).__name__}, expected a ServeState")
    return state
