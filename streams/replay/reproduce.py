"""Reproduce: features and predictions of a past stretch anew, held against what was served.

One partition after another, each read once: telemetry is folded anew, and feature blocks and
predictions come by in the order in which they were published. What was decided then is followed:
the pipeline file that a block names, the model that a prediction names; a cached answer is held
against the model's own. Only when a prediction was served, and by which tier, is not compared.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.streams.replay.against import Against
from headrace.streams.replay.anew import Computed, features_anew
from headrace.streams.replay.definitions import Definition
from headrace.streams.replay.held import KEPT_ROWS, What
from headrace.streams.replay.history import ReplayedStage, state_before
from headrace.streams.replay.one_log import one_log
from headrace.streams.replay.past import Past, closing
from headrace.streams.replay.ranges import Missing, Span
from headrace.streams.replay.recorded import (
    Ahead,
    AnswerRows,
    Unread,
    recorded_answers,
    recorded_blocks,
)
from headrace.streams.replay.verdict import PartitionFacts, Verdict

SLACK_MS = 60_000
"""How far the clocks of two brokers may be apart: recorded rows are looked for from this long
before the broker time of the telemetry."""

_END = 1 << 62

Said = Callable[[int], None]


async def reproduce(
    past: Past,
    spans: Sequence[Span],
    *,
    missing: Sequence[Missing] = (),
    said: Said = lambda count: None,
) -> Verdict:
    """Compute these stretches anew and compare.

    Args:
        past: What to read.
        spans: Offsets of the topic that ENRICH reads, by partition.
        missing: What was asked for and is not to be had.
        said: Told how many offsets of the stretches were done since it was told last.

    Raises:
        BusUnavailableError, StoreUnavailableError: retryable.
        TopicError, ModelError, PipelineFileError: fatal.
        StateError: a topic was made anew meanwhile. Fatal.

    Delivery: reads only, without a group: nothing live is touched.
    """
    began = time.monotonic()
    topics = past.definitions.topics
    topic, made = topics.enriched.name, (topics.features.name, topics.predictions.name)
    name = past.definitions.pipeline.name
    verdict = Verdict(pipeline=name, topic=topic, missing=list(missing))
    async with one_log(past.log, topic, spans, beside=made):
        for span in spans:
            begin, end = await past.log.log_range(topic, span.partition)
            start, stop = max(span.start, begin), min(span.stop, end)
            verdict.expired += max(0, min(begin, span.stop) - span.start)
            if start < stop:
                await _Partition(past, verdict, Span(span.partition, start, stop), said).run()
    verdict.seconds = round(time.monotonic() - began, 3)
    return verdict


class _Partition:
    """One partition's stretch, on its way through."""

    def __init__(self, past: Past, verdict: Verdict, span: Span, said: Said) -> None:
        self._past, self._verdict, self._span, self._said = past, verdict, span, said
        self._topic = past.definitions.topics.enriched.name
        self._against = Against(past.definitions, verdict, span)
        self._definition: Definition | None = None
        self._computing: AsyncIterator[Computed] | None = None
        self._log: AsyncIterator[RecordBatch] | None = None
        self._first_read: tuple[str, int] | None = None
        self._facts = PartitionFacts(partition=span.partition, start=span.start, stop=span.stop)
        self._counted = span.start
        verdict.partitions.append(self._facts)

    async def run(self) -> None:
        """Compare everything; what is left in the end is missing, or not served yet."""
        held, topics, bad = self._against.held, self._past.definitions.topics, (Unread(), Unread())
        since_ms = await self._time_of_the_first() - SLACK_MS
        self._first_read = await self._looked_up_first_read()
        features = await self._since(topics.features.name, since_ms)
        predictions = await self._since(topics.predictions.name, since_ms)
        async with closing(features), closing(predictions):
            blocks = Ahead(recorded_blocks(features, bad[0]), self._topic)
            answers = Ahead(recorded_answers(predictions, bad[1]), self._topic)
            try:
                await self._all(blocks, answers)
                await self._rest(blocks, answers)
            finally:
                await self._end()
        await self._against.let_go(held.drain())
        self._against.close()
        self._verdict.features.unreadable += bad[0].count
        self._verdict.predictions.unreadable += bad[1].count

    async def _all(self, blocks: Ahead[FeatureBlock], answers: Ahead[AnswerRows]) -> None:
        """Compute to the end of the stretch, and compare what comes by on the way."""
        while True:
            await self._compare(blocks, answers)
            if self._against.held.upto >= self._span.stop:
                return
            await self._compute()

    async def _compare(self, blocks: Ahead[FeatureBlock], answers: Ahead[AnswerRows]) -> None:
        """Everything recorded that is next and computed; the features always go first."""
        start, stop, held = self._span.start, self._span.stop, self._against.held
        while (head := await blocks.peek()) is not None and head.offsets[0] < stop:
            definition, _ = await self._past.definitions.definition(head.rows.pipeline_digest)
            if self._definition is None:
                await self._begin(definition, start)
            elif definition.key != self._definition.key:
                switch = max(int(head.offsets[0]), start)
                await self._compare_answers(answers, min(switch, held.upto))
                await self._begin(definition, switch)
            if head.offsets[0] >= held.upto:
                break
            taken = await blocks.take(start, held.upto)
            if taken is not None:
                await self._against.block(taken.rows)
        if self._definition is None:
            given = self._past.definitions.pipeline.digest
            await self._begin((await self._past.definitions.definition(given))[0], start)
        await self._compare_answers(answers, held.upto)

    async def _compare_answers(self, answers: Ahead[AnswerRows], upto: int) -> None:
        while (head := await answers.peek()) is not None and head.offsets[0] < upto:
            taken = await answers.take(self._span.start, upto)
            if taken is not None:
                await self._against.answers(taken)

    async def _rest(self, blocks: Ahead[FeatureBlock], answers: Ahead[AnswerRows]) -> None:
        """What was published again behind later rows, as far as that is looked for."""
        stop = self._span.stop
        recorded: tuple[tuple[What, Ahead[FeatureBlock] | Ahead[AnswerRows]], ...] = (
            ("features", blocks), ("predictions", answers),
        )  # fmt: skip
        for what, ahead in recorded:
            while (head := await ahead.peek()) is not None:
                if head.offsets[0] >= stop:
                    self._against.beyond(what)
                if head.offsets[0] >= stop + KEPT_ROWS or self._against.complete:
                    break
                if head.offsets[0] >= stop:
                    await ahead.skip()
                else:
                    # Rows of another definition are computed anew before they are compared.
                    await self._all(blocks, answers)

    async def _begin(self, definition: Definition, start: int) -> None:
        """Compute from `start` on by this definition, from the state before it."""
        known = self._first_read is not None and self._first_read[0] == definition.key
        first = self._first_read[1] if known and self._first_read else None
        await self._end()
        past, topics = self._past, self._past.definitions.topics
        stage = ReplayedStage(
            definition.agent, topics.telemetry.partitions, past.log, past.snapshots
        )
        state, begun = await state_before(
            stage, self._topic, self._span.partition, start, first_read=first, warm_up=past.warm_up
        )
        self._facts.begun.append(begun)
        self._definition = definition
        dropped = self._against.held.drop_from(start)
        self._verdict.features.computed -= dropped
        self._verdict.predictions.computed -= dropped
        self._log = past.log.read_range(
            self._topic, self._span.partition, begun.position, self._span.stop
        )
        self._computing = features_anew(definition.agent, state, self._log, start=start)

    async def _end(self) -> None:
        """Let go of the log that is being folded."""
        if self._log is not None:
            async with closing(self._log):
                self._log = None

    async def _compute(self) -> None:
        """One more batch; at the log's end, everything is computed."""
        held = self._against.held
        if self._computing is None:
            raise AssertionError("unreachable")
        before = held.upto
        done = await anext(self._computing, None)
        upto = self._span.stop if done is None else max(before, done.upto)
        blocks = [] if done is None else done.blocks
        if done is not None and done.upto > self._counted:
            self._facts.records += len(done.records.since(self._counted))
            self._counted = done.upto
        rows = sum(map(len, blocks))
        self._verdict.features.computed += rows
        self._verdict.predictions.computed += rows
        await self._against.let_go(held.add(blocks, upto))
        self._said(upto - before)

    async def _time_of_the_first(self) -> int:
        """Broker time of the stretch's first record, milliseconds; 0 where there is none."""
        log = self._past.log.read_range(
            self._topic, self._span.partition, self._span.start, self._span.stop
        )
        async with closing(log):
            first = await anext(log, None)
        return 0 if first is None else int(first.log_times_ms[0])

    async def _since(self, topic: str, since_ms: int) -> AsyncIterator[RecordBatch]:
        """Records of our partition of another topic, from a broker time to its end."""
        start = await self._past.log.offset_at(topic, self._span.partition, max(0, since_ms))
        return self._past.log.read_range(topic, self._span.partition, start, _END)

    async def _looked_up_first_read(self) -> tuple[str, int] | None:
        """What the stage read first and by which definition, where the features topic still tells.

        Its first row is that of the first event ever read: what lies before it was in no state.
        """
        topic, partition = self._past.definitions.topics.features.name, self._span.partition
        begin, end = await self._past.log.log_range(topic, partition)
        if begin or not end:
            return None
        log = self._past.log.read_range(topic, partition, 0, end)
        async with closing(log):
            found = await Ahead(recorded_blocks(log, Unread()), self._topic).peek()
        if found is None:
            return None
        made, _ = await self._past.definitions.definition(found.rows.pipeline_digest)
        return made.key, int(found.offsets[0])
