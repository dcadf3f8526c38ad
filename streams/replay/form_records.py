"""Tables of dead letters, and of records of any other topic."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.schemas.batch import RecordBatch
from headrace.schemas.deadletter import parse_source, split_headers
from headrace.streams.arrow import arrow
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.replay.forms import Columns, Form, stamp, stamps

_OURS = ("code", "stage", "attempt", "pipeline", "model", "source")


def deadletter_form() -> Form:
    """The table of dead letters: why, where and when; of the content only its size.

    The time of a row is that of the original record at the broker. A record whose headers are not
    those of a dead letter is unreadable.
    """
    pa = arrow()
    text, whole = pa.string(), pa.int64()

    def rows(raw: RawBatch) -> Columns:
        records = raw.records()
        found, kept, bad = [], [], []
        for row in range(len(records)):
            try:
                found.append(_letter(records, row))
                kept.append(row)
            except (KeyError, ValueError):
                bad.append(row)
        columns = [stamps(np.array([letter["first_seen"] for letter in found], np.int64))]
        for name, kind in fields[1:]:
            columns.append(pa.array([letter[name] for letter in found], kind))
        return Columns(columns, np.array(kept, np.int64) if bad else None, bad)

    fields = [
        ("first_seen", stamp()),
        *((name, whole if name == "attempt" else text) for name in _OURS),
        ("source_partition", whole),
        ("source_offset", whole),
        ("bytes", whole),
    ]
    return Form(
        "deadletter", fields, rows, time="first_seen", labels=("code", "stage", "pipeline", "model")
    )


def _letter(records: RecordBatch, row: int) -> dict[str, Any]:
    _, ours = split_headers(records.headers[row] if records.headers else ())
    found: dict[str, Any] = {
        name: ours[name].decode() if name != "model" or name in ours else None for name in _OURS
    }
    source = parse_source(found["source"])
    return found | {
        "attempt": int(found["attempt"]),
        "first_seen": int(ours["first_seen"]),
        "source_partition": source.partition,
        "source_offset": source.offset,
        "bytes": len(records.values[row] or b""),
    }


def records_form() -> Form:
    """The table of a topic whose records are not known: coordinates, and the records as read."""

    def rows(raw: RawBatch) -> Columns:
        return Columns([])

    return Form("records", [], rows, raw=True)
