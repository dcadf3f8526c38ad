"""The input contract of a pipeline, from the producer's side."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from headrace.enrichers.decode import Decoder
from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.errors import EventRefusedError, PipelineFileError
from headrace.schemas.pipeline import Pipeline

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class Contract:
    """Judges events as the pipeline will, by the pipeline's own decoder.

    Args:
        pipeline: Whose input.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.input = pipeline.input
        self._decode = Decoder(msgspec.structs.replace(pipeline.input, key="any"))

    def keys(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers],
        now_ms: float,
    ) -> list[bytes]:
        """The record key of each event: its entity.

        Args:
            keys: N keys the caller gave; None takes the entity.
            values: N record values.
            headers: N header lists.
            now_ms: Wall clock, milliseconds since 1970; stands in for the broker's.

        Raises:
            EventRefusedError: poison; the first event that would be dead.
        """
        rows = len(values)
        decoded = self._decode(_batch(keys, values, headers, now_ms))
        if decoded.dead:
            row = min(decoded.dead)
            raise EventRefusedError(decoded.dead[row], row=row, rows=rows)
        entities = [entity.encode() for entity in decoded.events.entities]
        if self.input.key == "any":
            return [key or entity for key, entity in zip(keys, entities, strict=True)]
        for row, (key, entity) in enumerate(zip(keys, entities, strict=True)):
            if key not in (None, entity):
                raise EventRefusedError("key.mismatch", row=row, rows=rows)
        return entities

    def refused(self, values: Sequence[bytes], now_ms: float) -> dict[int, str]:
        """The code of each event that would be dead, by its row.

        Args:
            values: N record values.
            now_ms: Wall clock, milliseconds since 1970; stands in for the broker's.
        """
        none: list[Headers] = [()] * len(values)
        return dict(self._decode(_batch([None] * len(values), values, none, now_ms)).dead)


def _batch(
    keys: Sequence[bytes | None], values: Sequence[bytes], headers: Sequence[Headers], now_ms: float
) -> RecordBatch:
    rows = len(values)
    now = np.full(rows, int(now_ms), np.int64)
    return RecordBatch("", 0, np.arange(rows), now, list(keys), list(values), list(headers))


class Composer:
    """Writes events in the form a pipeline's ``[input]`` reads.

    Args:
        pipeline: Whose input; where its paths are the default ones, this is `schemas.event.Event`.

    Raises:
        PipelineFileError: the input is CloudEvents or has no path for raw content that is given.
            Fatal.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        if pipeline.input.format != "json":
            raise PipelineFileError(
                f"pipeline {pipeline.name!r} takes {pipeline.input.format}, expected json; "
                f"send its records whole with send()"
            )
        self._input = pipeline.input
        self._encode = msgspec.json.Encoder().encode

    def value(
        self,
        entity: str,
        metrics: Mapping[str, float],
        *,
        time_s: float,
        event_id: str | None,
        seq: int | None,
        attributes: Mapping[str, str],
        payload: Any,
    ) -> bytes:
        """One event as a record value.

        Args:
            entity: Device id.
            metrics: Metric name to number; names the pipeline does not know are kept as they are.
            time_s: Device time, seconds since 1970.
            event_id: None draws a random one.
            seq: Counter per device, left out where the input has no path for it.
            attributes: Attribute name to label.
            payload: Raw content, in the input's first raw field.
        """
        spec, event = self._input, dict[str, Any]()
        _put(event, spec.entity, entity)
        if spec.id:
            _put(event, spec.id, event_id or secrets.token_hex(12))
        _put(event, spec.time, self._time(time_s))
        if seq is not None and spec.sequence:
            _put(event, spec.sequence, seq)
        for name, number in metrics.items():
            known = name in spec.metrics
            _put(event, spec.metric_path(name) if known else f"metrics.{name}", number)
        for name, label in attributes.items():
            _put(event, spec.attribute_path(name) if name in spec.attributes else name, label)
        if payload is not None:
            if not spec.raw:
                raise PipelineFileError(
                    "the pipeline's [input] names no raw field, expected one for raw content; "
                    'add raw = ["payload"]'
                )
            event[spec.raw[0]] = payload
        return self._encode(event)

    def _time(self, time_s: float) -> str | int:
        unit = self._input.time_unit
        if unit == "iso":
            text = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
            return text.replace("+00:00", "Z")
        return round(time_s * _PER_SECOND[unit])


def _put(event: dict[str, Any], path: str, value: object) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        event = event.setdefault(name, {})
    event[leaf] = value
