"""What SERVE remembers of one partition: how far it has served, and its open windows."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from headrace.schemas.protocols import Fields, OnlineRows
from headrace.streams.agents.windows import Windows, WindowsDelta

SourceKey = tuple[str, int]
"""Telemetry topic and partition that a block's rows come from."""

_SERVED = b"served "
_MARK = struct.Struct("<qq")


class Mark(NamedTuple):
    """How far one source was served.

    Attributes:
        offset: Highest telemetry offset.
        log_ms: Latest broker time of a telemetry record, milliseconds since 1970: an offset at or
            below the mark with a later one is of another log, the topic was made anew.
    """

    offset: int
    log_ms: int


@dataclass(slots=True)
class ServeState:
    """State of one features partition (a `PartitionState`).

    Attributes:
        served: How far each source was served.
        windows: Open windows of SUMMARIZE.
    """

    served: dict[SourceKey, Mark] = field(default_factory=dict)
    windows: Windows = field(default_factory=Windows)

    def load(self, fields: Fields) -> None:
        """Become what `dump` once gave."""
        self.served, self.windows = {}, Windows()
        for name, value in fields:
            if name.startswith(_SERVED):
                topic, partition = orjson.loads(name[len(_SERVED) :])
                self.served[topic, partition] = Mark(*_MARK.unpack(value))
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
        served: New marks.
        windows: Change of the open windows, None for none.
    """

    state: ServeState
    served: dict[SourceKey, Mark]
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


def _served(marks: dict[SourceKey, Mark]) -> Iterator[tuple[bytes, bytes]]:
    for source, mark in marks.items():
        yield _SERVED + orjson.dumps(source), _MARK.pack(*mark)
