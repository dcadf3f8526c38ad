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
        by_tile = _by_tile(frame, frame.times // self._tile_ms)
        groups, slots = by_tile.groups, by_tile.tiles % self._ring
        held = rows[self._tiles][by_tile.owners, slots] == by_tile.tiles
        metrics = frame.metrics[by_tile.order]
        after: dict[str, F64] = {}
        for field, statistic in self._statistics.items():
            ring = rows[field][by_tile.owners, slots]
            carry = np.where(held[:, None], ring, statistic.blank)
            after[field] = statistic.scan(groups, metrics, carry)
        rests = self._rests(rows, by_tile.stretches, after)
        kept = _last_of_slot(by_tile.owners * self._ring + slots)
        target = by_tile.owners[kept], slots[kept]
        for field, statistic in self._statistics.items():
            rest = rests[field][:, by_tile.stretches.of]
            statistic.finish(rest, after[field][by_tile.where], out)
            rows[field][target] = after[field][groups.ends[kept]]
        rows[self._tiles][target] = by_tile.tiles[kept]

    def _rests(self, rows: Rows, stretches: Stretches, after: dict[str, F64]) -> dict[str, F64]:
        """All but the newest tile of each stretch's window, merged: (P, S, K) by field."""
        widest = max(len(statistic.blank) for statistic in self._statistics.values())
        step = max(1, _CELLS_AT_ONCE // (self._span * widest))
        writers = _Writers(stretches)
        parts: dict[str, list[F64]] = {field: [] for field in self._statistics}
        for start in range(0, len(stretches.tile), step):
            part = slice(start, start + step)
            entity = stretches.entity[part]
            tile = stretches.tile[part] - np.arange(self._span - 1, 0, -1)[:, None]
            slots = tile % self._ring
            absent = rows[self._tiles][entity, slots] != tile
            written = writers.find(part, tile)
            here = written >= 0
            for field, statistic in self._statistics.items():
                tiles = rows[field][entity, slots]
                tiles[absent] = statistic.blank
                tiles[here] = after[field][written[here]]
                parts[field].append(statistic.fold(tiles))
        return {field: np.concatenate(found, axis=1) for field, found in parts.items()}


_CELLS_AT_ONCE = 1 << 21
"""Tiles are gathered in pieces of at most this many numbers (16 MiB)."""


@dataclass(slots=True)
class ByTile:
    """The events of a frame by entity and tile, each group in log order.

    Attributes:
        groups: The events of each (entity, tile).
        owners: int64 (G,), entity of each group.
        tiles: int64 (G,), tile of each group; ascending within an entity.
        order: int64 (N,), the frame's position of each event.
        where: int64 (N,), the other way round.
        stretches: Runs of consecutive events in one tile.
    """

    groups: Runs
    owners: I64
    tiles: I64
    order: I64
    where: I64
    stretches: Stretches


def _by_tile(frame: Frame, tile: I64) -> ByTile:
    entity = frame.runs.group
    edges = _edges(entity, tile)
    order = where = np.arange(len(tile))
    if not ((tile[1:] >= tile[:-1]) | (entity[1:] != entity[:-1])).all():
        order = np.lexsort((tile, entity))
        where = np.empty_like(order)
        where[order] = np.arange(len(order))
    owner, number = entity[order], tile[order]
    groups = Runs.between(_edges(owner, number))
    starts = np.flatnonzero(edges)
    last = where[np.append(starts[1:], len(tile)) - 1]
    stretches = Stretches(entity[starts], tile[starts], np.cumsum(edges) - 1, last)
    return ByTile(groups, owner[groups.starts], number[groups.starts], order, where, stretches)


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

    def find(self, part: slice, tile: I64) -> I64:
        """Where each stretch's entity last wrote a tile before it; -1 where this batch did not.

        Args:
            part: Which stretches ask, S of them.
            tile: int64 (B, S), the tiles each of them asks for.

        Returns:
            int64 (B, S), positions among the groups by tile.
        """
        place = np.searchsorted(self._tiles, tile)
        known = self._tiles[np.minimum(place, len(self._tiles) - 1)] == tile
        if not known.any():
            return np.full(tile.shape, -1)
        wanted = self._base[part] + place
        at = np.searchsorted(self._keys, wanted * self._count + self._sequence[part]) - 1
        found = known & (at >= 0) & (self._keys[at] // self._count == wanted)
        return np.where(found, self._last[at], -1)
