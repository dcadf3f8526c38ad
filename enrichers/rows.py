"""One fixed-width row per entity in one array: copied out by a batch, written back by its fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

import numpy as np

from headrace.enrichers.layout import Layout
from headrace.enrichers.operators.frame import Rows
from headrace.schemas.batch import I64
from headrace.schemas.errors import StateError

_FIRST_CAPACITY = 256


class EntityRows:
    """Rows of the entities of one partition, in order of first appearance.

    The rows are held as 64-bit words, so that gathering thousands of them is one copy.

    Args:
        layout: What a row holds.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._width = layout.dtype.itemsize // 8
        self._words = np.empty((_FIRST_CAPACITY, self._width), np.int64)
        self._index: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    @property
    def entities(self) -> list[str]:
        """Every entity, by row."""
        return list(self._index)

    def all(self) -> Rows:
        """Structured (E,), every row; a view."""
        return self._words[: len(self)].view(self._layout.dtype)[:, 0]

    def places(self, entities: Sequence[str]) -> I64:
        """Where the rows of these entities are; -1 for those not known yet.

        Of a million entities each look-up misses the processor's caches, at about 1 µs: a batch
        asks once, and hands the answer to `gather` and `put`.

        Args:
            entities: E distinct entities.

        Returns:
            int64 (E,), right until `load`.
        """
        return np.fromiter(map(self._index.get, entities, repeat(-1)), np.int64, len(entities))

    def gather(self, places: I64) -> Rows:
        """A copy of the rows at these places; blank for those not known yet.

        Args:
            places: int64 (E,), of `places`.

        Returns:
            Structured (E,).
        """
        known = places >= 0
        if known.all():
            words = self._words[places]
        else:
            words = np.repeat(self._layout.blank.view(np.int64)[None, :], len(places), axis=0)
            words[known] = self._words[places[known]]
        return words.view(self._layout.dtype)[:, 0]

    def put(self, entities: Sequence[str], places: I64, rows: Rows) -> None:
        """Write rows back, adding the entities that are new.

        Args:
            entities: E distinct entities.
            places: int64 (E,), of `places`.
            rows: Structured (E,), contiguous.
        """
        index, new = self._index, np.flatnonzero(places < 0)
        if len(new):
            names = [entities[at] for at in new.tolist()]
            for entity in names:
                index.setdefault(entity, len(index))
            places = places.copy()
            places[new] = [index[entity] for entity in names]
            self._reserve(len(index))
        self._words[places] = _words(rows)

    def dump(self) -> Iterator[tuple[str, bytes]]:
        """Every entity and its row's bytes."""
        return zip(self._index, row_bytes(self.all()), strict=True)

    def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Hold exactly these rows.

        Raises:
            StateError: a row has another width than the layout says. Fatal.
        """
        found = dict(rows)
        joined = b"".join(found.values())
        size = self._layout.dtype.itemsize
        if any(len(row) != size for row in found.values()):
            raise StateError(
                f"loading {len(found)} entity rows found some that are not {size} bytes wide, "
                "expected all to have the layout's width; set the checkpoint aside"
            )
        self._index = {entity: place for place, entity in enumerate(found)}
        self._words = np.empty((0, self._width), np.int64)
        self._reserve(max(len(found), _FIRST_CAPACITY))
        self._words[: len(found)] = np.frombuffer(joined, "<i8").reshape(-1, self._width)

    def _reserve(self, count: int) -> None:
        if count > len(self._words):
            grown = np.empty((max(count, 2 * len(self._words)), self._width), np.int64)
            grown[: len(self._words)] = self._words
            self._words = grown


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Rows one behind the other: structured (E,); a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    joined: Rows = np.concatenate([_words(rows) for rows in parts]).view(parts[0].dtype)[:, 0]
    return joined


def row_bytes(rows: Rows) -> list[bytes]:
    """Each row's bytes."""
    size, content = rows.dtype.itemsize, rows.tobytes()
    return [content[at : at + size] for at in range(0, len(content), size)]


def _words(rows: Rows) -> I64:
    return np.ascontiguousarray(rows).view(np.int64).reshape(len(rows), rows.dtype.itemsize // 8)
