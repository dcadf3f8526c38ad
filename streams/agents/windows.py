"""Open windows of one partition: what SUMMARIZE has folded and not yet handed on."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from headrace.enrichers.late import BEGINNING
from headrace.schemas.partial import Seen
from headrace.schemas.protocols import Fields
from headrace.streams.agents.moments import Running
from headrace.streams.upstream.quantiles import Bins

_WATERMARK = b"watermark"
_CELL, _BINS, _DEVICE = b"window ", b"bins ", b"device "
_INT = struct.Struct("<q")
_COUNTS = struct.Struct("<qq")
_REACH = struct.Struct("<qqqq?")
_SEEN = struct.Struct("<dq")

CellKey = tuple[int, int, str]
"""What closes the cell and its window, by their starts in milliseconds since 1970, and group.

A cell is closed with its own window; rows that come after that are kept apart, and closed with the
next window that is.
"""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the event time of one partition has come, milliseconds since 1970.

    Attributes:
        watermark: By every record so far.
        rest: By the last row: from there event time is taken to go on when the stream rests.
        heard: Broker time of that row.
        over: Start of the last window that is over. It never goes back, whatever lateness the
            pipeline file allows by now.
        resting: It was said since that it rests.
    """

    watermark: int = BEGINNING
    rest: int = BEGINNING
    heard: int = BEGINNING
    over: int = BEGINNING
    resting: bool = False

    def encode(self) -> bytes:
        """33 bytes."""
        return _REACH.pack(self.watermark, self.rest, self.heard, self.over, self.resting)


@dataclass(slots=True)
class Cell:
    """One window and group.

    Attributes:
        rows: Predictions.
        anomalies: Those labelled anomalous.
        models: Model digest to predictions by it.
        running: Moments of the score, then of each metric.
        devices: Every device of it.
        bins: Bins of the same quantities; of none where quantiles are not asked for.
    """

    rows: int
    anomalies: int
    models: dict[str, int]
    running: Running
    devices: dict[str, Seen] = field(default_factory=dict)
    bins: Bins = field(default_factory=lambda: Bins.empty(0))

    def encode(self) -> bytes:
        """Everything but the devices and the bins."""
        models = orjson.dumps(self.models)
        counts = _COUNTS.pack(self.rows, self.anomalies)
        return b"".join((counts, _INT.pack(len(models)), models, self.running.encode()))

    @classmethod
    def decode(cls, value: bytes) -> Cell:
        """What `encode` gave, without devices and bins."""
        rows, anomalies = _COUNTS.unpack_from(value)
        (size,) = _INT.unpack_from(value, _COUNTS.size)
        at = _COUNTS.size + _INT.size
        models = orjson.loads(value[at : at + size])
        return cls(rows, anomalies, models, Running.decode(value[at + size :]))


@dataclass(slots=True)
class Windows:
    """Open windows of one partition.

    Attributes:
        reach: How far its event time has come.
        cells: What is open, by window and group.
    """

    reach: Reach = Reach()
    cells: dict[CellKey, Cell] = field(default_factory=dict)

    def load(self, name: bytes, value: bytes) -> bool:
        """Take one checkpoint field, in any order; false where it is none of ours."""
        if name == _WATERMARK:
            self.reach = Reach(*_REACH.unpack(value))
        elif name.startswith(_CELL):
            closes, start, group = orjson.loads(name[len(_CELL) :])
            cell, known = Cell.decode(value), self._begun((closes, start, group))
            cell.devices, cell.bins = known.devices, known.bins
            self.cells[closes, start, group] = cell
        elif name.startswith(_BINS):
            closes, start, group = orjson.loads(name[len(_BINS) :])
            self._begun((closes, start, group)).bins = Bins.decode(value)
        elif name.startswith(_DEVICE):
            closes, start, group, device = orjson.loads(name[len(_DEVICE) :])
            self._begun((closes, start, group)).devices[device] = _SEEN.unpack(value)
        else:
            return False
        return True

    def _begun(self, key: CellKey) -> Cell:
        """A cell of which some fields are loaded, or none yet."""
        return self.cells.setdefault(key, Cell(0, 0, {}, Running.empty(0)))

    def dump(self) -> Iterator[tuple[bytes, bytes]]:
        """Every field."""
        yield _WATERMARK, self.reach.encode()
        for key, cell in self.cells.items():
            yield from _content(key, cell)
            yield from _devices(key, cell.devices)


@dataclass(slots=True)
class WindowsDelta:
    """What one batch changes in the open windows; they stay as they are until `fold`.

    Attributes:
        windows: What it was made from.
        reach: After the batch.
        cells: New content of the cells it touched, without devices.
        devices: New content of the devices it changed, by cell.
        closed: Cells it closed.
    """

    windows: Windows
    reach: Reach
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    devices: dict[CellKey, dict[str, Seen]] = field(default_factory=dict)
    closed: list[CellKey] = field(default_factory=list)

    def changed(self) -> Fields:
        """Fields to set."""
        if self.reach != self.windows.reach:
            yield _WATERMARK, self.reach.encode()
        closed = set(self.closed)
        for key, cell in self.cells.items():
            if key not in closed:
                yield from _content(key, cell)
                yield from _devices(key, self.devices.get(key, {}))

    def dropped(self) -> Iterable[bytes]:
        """Fields to remove: those of closed windows that were written before."""
        for key in self.closed:
            cell = self.windows.cells.get(key)
            if cell is not None:
                yield from (name for name, _ in _content(key, cell))
                yield from (name for name, _ in _devices(key, cell.devices))

    def fold(self) -> None:
        """Apply it."""
        self.windows.reach = self.reach
        for key, cell in self.cells.items():
            known = self.windows.cells.get(key)
            cell.devices = known.devices if known else {}
            cell.devices |= self.devices.get(key, {})
            self.windows.cells[key] = cell
        for key in self.closed:
            self.windows.cells.pop(key, None)

    def whole(self, key: CellKey) -> Cell:
        """A cell as it will be, with all of its devices."""
        known = self.windows.cells.get(key)
        cell = self.cells.get(key, known)
        if cell is None:
            raise KeyError(key)
        devices = (known.devices if known else {}) | self.devices.get(key, {})
        return Cell(cell.rows, cell.anomalies, cell.models, cell.running, devices, cell.bins)


def _content(key: CellKey, cell: Cell) -> Iterator[tuple[bytes, bytes]]:
    name = orjson.dumps(key)
    yield _CELL + name, cell.encode()
    if len(cell.bins.levels):
        yield _BINS + name, cell.bins.encode()


def _devices(key: CellKey, devices: dict[str, Seen]) -> Iterator[tuple[bytes, bytes]]:
    head = _DEVICE + orjson.dumps(key)[:-1] + b","
    for device, seen in devices.items():
        yield head + orjson.dumps(device) + b"]", _SEEN.pack(*seen)
