"""What SERVE remembers of one partition: how far it has served, and its open windows."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from headrace.schemas.protocols import Fields, OnlineRows
from headrace.streams.agents.windows import Windows, WindowsDelta

SourceKey = tuple[str, int]
"""Telemetry topic and partition that a block's rows come from."""

_SERVED = b"served "
_INT = struct.Struct("<q")


@dataclass(slots=True)
class ServeState:
    """State of one features partition (a `PartitionState`).

    Attributes:
        served: Highest telemetry offset served, by source.
        windows: Open windows of SUMMARIZE.
    """

    served: dict[SourceKey, int] = field(default_factory=dict)
    windows: Windows = field(default_factory=Windows)

    def load(self, fields: Fields) -> None:
        """Become what `dump` once gave."""
        self.served, self.windows = {}, Windows()
        for name, value in fields:
            if name.startswith(_SERVED):
                topic, partition = orjson.loads(name[len(_SERVED) :])
                (self.served[topic, partition],) = _INT.unpack(value)
            else:
                self.windows.load(name, value)

    def dump(self) -> Fields:
        """Every field."""
        yield from _served(self.served)
        yield from self.windows.dump()

    def online(self) -> list[OnlineRows]:
        """None: SERVE writes no online rows."""
        return []


@dataclass(slots=True)
class ServeDelta:
    """What one batch changes (a `Delta`).

    Attributes:
        state: What it was made from.
        served: New highest offsets.
        windows: Change of the open windows, None for none.
    """

    state: ServeState
    served: dict[SourceKey, int]
    windows: WindowsDelta | None

    def changed(self) -> Fields:
        """Fields to set."""
        yield from _served(self.served)
        if self.windows is not None:
            yield from self.windows.changed()

    def dropped(self) -> Iterable[bytes]:
        """Fields to remove."""
        return () if self.windows is None else self.windows.dropped()

    def fold(self) -> None:
        """Apply it."""
        self.state.served |= self.served
        if self.windows is not None:
            self.windows.fold()


def _served(offsets: dict[SourceKey, int]) -> Iterator[tuple[bytes, bytes]]:
    for source, offset in offsets.items():
        yield _SERVED + orjson.dumps(source), _INT.pack(offset)
