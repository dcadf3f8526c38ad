"""State of one telemetry partition: rows of its entities, the watermark, the ids seen lately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.enrichers.dedupe import BYTES_PER_ID, PREFIX, NewIds, SeenIds
from headrace.enrichers.late import BEGINNING
from headrace.enrichers.layout import Layout
from headrace.enrichers.operators.clock import clock_classes
from headrace.enrichers.operators.frame import NEVER, Rows
from headrace.enrichers.rows import EntityRows, row_bytes
from headrace.schemas.batch import I64
from headrace.schemas.protocols import Fields, OnlineRows
from headrace.schemas.views import Column

_ROW = b"r"
_WATERMARK = b"bwatermark"


class EnrichState:
    """A fold over the log of one partition.

    As checkpoint fields: ``r<entity>`` its row's bytes, ``bwatermark`` 8 bytes little-endian
    milliseconds, ``bids/<segment>...`` remembered ids. `load` after `dump` is bit-exact.

    Args:
        layout: What a row holds.
        views: View name to its columns of the features.
        lateness_ms: Allowed lateness, milliseconds.
    """

    def __init__(self, layout: Layout, views: Mapping[str, slice], lateness_ms: int) -> None:
        self.rows = EntityRows(layout)
        self.seen = SeenIds(lateness_ms)
        self.watermark = BEGINNING
        self.newest = BEGINNING
        """Largest event time of any entity's row: above the watermark where a clock is ahead."""
        self._views = views
        self._entity_bytes = layout.bytes_per_entity

    @property
    def memory_bytes(self) -> int:
        """Memory this state takes, bytes, estimated: its entities and the ids it remembers.

        See `Layout.bytes_per_entity` and `dedupe.BYTES_PER_ID` for what one of each takes.
        """
        return len(self.rows) * self._entity_bytes + len(self.seen) * BYTES_PER_ID

    def clocks(self) -> dict[str, int]:
        """Devices by how their clocks differ; empty where no `clock_error` is computed."""
        return clock_classes(self.rows.all())

    def load(self, fields: Fields) -> None:
        """Become what `dump` once gave, in any order of fields.

        Raises:
            StateError: a row has another width than the layout. Fatal.
        """
        rows: list[tuple[str, bytes]] = []
        ids: list[tuple[bytes, bytes]] = []
        self.watermark = BEGINNING
        for field, content in fields:
            if field.startswith(_ROW):
                rows.append((field[1:].decode(), content))
            elif field.startswith(PREFIX):
                ids.append((field, content))
            elif field == _WATERMARK:
                self.watermark = int.from_bytes(content, "little", signed=True)
        self.rows.load(rows)
        self.seen.load(ids)
        self.newest = int(self.rows.all()["row_time"].max(initial=BEGINNING))

    def dump(self) -> Iterator[tuple[bytes, bytes]]:
        """The whole state as checkpoint fields."""
        yield _WATERMARK, _int64(self.watermark)
        yield from self.seen.dump()
        for entity, content in self.rows.dump():
            yield _ROW + entity.encode(), content

    def online(self) -> list[OnlineRows]:
        """The newest feature row of every entity, view by view."""
        rows = self.rows.all()
        have = np.flatnonzero(rows["row_time"] != NEVER)
        return online_rows(self.rows.entities, rows, have, self._views)


def online_rows(
    entities: Sequence[str], rows: Rows, chosen: I64, views: Mapping[str, slice]
) -> list[OnlineRows]:
    """Online rows of the chosen entities, one table for each view; none when none are chosen.

    Args:
        entities: E entities.
        rows: Structured (E,).
        chosen: int64 (n,), indices of those wanted.
        views: View name to its columns of the features.
    """
    if not len(chosen):
        return []
    names = [entities[place] for place in chosen.tolist()]
    times, offsets = rows["row_time"][chosen], rows["row_offset"][chosen]
    values = rows["row"][chosen]
    return [OnlineRows(v, names, times, offsets, values[:, part]) for v, part in views.items()]


def view_slices(columns: Sequence[Column]) -> dict[str, slice]:
    """Each view's columns of the features; columns of a view stand together."""
    places: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        places.setdefault(column.view, []).append(place)
    return {view: slice(found[0], found[-1] + 1) for view, found in places.items()}


@dataclass(slots=True, repr=False)
class EnrichDelta:
    """What one batch changes in a partition's state; nothing is changed before `fold`.

    Ask for `changed` and `dropped` before it. It prints without its content, which may be personal.

    Attributes:
        state: The state it was made from.
        entities: Touched entities.
        places: int64 (E,), where the state keeps their rows.
        rows: Structured (E,), their rows after the batch.
        ids: Ids to remember; None where the input has no ids.
        watermark: After the batch.
    """

    state: EnrichState
    entities: Sequence[str]
    places: I64
    rows: Rows
    ids: NewIds | None
    watermark: int

    @classmethod
    def nothing(cls, state: EnrichState) -> EnrichDelta:
        """A delta that changes nothing."""
        places = state.rows.places(())
        return cls(state, (), places, state.rows.gather(places), None, state.watermark)

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """Checkpoint fields to set."""
        if self.watermark != self.state.watermark:
            yield _WATERMARK, _int64(self.watermark)
        if self.ids is not None:
            yield from self.state.seen.changed(self.ids)
        names = map(_ROW.__add__, map(str.encode, self.entities))
        yield from zip(names, row_bytes(self.rows), strict=True)

    def dropped(self) -> list[bytes]:
        """Checkpoint fields to remove."""
        return self.state.seen.dropped(self.ids) if self.ids is not None else []

    def fold(self) -> None:
        """Apply it to the state it was made from, after the batch's last durable step."""
        self.state.rows.put(self.entities, self.places, self.rows)
        self.state.newest = int(self.rows["row_time"].max(initial=self.state.newest))
        if self.ids is not None:
            self.state.seen.fold(self.ids)
        self.state.watermark = self.watermark


def _int64(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)
