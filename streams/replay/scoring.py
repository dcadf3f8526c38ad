"""Predictions of recorded answers anew: by the model each of them names, every row through it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from headrace.schemas.block import FeatureBlock
from headrace.schemas.fragments import iso_times, numbers
from headrace.schemas.ids import prediction_ids
from headrace.schemas.protocols import Scores
from headrace.serving.scorer import confidence_of, high_of
from headrace.streams.agents.feature_rows import join_blocks
from headrace.streams.agents.isolate import Isolated, score_rows
from headrace.streams.replay.definitions import Candidate
from headrace.streams.replay.difference import F32, Difference, scores_differ, texts_differ
from headrace.streams.replay.recorded import Answer


@dataclass(slots=True)
class Compared:
    """What became of n answers of one model.

    Attributes:
        differences: Of all of them.
        tolerated: Sources of those with a number that differs within the model's tolerance.
    """

    differences: list[Difference]
    tolerated: set[str] = field(default_factory=set)


async def compare_answers(
    candidates: Sequence[Candidate], block: FeatureBlock, places: Sequence[int],
    answers: Sequence[Answer],
) -> Compared:  # fmt: skip
    """Hold recorded answers against the model they name.

    Where one model was served by several pipeline files, of other thresholds say, an answer may be
    by any of them: one that is equal by one of these is reproduced.

    Args:
        candidates: At least one, the likeliest first.
        block: Features computed anew.
        places: n rows of it.
        answers: The answers to these rows, all of one model.
    """
    best = await _compared(candidates[0], block, places, answers)
    for other in candidates[1:]:
        if not best.differences:
            break
        wrong = {one.source for one in best.differences}
        rows = [k for k, answer in enumerate(answers) if answer.source in wrong]
        tried = await _compared(other, block, [places[k] for k in rows], [answers[k] for k in rows])
        still = {one.source for one in tried.differences}
        best.differences = [one for one in best.differences if one.source in still]
        best.tolerated |= tried.tolerated
    return best


async def _compared(
    by: Candidate, block: FeatureBlock, places: Sequence[int], answers: Sequence[Answer]
) -> Compared:
    found = await score_block(by, block, places)
    sources = [answer.source for answer in answers]
    refused = [
        Difference(
            source=sources[row], stage="predictions", column="score",
            recorded=bytes(answers[row].score).decode(), computed=code,
        )
        for row, code in sorted(found.failed.items())
    ]  # fmt: skip
    if found.scores is None:
        return Compared(refused)
    rows = found.served.tolist()
    kept, at = [answers[row] for row in rows], [places[row] for row in rows]
    compared = compare_scores(by, found.scores, kept)
    compared.differences = [*refused, *_told(by, block, at, kept), *compared.differences]
    return compared


async def score_block(by: Candidate, block: FeatureBlock, places: Sequence[int]) -> Isolated:
    """What a model says of some rows of a block.

    Raises:
        KeyError: the block lacks a column of the model's inputs.
    """
    rows = join_blocks([block], columns=by.pipeline.model_inputs, metrics=(), attributes=())
    return await score_rows(by.scorer, rows.features[np.asarray(places, np.int64)])


def _told(
    by: Candidate, block: FeatureBlock, places: Sequence[int], answers: Sequence[Answer]
) -> list[Difference]:
    """Differences in what an answer says of its event."""
    at = np.asarray(places, np.int64)
    offsets, times, logged = block.offsets[at], block.event_times_ms[at], block.log_times_ms[at]
    ids = orjson.loads(b'["' + b'","'.join([block.event_ids[row] for row in places]) + b'"]')
    names, codes = block.entities.names, block.entities.codes[at].tolist()
    own = prediction_ids(by.pipeline.name, block.topic, block.partition, offsets)
    columns: dict[str, tuple[list[object], list[object]]] = {
        "id": ([a.id for a in answers], [text.decode() for text in own]),
        "event_id": ([a.event_id for a in answers], ids),
        "device_id": ([a.device_id for a in answers], [names[code] for code in codes]),
        "event_time": (
            [a.event_time for a in answers], [text.decode() for text in iso_times(times)]
        ),
        "feature_age_ms": ([a.feature_age_ms for a in answers], (logged - times).tolist()),
        "times_ms.device": ([a.times_ms.device for a in answers], times.tolist()),
        "times_ms.ingest": ([a.times_ms.ingest for a in answers], logged.tolist()),
    }  # fmt: skip
    sources = [answer.source for answer in answers]
    return [
        one
        for column, (ours, theirs) in columns.items()
        for one in texts_differ("predictions", column, ours, theirs, sources)
    ]


def compare_scores(by: Candidate, scores: Scores, answers: Sequence[Answer]) -> Compared:
    """Differences in what an answer says of its score.

    Numbers of the model are let go within its tolerance, each for itself. What follows from a score
    is held against the one that was served where that was let go.
    """
    sources = [answer.source for answer in answers]
    outputs = by.pipeline.model.outputs
    columns = {"score": scores.score}
    if outputs.confidence is not None:
        columns["confidence"] = scores.confidence
    columns |= {f"values.{name}": column for name, column in scores.values.items()}
    found: list[Difference] = []
    for name, column in columns.items():
        found += scores_differ(name, _numbers(answers, name), numbers(column), sources)
    close = {one for one in found if by.tolerance and _within(one, by.tolerance)}
    score = _served(scores, close, sources)
    labels = [
        (outputs.otherwise, outputs.label)[high]
        for high in high_of(score, outputs.threshold).tolist()
    ]
    kept = texts_differ("predictions", "label", [a.label for a in answers], labels, sources)
    kept += [one for one in found if one not in close]
    if outputs.confidence is None:
        column = confidence_of(score, outputs.threshold)
        ours = _numbers(answers, "confidence")
        kept += scores_differ("confidence", ours, numbers(column), sources)
    return Compared(kept, {one.source for one in close})


def _served(scores: Scores, close: Collection[Difference], sources: Sequence[str]) -> F32:
    """Scores as computed, float32 (N,); as recorded where those are close enough."""
    score = scores.score.copy()
    recorded = {one.source: float(one.recorded) for one in close if one.column == "score"}
    for row, source in enumerate(sources):
        if source in recorded:
            score[row] = recorded[source]
    return score


def _numbers(answers: Sequence[Answer], name: str) -> list[bytes]:
    return [_number(answer, name) for answer in answers]


def _number(answer: Answer, name: str) -> bytes:
    if name.startswith("values."):
        return bytes(answer.values.get(name.removeprefix("values."), b"null"))
    return bytes(answer.score if name == "score" else answer.confidence)


def _within(one: Difference, tolerance: float) -> bool:
    try:
        return abs(float(one.recorded) - float(one.computed)) <= tolerance
    except ValueError:  # a refused one is null
        return False
