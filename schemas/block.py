"""The feature block: one telemetry batch's features as columns, the record of the features topic.

Layout: ``HRB1``, uint32 length of the header, the header (JSON), then the columns, little-endian,
each at a multiple of 8 bytes from the block's start. The header names every column with its dtype,
shape and place, so a reader needs nothing but the block.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64

I32 = NDArray[np.int32]
_MAGIC = b"HRB1"
_HEAD = struct.Struct("<4sI")


@dataclass(slots=True)
class Labels:
    """A dictionary-encoded text column.

    Attributes:
        names: The distinct texts.
        codes: int32 (N,), index into `names`.
    """

    names: list[str]
    codes: I32

    @classmethod
    def encode(cls, texts: list[str]) -> Labels:
        """`texts` as distinct names and codes, names in order of first appearance.

        Example:
            >>> Labels.encode(["b", "a", "b"])
            Labels(names=['b', 'a'], codes=array([0, 1, 0], dtype=int32))
        """
        index = {name: code for code, name in enumerate(dict.fromkeys(texts))}
        codes = np.fromiter(map(index.__getitem__, texts), np.int32, len(texts))
        return cls(list(index), codes)

    def slice(self, start: int, stop: int) -> Labels:
        """Rows `start` to `stop`, with only the names they use."""
        used, codes = np.unique(self.codes[start:stop], return_inverse=True)
        return Labels([self.names[u] for u in used.tolist()], codes.astype(np.int32))


@dataclass(slots=True)
class FeatureBlock:
    """Features of N events of one source partition, in log order.

    A block of no rows says that ENRICH has read its partition to the end and nothing came for a
    while: its own broker time is what a reader learns, so that windows close on an idle stream.

    Attributes:
        pipeline: Pipeline name.
        pipeline_digest: Digest of the pipeline file.
        numerics: Numerics fingerprint of the worker that computed them.
        topic: Source topic.
        partition: Source partition.
        columns: F feature column names.
        offsets: int64 (N,), source offsets, ascending.
        event_times_ms: int64 (N,), milliseconds since 1970.
        log_times_ms: int64 (N,), broker time of the source records.
        features: float64 (N, F); NaN is missing.
        entities: Entity of each row.
        event_ids: N event ids as JSON string insides (`fragments.strings`).
        attributes: Attribute name to its labels.
        metric_names: S metrics carried for summaries.
        metrics: float64 (N, S).
        rebuilt: The state behind these features came from a truncated history.
        traces: W3C traceparent of the few rows whose trace goes on, by row.
    """

    pipeline: str
    pipeline_digest: str
    numerics: str
    topic: str
    partition: int
    columns: tuple[str, ...]
    offsets: I64
    event_times_ms: I64
    log_times_ms: I64
    features: F64
    entities: Labels
    event_ids: list[bytes]
    attributes: dict[str, Labels] = field(default_factory=dict)
    metric_names: tuple[str, ...] = ()
    metrics: F64 = field(default_factory=lambda: np.empty((0, 0)))
    rebuilt: bool = False
    traces: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)

    def slice(self, start: int, stop: int) -> FeatureBlock:
        """Rows `start` to `stop` as a block of their own."""
        return FeatureBlock(
            self.pipeline,
            self.pipeline_digest,
            self.numerics,
            self.topic,
            self.partition,
            self.columns,
            self.offsets[start:stop],
            self.event_times_ms[start:stop],
            self.log_times_ms[start:stop],
            self.features[start:stop],
            self.entities.slice(start, stop),
            self.event_ids[start:stop],
            {name: labels.slice(start, stop) for name, labels in self.attributes.items()},
            self.metric_names,
            self.metrics[start:stop],
            self.rebuilt,
            {row - start: text for row, text in self.traces.items() if start <= row < stop},
        )

    def encode(self) -> bytes:
        """The block as bytes."""
        columns: dict[str, NDArray[np.generic]] = {
            "offsets": self.offsets,
            "event_times_ms": self.event_times_ms,
            "log_times_ms": self.log_times_ms,
            "features": self.features,
            "metrics": self.metrics,
            "entities": self.entities.codes,
            "event_ids": np.frombuffer(b'","'.join(self.event_ids), np.uint8),
        }
        columns |= {f"attribute.{name}": labels.codes for name, labels in self.attributes.items()}
        header: dict[str, Any] = {
            "pipeline": self.pipeline,
            "pipeline_digest": self.pipeline_digest,
            "numerics": self.numerics,
            "topic": self.topic,
            "partition": self.partition,
            "columns": self.columns,
            "metric_names": self.metric_names,
            "rebuilt": self.rebuilt,
            "entities": self.entities.names,
            "attributes": {name: labels.names for name, labels in self.attributes.items()},
            "layout": {name: [a.dtype.str, a.shape] for name, a in columns.items()},
        }
        if self.traces:
            header["traces"] = list(self.traces.items())
        head = orjson.dumps(header)
        parts = [_HEAD.pack(_MAGIC, len(head)), head, _padding(_HEAD.size + len(head))]
        for column in columns.values():
            parts += [np.ascontiguousarray(column).tobytes(), _padding(column.nbytes)]
        return b"".join(parts)

    @classmethod
    def decode(cls, value: bytes) -> FeatureBlock:
        """A block from its bytes; columns are read-only views into them.

        Raises:
            ValueError: these bytes are no feature block.
        """
        header, columns = _read(value)
        ids = columns["event_ids"].tobytes()
        return cls(
            header["pipeline"],
            header["pipeline_digest"],
            header["numerics"],
            header["topic"],
            header["partition"],
            tuple(header["columns"]),
            columns["offsets"],
            columns["event_times_ms"],
            columns["log_times_ms"],
            columns["features"],
            Labels(header["entities"], columns["entities"]),
            ids.split(b'","') if len(columns["offsets"]) else [],
            {
                name: Labels(names, columns[f"attribute.{name}"])
                for name, names in header["attributes"].items()
            },
            tuple(header["metric_names"]),
            columns["metrics"],
            header["rebuilt"],
            dict(header.get("traces", ())),
        )


def _read(value: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and columns of a block; every length is checked against the bytes that are there."""
    try:
        magic, size = _HEAD.unpack_from(value)
        if magic != _MAGIC:
            raise ValueError("no feature block: it does not begin with HRB1")
        header = orjson.loads(memoryview(value)[_HEAD.size : _HEAD.size + size])
        columns: dict[str, NDArray[Any]] = {}
        at = _HEAD.size + size
        for name, (dtype, shape) in header["layout"].items():
            at += -at % 8
            count = math.prod(shape)
            columns[name] = np.frombuffer(value, dtype, count, at).reshape(shape)
            at += columns[name].nbytes
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no feature block: {error}") from error
    return header, columns


def _padding(size: int) -> bytes:
    return b"\0" * (-size % 8)


def encode_blocks(block: FeatureBlock, limit_bytes: int) -> Iterator[bytes]:
    """The block's bytes, in as few blocks as keep each at or below `limit_bytes`.

    A block of one row is never split, however large.
    """
    value = block.encode()
    if len(value) <= limit_bytes or len(block) == 1:
        yield value
        return
    middle = len(block) // 2
    yield from encode_blocks(block.slice(0, middle), limit_bytes)
    yield from encode_blocks(block.slice(middle, len(block)), limit_bytes)
