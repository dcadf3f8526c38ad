"""Recorded rows of one partition held against those computed anew; the verdict is told of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from headrace.schemas.batch import I64
from headrace.schemas.block import FeatureBlock
from headrace.schemas.errors import Source
from headrace.streams.replay.definitions import Candidate, Definitions
from headrace.streams.replay.difference import Difference, numbers_differ, texts_differ
from headrace.streams.replay.held import Held, Met, Row, What
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.recorded import Answer, Answers
from headrace.streams.replay.scoring import compare_answers, score_block
from headrace.streams.replay.verdict import Tally, Verdict


class Against:
    """What was served of one stretch, compared as it comes by.

    Args:
        definitions: Pipeline files and models.
        verdict: Told of everything.
        span: The stretch.
    """

    def __init__(self, definitions: Definitions, verdict: Verdict, span: Span) -> None:
        self.held = Held(floor=span.start, upto=span.start)
        self._definitions, self._verdict, self._span = definitions, verdict, span
        self._topic = definitions.topics.enriched.name
        self._highest: dict[str, int] = {"features": -1, "predictions": -1}
        self._left: dict[str, list[I64]] = {"features": [], "predictions": []}
        self._last_model: str | None = None

    async def block(self, block: FeatureBlock) -> None:
        """Compare a recorded block; all of its rows are in the stretch and computed."""
        verdict, tally = self._verdict, self._verdict.features
        rows = len(block)
        self._highest["features"] = max(self._highest["features"], int(block.offsets[-1]))
        verdict.recorded_numerics[block.numerics] = (
            verdict.recorded_numerics.get(block.numerics, 0) + rows
        )
        _, known = await self._definitions.definition(block.pipeline_digest)
        if not known:
            unknown = verdict.unknown_pipelines
            unknown[block.pipeline_digest] = unknown.get(block.pipeline_digest, 0) + rows
        met, unmet = self.held.meet(block.offsets, "features")
        self._unmet(tally, block.offsets[unmet])
        for one in met:
            one.row.made_by = block.pipeline_digest
            tally.compared += len(one.rows)
            tally.again += one.again
            if block.rebuilt:
                verdict.rebuilt += len(one.rows)
            else:
                tally.differences.add(features_differ(block, one))

    async def answers(self, stretch: Answers) -> None:
        """Compare recorded predictions; all of them are of the stretch and computed."""
        verdict, tally = self._verdict, self._verdict.predictions
        self._highest["predictions"] = max(self._highest["predictions"], int(stretch.offsets[-1]))
        for what, found in (
            (verdict.models, Counter(a.model.digest for a in stretch.rows.answers)),
            (verdict.tiers, Counter(a.tier for a in stretch.rows.answers)),
        ):
            for name, count in found.items():
                what[name] = what.get(name, 0) + count
        met, unmet = self.held.meet(stretch.offsets, "predictions")
        self._unmet(tally, stretch.offsets[unmet])
        for one in met:
            tally.again += one.again
            await self._met_answers(one, [stretch.rows.answers[row] for row in one.rows.tolist()])

    async def let_go(self, rows: Sequence[Row]) -> None:
        """Note what was never met; an event that the model refuses has no prediction to meet."""
        for row in rows:
            block = row.block
            for what, seen in (("features", row.features), ("predictions", row.predictions)):
                unmet = np.flatnonzero(~seen)
                if what == "predictions" and len(unmet):
                    unmet = await self._without_refused(row, unmet)
                if len(unmet):
                    self._left[what].append(block.offsets[unmet])

    def beyond(self, what: What) -> None:
        """Note a recorded row behind the stretch: what is not met of it is missing, not pending."""
        self._highest[what] = max(self._highest[what], self._span.stop - 1)

    def close(self) -> None:
        """Say what is missing, now that it is known how far each topic had come."""
        for what, tally in (
            ("features", self._verdict.features),
            ("predictions", self._verdict.predictions),
        ):
            left = np.concatenate([np.empty(0, np.int64), *self._left[what]])
            late = left > self._highest[what]
            tally.pending += int(late.sum())
            gone = left[~late]
            tally.missing += len(gone)
            if len(gone):
                tally.first_missing = tally.first_missing or self._at(int(gone.min()))

    @property
    def complete(self) -> bool:
        """Everything computed so far was met."""
        return not any(self._left.values()) and self.held.all_met()

    async def _met_answers(self, one: Met, answers: Sequence[Answer]) -> None:
        verdict, tally = self._verdict, self._verdict.predictions
        places = one.places.tolist()
        for digest in dict.fromkeys(answer.model.digest for answer in answers):
            chosen = [
                k for k, a in enumerate(answers)
                if a.model.digest == digest and "rebuilt" not in a.flags
            ]  # fmt: skip
            candidates = await self._fitting(digest, one.row)
            if not candidates:
                unknown = verdict.unknown_models
                unknown[digest] = unknown.get(digest, 0) + len(chosen)
                continue
            self._last_model = digest
            verdict.serving_numerics[digest] = sorted(await self._definitions.numerics(digest))
            found = await compare_answers(
                candidates, one.row.block, [places[k] for k in chosen], [answers[k] for k in chosen]
            )
            tally.compared += len(chosen)
            tally.differences.add(found.differences)
            verdict.tolerated += len(found.tolerated)

    async def _fitting(self, digest: str, row: Row) -> list[Candidate]:
        columns = set(row.block.columns)
        found = await self._definitions.candidates(digest, row.made_by)
        return [one for one in found if columns.issuperset(one.pipeline.model_inputs)]

    async def _without_refused(self, row: Row, unmet: I64) -> I64:
        """Rows without a prediction that the model of their neighbours does not refuse."""
        digest = self._last_model or (await self._definitions.served())[0].model_digest
        candidates = await self._fitting(digest, row)
        if not candidates:
            return unmet
        found = await score_block(candidates[0], row.block, unmet.tolist())
        self._verdict.refused += len(found.failed)
        return unmet[found.served]

    def _unmet(self, tally: Tally, offsets: I64) -> None:
        """Recorded rows of which nothing was computed, or which came again too far behind."""
        behind = offsets < self.held.floor
        tally.uncompared += int(behind.sum())
        strange = offsets[~behind]
        tally.unexpected += len(strange)
        if len(strange):
            tally.first_unexpected = tally.first_unexpected or self._at(int(strange[0]))

    def _at(self, offset: int) -> str:
        return str(Source(self._topic, self._span.partition, offset))


def features_differ(recorded: FeatureBlock, one: Met) -> list[Difference]:
    """In what the rows of a recorded block differ from those computed.

    Both blocks name their columns: those that only one of them has are one difference.
    """
    computed, rows, places = one.row.block, one.rows, one.places
    offsets = recorded.offsets[rows]
    place = f"{recorded.topic}[{recorded.partition}]@"
    sources = [f"{place}{offset}" for offset in offsets.tolist()]
    ours, theirs = recorded.entities, computed.entities
    texts: dict[str, tuple[list[object], list[object]]] = {
        "event_time_ms": (
            recorded.event_times_ms[rows].tolist(), computed.event_times_ms[places].tolist()
        ),
        "log_time_ms": (
            recorded.log_times_ms[rows].tolist(), computed.log_times_ms[places].tolist()
        ),
        "event_id": (
            [recorded.event_ids[row] for row in rows.tolist()],
            [computed.event_ids[row] for row in places.tolist()],
        ),
        "entity": (
            [ours.names[code] for code in ours.codes[rows].tolist()],
            [theirs.names[code] for code in theirs.codes[places].tolist()],
        ),
    }  # fmt: skip
    found = [
        d for name, pair in texts.items() for d in texts_differ("features", name, *pair, sources)
    ]
    for which in ("columns", "metric_names"):
        pair = [" ".join(getattr(block, which)) for block in (recorded, computed)]
        found += texts_differ("features", which, pair[:1], pair[1:], sources[:1])
    for names, their_names, values, their_values in (
        (recorded.columns, computed.columns, recorded.features, computed.features),
        (recorded.metric_names, computed.metric_names, recorded.metrics, computed.metrics),
    ):
        common = [name for name in names if name in their_names]
        left = values[rows][:, [names.index(name) for name in common]]
        right = their_values[places][:, [their_names.index(name) for name in common]]
        found += numbers_differ(
            common, left, right, topic=recorded.topic, partition=recorded.partition, offsets=offsets
        )
    return found
