"""Rows of several feature blocks as one set of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.schemas.block import FeatureBlock, Labels

T = TypeVar("T", bound=np.generic)


@dataclass(slots=True)
class FeatureRows:
    """N rows of one or more blocks, in the blocks' order.

    Attributes:
        blocks: The blocks, none empty; each row's coordinates are its block's.
        starts: int64 (B + 1,), where each block's rows begin here, and N.
        offsets: int64 (N,), source offsets.
        event_times_ms: int64 (N,), milliseconds since 1970.
        log_times_ms: int64 (N,), broker time of the source records.
        entities: Entity of each row.
        features: float64 (N, F), the columns asked for.
        metrics: float64 (N, S), the metrics asked for; NaN where a block carries none.
        attributes: Labels of the attributes asked for.
        traces: W3C traceparent of the rows whose trace goes on.
    """

    blocks: list[FeatureBlock]
    starts: I64
    offsets: I64
    event_times_ms: I64
    log_times_ms: I64
    entities: Labels
    features: F64
    metrics: F64
    attributes: list[Labels]
    traces: dict[int, str]

    def __len__(self) -> int:
        return len(self.offsets)

    def one(self, row: int) -> FeatureBlock:
        """One row as a block of its own."""
        block = int(np.searchsorted(self.starts, row, side="right")) - 1
        at = row - int(self.starts[block])
        return self.blocks[block].slice(at, at + 1)


def join_blocks(
    blocks: Sequence[FeatureBlock],
    *,
    columns: Sequence[str],
    metrics: Sequence[str],
    attributes: Sequence[str],
) -> FeatureRows:
    """Blocks as one set of columns; a single block's arrays are not copied.

    Args:
        blocks: At least one, none empty, each with all of `columns`.
        columns: Feature columns wanted, in this order.
        metrics: Metrics wanted; NaN where a block has not got one.
        attributes: Attributes wanted; the empty label where a block has not got one.
    """
    starts = np.zeros(len(blocks) + 1, np.int64)
    np.cumsum([len(block) for block in blocks], out=starts[1:])
    return FeatureRows(
        list(blocks),
        starts,
        _joined([block.offsets for block in blocks]),
        _joined([block.event_times_ms for block in blocks]),
        _joined([block.log_times_ms for block in blocks]),
        join_labels([block.entities for block in blocks]),
        _joined([_features(block, columns) for block in blocks]),
        _joined([_metrics(block, metrics) for block in blocks]),
        [join_labels([_attribute(block, name) for block in blocks]) for name in attributes],
        {
            start + row: text
            for block, start in zip(blocks, starts.tolist(), strict=False)
            for row, text in block.traces.items()
        },
    )


def join_labels(parts: Sequence[Labels]) -> Labels:
    """Label columns one after another, each name once, in order of first appearance.

    Example:
        >>> join_labels([Labels.encode(["b", "a"]), Labels.encode(["a", "c"])])
        Labels(names=['b', 'a', 'c'], codes=array([0, 1, 1, 2], dtype=int32))
    """
    if len(parts) == 1:
        return parts[0]
    index: dict[str, int] = {}
    codes = []
    for part in parts:
        place = [index.setdefault(name, len(index)) for name in part.names]
        codes.append(np.array(place, np.int32)[part.codes])
    return Labels(list(index), np.concatenate(codes))


def _features(block: FeatureBlock, columns: Sequence[str]) -> F64:
    if block.columns == tuple(columns):
        return block.features
    place = {name: k for k, name in enumerate(block.columns)}
    return block.features[:, [place[name] for name in columns]]


def _metrics(block: FeatureBlock, metrics: Sequence[str]) -> F64:
    if block.metric_names == tuple(metrics):
        return block.metrics
    found = np.full((len(block), len(metrics)), np.nan)
    for k, name in enumerate(metrics):
        if name in block.metric_names:
            found[:, k] = block.metrics[:, block.metric_names.index(name)]
    return found


def _attribute(block: FeatureBlock, name: str) -> Labels:
    missing = Labels([""], np.zeros(len(block), np.int32))
    return block.attributes.get(name, missing)


def _joined(parts: list[NDArray[T]]) -> NDArray[T]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
