"""State of the finaliser: how far every partition is, and what is known of each window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from headrace.enrichers.late import BEGINNING
from headrace.schemas.protocols import Fields, OnlineRows

_MARK, _PART, _RELEASED = b"passed ", b"part ", b"released "
_REACHED, _LACKING = b"reached", b"lacking"
_BESIDE_PART = 200
"""Bytes of a part in memory beside its value, about."""

WindowKey = tuple[int, str]
"""Start of the window, milliseconds since 1970, and group."""

Share = tuple[int, int]
"""Source partition and what closes it (`Part.closes_ms`): what a partition says at once."""

PartKey = tuple[int, int, int]
"""A share and the number of a piece of it."""


class Mark(NamedTuple):
    """How far one source partition is.

    Attributes:
        over_ms: Start of the last window that it is past, milliseconds since 1970.
        quiet: Nobody waits for it.
    """

    over_ms: int
    quiet: bool


@dataclass(frozen=True, slots=True)
class Released:
    """The last revision of a window and group.

    Attributes:
        rev: Its number.
        suppressed: It told the counts of rows and devices alone.
        shares: What is in it.
    """

    rev: int
    suppressed: bool
    shares: frozenset[Share]

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps([self.rev, self.suppressed, sorted(self.shares)])

    @classmethod
    def decode(cls, value: bytes) -> Released:
        """What `encode` gave."""
        rev, suppressed, shares = orjson.loads(value)
        return cls(rev, suppressed, frozenset((int(p), int(at)) for p, at in shares))


@dataclass(slots=True)
class Window:
    """One window and group.

    Attributes:
        parts: Every part and piece, as it was written.
        released: Its last revision, None before the first.
    """

    parts: dict[PartKey, bytes] = field(default_factory=dict)
    released: Released | None = None

    @property
    def shares(self) -> set[Share]:
        """What was said of it."""
        return {(partition, closes) for partition, closes, _ in self.parts}

    @property
    def waits(self) -> bool:
        """Whether any of that is in no revision yet."""
        return self.released is None or not self.shares <= self.released.shares

    @property
    def memory_bytes(self) -> int:
        """Memory of its parts, estimated."""
        return sum(len(value) + _BESIDE_PART for value in self.parts.values())

    def copy(self) -> Window:
        """One that can be changed by itself."""
        return Window(dict(self.parts), self.released)


@dataclass(slots=True)
class FinalState:
    """State of the one partition of partials (a `PartitionState`).

    Attributes:
        marks: How far each source partition is.
        windows: What is kept: windows to be released, and released ones that can be amended.
        reached: Windows that start up to here may have been released, milliseconds since 1970.
        lacking: Of windows that start up to here something was never read: none is released.
        behind: Windows up to `reached` of which some part is in no revision yet.
        memory_bytes: Memory of all parts, estimated.
    """

    marks: dict[int, Mark] = field(default_factory=dict)
    windows: dict[int, dict[str, Window]] = field(default_factory=dict)
    reached: int = BEGINNING
    lacking: int = BEGINNING
    behind: set[WindowKey] = field(default_factory=set)
    memory_bytes: int = 0

    def load(self, fields: Fields) -> None:
        """Become what `dump` once gave."""
        self.marks, self.windows, self.reached, self.lacking = {}, {}, BEGINNING, BEGINNING
        for name, value in fields:
            if name.startswith(_MARK):
                over_ms, quiet = orjson.loads(value)
                self.marks[int(name[len(_MARK) :])] = Mark(over_ms, quiet)
            elif name.startswith(_PART):
                start, group, *part = orjson.loads(name[len(_PART) :])
                self._window(start, group).parts[part[0], part[1], part[2]] = value
            elif name.startswith(_RELEASED):
                start, group = orjson.loads(name[len(_RELEASED) :])
                self._window(start, group).released = Released.decode(value)
            elif name == _REACHED:
                self.reached = orjson.loads(value)
            elif name == _LACKING:
                self.lacking = orjson.loads(value)
        kept = [((at, g), one) for at, groups in self.windows.items() for g, one in groups.items()]
        self.behind = {key for key, window in kept if key[0] <= self.reached and window.waits}
        self.memory_bytes = sum(window.memory_bytes for _, window in kept)

    def _window(self, start: int, group: str) -> Window:
        return self.windows.setdefault(start, {}).setdefault(group, Window())

    def dump(self) -> Fields:
        """Every field."""
        if self.reached != BEGINNING:
            yield _REACHED, orjson.dumps(self.reached)
        if self.lacking != BEGINNING:
            yield _LACKING, orjson.dumps(self.lacking)
        yield from _marks(self.marks)
        for start, groups in self.windows.items():
            for group, window in groups.items():
                yield from _fields((start, group), window)

    def online(self) -> list[OnlineRows]:
        """None: the finaliser writes no online rows."""
        return []


@dataclass(slots=True)
class FinalDelta:
    """What one batch changes (a `Delta`), and the state as it is with that.

    Attributes:
        state: What it was made from.
        marks: All marks, new ones among them.
        reached, lacking, behind: As of the state, after the batch.
        touched: Windows that are different now; None for those that are forgotten.
    """

    state: FinalState
    marks: dict[int, Mark] = field(init=False)
    reached: int = field(init=False)
    lacking: int = field(init=False)
    behind: set[WindowKey] = field(init=False)
    touched: dict[WindowKey, Window | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.marks, self.reached = dict(self.state.marks), self.state.reached
        self.lacking, self.behind = self.state.lacking, set(self.state.behind)

    def window(self, key: WindowKey) -> Window | None:
        """A window as it is now, not to be changed."""
        if key in self.touched:
            return self.touched[key]
        return self.state.windows.get(key[0], {}).get(key[1])

    def change(self, key: WindowKey) -> Window:
        """A window to be changed, new where there is none."""
        if key not in self.touched:
            known = self.state.windows.get(key[0], {}).get(key[1])
            self.touched[key] = known.copy() if known else None
        window = self.touched[key]
        if window is None:
            window = self.touched[key] = Window()
        return window

    def forget(self, key: WindowKey) -> None:
        """Drop a window."""
        self.touched[key] = None

    def between(self, after: int, upto: int, step: int) -> list[WindowKey]:
        """Windows that start after one and up to another moment, both of them starts or far away.

        Where partitions are far apart there are many windows, and few between two marks of the one
        that is last: they are looked up by the `step` from one to the next.
        """
        windows = self.state.windows
        if (upto - after) // step < len(windows):
            starts = [at for at in range(after + step, upto + 1, step) if at in windows]
        else:
            starts = [at for at in windows if after < at <= upto]
        known = {(at, group) for at in starts for group in windows[at]}
        known |= {key for key in self.touched if after < key[0] <= upto}
        return sorted(key for key in known if self.window(key) is not None)

    def upto(self, start: int) -> list[tuple[WindowKey, Window]]:
        """Windows that start up to a moment."""
        found = [
            (at, g) for at, groups in self.state.windows.items() if at <= start for g in groups
        ]
        keys = dict.fromkeys([*found, *(key for key in self.touched if key[0] <= start)])
        windows = ((key, self.window(key)) for key in keys)
        return [(key, window) for key, window in windows if window is not None]

    def changed(self) -> Fields:
        """Fields to set."""
        if self.reached != self.state.reached:
            yield _REACHED, orjson.dumps(self.reached)
        if self.lacking != self.state.lacking:
            yield _LACKING, orjson.dumps(self.lacking)
        known = self.state.marks
        yield from _marks({p: mark for p, mark in self.marks.items() if known.get(p) != mark})
        for key, window in self.touched.items():
            if window is not None:
                before = dict(_fields(key, self._before(key)))
                yield from (f for f in _fields(key, window) if before.get(f[0]) != f[1])

    def dropped(self) -> Iterable[bytes]:
        """Fields to remove: those of forgotten windows."""
        for key, window in self.touched.items():
            if window is None:
                yield from (name for name, _ in _fields(key, self._before(key)))

    def _before(self, key: WindowKey) -> Window:
        return self.state.windows.get(key[0], {}).get(key[1]) or Window()

    def fold(self) -> None:
        """Apply it."""
        self.state.marks, self.state.reached = self.marks, self.reached
        self.state.lacking, self.state.behind = self.lacking, self.behind
        for (start, group), window in self.touched.items():
            groups = self.state.windows.setdefault(start, {})
            self.state.memory_bytes -= groups.pop(group, Window()).memory_bytes
            if window is not None:
                groups[group] = window
                self.state.memory_bytes += window.memory_bytes
            if not groups:
                del self.state.windows[start]


def _marks(marks: dict[int, Mark]) -> Iterator[tuple[bytes, bytes]]:
    for partition, mark in marks.items():
        yield _MARK + str(partition).encode(), orjson.dumps(list(mark))


def _fields(key: WindowKey, window: Window) -> Iterator[tuple[bytes, bytes]]:
    for part, value in window.parts.items():
        yield _PART + orjson.dumps([*key, *part]), value
    if window.released is not None:
        yield _RELEASED + orjson.dumps(key), window.released.encode()
