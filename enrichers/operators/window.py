"""Sliding event-time windows: rings of tiles, each a partial aggregate of the events in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.operators.frame import NEVER, Field, Frame, Rows
from headrace.enrichers.operators.statistic import Statistic
from headrace.enrichers.runs import Runs
from headrace.schemas.batch import F64, I64


@dataclass(slots=True)
class Stretches:
    """Runs of consecutive events of one entity in one tile: nothing else changes meanwhile.

    Attributes:
        entity: int64 (S,).
        tile: int64 (S,).
        of: int64 (N,), the stretch of each event.
        last: int64 (S,), where its last event stands among the groups by tile.
    """

    entity: I64
    tile: I64
    of: I64
    last: I64


@dataclass(slots=True)
class Sources:
    """Where B tiles of each stretch are, oldest first.

    Attributes:
        held: bool (B, S), the ring holds the tile.
        slots: int64 (B, S), in this slot.
        written: int64 (B, S), the batch's event that wrote it last before the stretch, as its
            position among the groups by tile; -1 for none.
    """

    held: NDArray[np.bool_]
    slots: I64
    written: I64


class Window:
    """Statistics over a sliding window of ``n`` tiles of event time, shared by many columns.

    The window at an event of time ``t`` is the tiles ``(tile(t) - n, tile(t)]`` with
    ``tile(t) = floor(t / tile_ms)``: the last `window_ms`, in steps of `tile_ms`, of what the
    entity sent before this event in log order, and the event. An event out of order goes to its own
    tile, and its own window ends there. The ring holds as many tiles more as the allowed lateness
    spans, so that no event that is not late misses one.

    Source: Li, Maier, Tufte, Papadimos, Tucker 2005, "No pane, no gain".

    Args:
        name: Prefix of its fields.
        window_ms: Length, a multiple of `tile_ms`.
        tile_ms: Step, milliseconds.
        lateness_ms: Allowed lateness, milliseconds.
        statistics: What to keep.
    """

    def __init__(
        self,
        name: str,
        *,
        window_ms: int,
        tile_ms: int,
        lateness_ms: int,
        statistics: Sequence[Statistic],
    ) -> None:
        self._tile_ms = tile_ms
        self._span = window_ms // tile_ms
        self._ring = self._span - (-lateness_ms // tile_ms)
        self._tiles = f"{name}.tile"
        self._statistics = {f"{name}.{s.name}": s for s in statistics}
        self.fields = (
            Field(self._tiles, "<i8", (self._ring,), NEVER),
            *(
                Field(field, "<f8", (self._ring, len(s.blank)), np.tile(s.blank, (self._ring, 1)))
                for field, s in self._statistics.items()
            ),
        )

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Fill tiles, then merge each event's window."""
        entity, tile = frame.runs.group, frame.times // self._tile_ms
        edges = _edges(entity, tile)
        in_order = bool(((tile[1:] >= tile[:-1]) | (entity[1:] != entity[:-1])).all())
        order = np.arange(len(tile)) if in_order else np.lexsort((tile, entity))
        groups = Runs.between(edges if in_order else _edges(entity[order], tile[order]))
        where = np.empty_like(order)
        where[order] = np.arange(len(order))
        starts = np.flatnonzero(edges)
        ends = np.append(starts[1:], len(tile)) - 1
        stretches = Stretches(entity[starts], tile[starts], np.cumsum(edges) - 1, where[ends])
        owners, tiles = entity[order][groups.starts], tile[order][groups.starts]
        slots = tiles % self._ring
        held = rows[self._tiles][owners, slots] == tiles
        metrics = frame.metrics[order]
        sources = self._sources(rows, stretches)
        kept = _last_of_slot(owners * self._ring + slots)
        for field, statistic in self._statistics.items():
            ring = rows[field]
            carry = np.where(held[:, None], ring[owners, slots], statistic.blank)
            after = statistic.scan(groups, metrics, carry)
            rest = _rest(ring, statistic, stretches, sources, after)
            newest = after if in_order else after[where]
            statistic.finish(rest[:, stretches.of], newest, out)
            ring[owners[kept], slots[kept]] = after[groups.ends[kept]]
        rows[self._tiles][owners[kept], slots[kept]] = tiles[kept]

    def _sources(self, rows: Rows, stretches: Stretches) -> Sources:
        """Where each stretch finds the tiles of its window but its own."""
        back = np.arange(self._span - 1, 0, -1)[:, None]
        tile = stretches.tile - back
        slots = tile % self._ring
        held = rows[self._tiles][stretches.entity, slots] == tile
        return Sources(held, slots, _Writers(stretches).find(tile))


_CELLS_AT_ONCE = 1 << 21
"""Tiles are gathered in pieces of at most this many numbers (16 MiB)."""


def _rest(
    ring: F64, statistic: Statistic, stretches: Stretches, sources: Sources, after: F64
) -> F64:
    """All but the newest tile of each stretch's window, merged: (P, S, K)."""
    cells = max(1, len(sources.slots)) * len(statistic.blank)
    step = max(1, _CELLS_AT_ONCE // cells)
    parts = []
    for start in range(0, len(stretches.tile), step):
        part = np.s_[:, start : start + step]
        tiles = ring[stretches.entity[start : start + step], sources.slots[part]]
        tiles[~sources.held[part]] = statistic.blank
        written = sources.written[part]
        if (written >= 0).any():
            tiles[written >= 0] = after[written[written >= 0]]
        parts.append(statistic.fold(tiles))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _edges(entity: I64, tile: I64) -> NDArray[np.bool_]:
    edges = np.ones(len(tile), np.bool_)
    edges[1:] = (entity[1:] != entity[:-1]) | (tile[1:] != tile[:-1])
    return edges


def _last_of_slot(keys: I64) -> I64:
    """Indices of the last of equal keys; a later one is a newer tile in the same slot."""
    _, reversed_first = np.unique(keys[::-1], return_index=True)
    return len(keys) - 1 - reversed_first


class _Writers:
    """Who, in this batch, wrote a tile before a stretch began."""

    def __init__(self, stretches: Stretches) -> None:
        self._count = len(stretches.tile)
        self._tiles = np.unique(stretches.tile)
        self._base = stretches.entity * len(self._tiles)
        self._sequence = np.arange(self._count)
        own = self._base + np.searchsorted(self._tiles, stretches.tile)
        keys = own * self._count + self._sequence
        order = np.argsort(keys)
        self._keys, self._last = keys[order], stretches.last[order]

    def find(self, tile: I64) -> I64:
        """Where each stretch's entity last wrote a tile before it; -1 where this batch did not.

        Args:
            tile: int64 (B, S), the tiles each stretch asks for.

        Returns:
            int64 (B, S), positions among the groups by tile.
        """
        place = np.searchsorted(self._tiles, tile)
        known = self._tiles[np.minimum(place, len(self._tiles) - 1)] == tile
        if not known.any():
            return np.full(tile.shape, -1)
        wanted = self._base + place
        at = np.searchsorted(self._keys, wanted * self._count + self._sequence) - 1
        found = known & (at >= 0) & (self._keys[at] // self._count == wanted)
        return np.where(found, self._last[at], -1)
