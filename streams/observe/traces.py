"""Which events of a batch carry a trace on, and the span that tells of the batch.

The batch's span joins the trace of its first sampled event and links to the others: there is no
span for each event. An event's trace id never changes on its way; its parent id becomes the batch's
span where that span is in its trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec
import numpy as np

from headrace.schemas.batch import I64, Headers
from headrace.schemas.errors import Source
from headrace.schemas.timed import Timed
from headrace.streams.client.traceparent import TRACEPARENT, is_sampled

MOST_TRACED = 32
"""Sampled events of one batch whose trace goes on; those behind them are served without it."""

ODD = b"13579bdf"
"""Last digits of the flags of a sampled trace."""

Traces = dict[int, str]
"""Traceparent by row."""


class SpanRecord(msgspec.Struct, frozen=True, array_like=True):
    """One span, as a worker tells its supervisor.

    Attributes:
        name: What was done.
        traceparent: Trace and span id, W3C form.
        parent: Traceparent of the parent; empty where the span begins its trace.
        links: Traceparents of further events of the batch.
        begin_ns: Wall clock, nanoseconds since 1970.
        end_ns: The same.
        attributes: Names of `attributes.ALLOWED` only.
    """

    name: str
    traceparent: str
    parent: str
    links: list[str]
    begin_ns: int
    end_ns: int
    attributes: dict[str, str | int | float]


def traced_rows(headers: Sequence[Headers] | None, offsets: I64, kept: I64) -> Traces:
    """The first `MOST_TRACED` sampled events that came through.

    Args:
        headers: N header lists of the records, None where no record has any: nothing is looked at.
        offsets: int64 (N,), offsets of the records, ascending.
        kept: int64 (M,), offsets of those that came through, ascending.

    Returns:
        Traceparent by row of `kept`.

    Cost: until enough are found, about 0.03 us for each record without headers, 0.2 us for each
        that is not sampled and 3 us for each that is.
    """
    found: Traces = {}
    if headers is None or not len(kept):
        return found
    for row, given in enumerate(headers):
        if not given or (text := _traceparent(given)) is None:
            continue
        at = int(np.searchsorted(kept, offsets[row]))
        if at < len(kept) and kept[at] == offsets[row]:
            found[at] = text
            if len(found) == MOST_TRACED:
                break
    return found


def _traceparent(headers: Headers) -> str | None:
    for name, value in headers:
        if name == TRACEPARENT and value is not None and len(value) == 55:
            # First, as most are not sampled: decoding and matching cost more than all else.
            if value[-1] not in ODD:
                return None
            text = value.decode("latin-1")
            return text if is_sampled(text) else None
    return None


def span_id(stage: str, traceparent: str, source: Source) -> str:
    """16 hex digits of the span of the batch whose first traced event this is: the same again.

    Example:
        >>> parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        >>> len(span_id("enrich", parent, Source("t", 0, 7)))
        16
    """
    facts = f"{stage} {traceparent} {source}".encode()
    return hashlib.blake2b(facts, digest_size=8).hexdigest()


def going_on(stage: str, timed: Timed) -> Traces:
    """The batch's traces as its outputs carry them: the first one's parent is the batch's span."""
    if not timed.traces:
        return {}
    return {**timed.traces, min(timed.traces): batch_span(stage, timed)}


def batch_span(stage: str, timed: Timed) -> str:
    """Traceparent of the span of a batch that has traces."""
    first = min(timed.traces)
    text = timed.traces[first]
    return child_of(text, span_id(stage, text, timed.source(first)))


active: ContextVar[str] = ContextVar("active", default="")
"""Traceparent of the batch in hand, for log lines; empty where it has no trace."""


@contextmanager
def in_span(stage: str, timed: Timed | None) -> Iterator[None]:
    """Log lines of this task, and of those it begins, belong to the batch's span meanwhile."""
    if timed is None or not timed.traces:
        yield
        return
    token = active.set(batch_span(stage, timed))
    try:
        yield
    finally:
        active.reset(token)


def child_of(traceparent: str, span: str) -> str:
    """The same trace with another span.

    Example:
        >>> child_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00f067aa0ba902b7")
        '00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01'
    """
    return f"{traceparent[:36]}{span}{traceparent[52:]}"
