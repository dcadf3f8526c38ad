"""Records that leave the path: dead letters and late events, traced to where they were read."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.deadletter import (
    TOO_LATE,
    Tried,
    deadletter_headers,
    deadletter_value,
    kept_headers,
    kept_key,
    tried,
)
from headrace.schemas.errors import Source
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Output
from headrace.schemas.rekeyed import origin, own_headers
from headrace.schemas.topics import PipelineTopics


class Refusals:
    """What a stage writes of records that it cannot use, to the source's partition number.

    Original bytes, key and headers, then ours. The coordinates are those at which the producer's
    record came in, also behind the intake stage.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.
        stage: The stage that refuses.
        model: Digest of the model that it serves; None where it serves none.
    """

    def __init__(
        self, pipeline: Pipeline, topics: PipelineTopics, stage: str, *, model: str | None = None
    ) -> None:
        self._pipeline, self._digest = pipeline.name, pipeline.digest
        self._topics, self._stage, self._model = topics, stage, model
        self._behind_intake = pipeline.input.rekey and stage != "intake"

    def dead(self, records: RecordBatch, dead: Mapping[int, str]) -> Output:
        """Dead letters of these rows, each with its code."""
        rows = sorted(dead)
        keys, values, headers = [], [], []
        for row in rows:
            value, value_cut = deadletter_value(records.values[row])
            key, key_cut = kept_key(records.keys[row])
            keys.append(key)
            values.append(value)
            headers.append([*self._traced(records, row, dead[row]), *value_cut, *key_cut])
        return Output(self._topics.deadletter.name, records.partition, keys, values, headers)

    def late(self, records: RecordBatch, late: Mapping[int, str]) -> Output:
        """Late events of these rows, keyed by entity."""
        keys = [entity.encode() for entity in late.values()]
        values = [records.values[row] or b"" for row in late]
        headers = [self._traced(records, row, TOO_LATE) for row in late]
        return Output(self._topics.late.name, records.partition, keys, values, headers)

    def _traced(self, records: RecordBatch, row: int, code: str) -> list[tuple[str, bytes | None]]:
        """A record's headers, and ours: why and where it left the path."""
        read: Headers = () if records.headers is None else records.headers[row]
        before = tried(read, int(records.log_times_ms[row]))
        source = origin(read) if self._behind_intake else None
        kept, cut = kept_headers(own_headers(read) if self._behind_intake else read)
        return [*kept, *self.headers(code, source or records.source(row), before), *cut]

    def headers(self, code: str, source: Source, history: Tried) -> list[tuple[str, bytes]]:
        """Why and where something left the path here.

        Args:
            code: Reason.
            source: The record it was.
            history: How often it was tried, this time too, and when it was first seen.
        """
        return deadletter_headers(
            code,
            source,
            stage=self._stage,
            pipeline=self._pipeline,
            pipeline_digest=self._digest,
            first_seen_ms=history.first_seen_ms,
            attempt=history.attempt,
            model=self._model,
        )
