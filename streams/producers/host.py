"""This machine as a source of telemetry."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec

from headrace.streams.producers.busiest import Busiest
from headrace.streams.producers.produce import Record
from headrace.streams.producers.sample import Sample, events
from headrace.streams.producers.sensors import Machine

DEFAULT_RATE_HZ = 10.0
DEFAULT_PROCESSES = 5


class HostSource:
    """Each core, disk, network interface, the host and its busiest processes, as events.

    A live source: every `take` is one sample of everything, one event per device. The first one
    gives nothing, since a rate needs two samples. Process names are personal and stand in the
    field ``process`` only; command lines and raw counters stand in ``payload``.

    Args:
        now: Wall clock, seconds since 1970: the events' time.
        clock: Monotonic clock, seconds: what rates are measured by.
        processes: How many of the busiest processes are devices.
        prefix: Put before every device id, so that several machines can share a pipeline.
        key: Key of the processes' pseudonyms; default a random one per run.

    Raises:
        MissingExtraError: on import, where psutil is not installed. Fatal.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        processes: int = DEFAULT_PROCESSES,
        prefix: str = "",
        key: bytes | None = None,
    ) -> None:
        self._now, self._clock = now, clock
        self._machine = Machine(prefix)
        self._busiest = Busiest(
            processes, key=key or secrets.token_bytes(16), prefix=prefix, clock=clock
        )
        self._run = secrets.token_hex(4)
        self._last: Sample | None = None
        self._encode = msgspec.json.Encoder().encode

    def sample(self) -> Sample:
        """Read everything once."""
        at_s, time_s = self._clock(), self._now()
        readings = [*self._machine.read(), *self._busiest.read()]
        number = self._last.number + 1 if self._last else 0
        return Sample(number, time_s, at_s, {r.device_id: r for r in readings})

    def take(self) -> list[Record]:
        """What happened since the last call, one record per device, keyed by it."""
        before, self._last = self._last, self.sample()
        if before is None:
            return []
        return [
            Record(event.device_id.encode(), self._encode(event))
            for event in events(before, self._last, run=self._run)
        ]
