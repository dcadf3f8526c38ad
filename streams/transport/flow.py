"""One partition's way through a stage: fetched, handed out, finished, committable."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.schemas.batch import RecordBatch, join_records

if TYPE_CHECKING:
    from headrace.streams.transport.options import Partition


OPEN_BYTES = 16 << 20
"""Bytes on the wire that a stage begins nothing beyond. What it makes of them is held, too, until
the bus has it: by partition alone, memory and the producer's queue would grow with their number."""


class Delivered:
    """One batch handed over, and the duty to acknowledge it.

    Attributes:
        records: The batch. Read-only: its arrays may be views of a larger fetch.
        size: Its bytes on the wire.
        attempts: How often a body raised on it.
    """

    __slots__ = ("_first", "_next", "attempts", "finished", "flow", "records", "size")

    def __init__(self, flow: Flow, records: RecordBatch, size: int) -> None:
        self.flow = flow
        self.records = records
        self.size = size
        self.attempts = 0
        self.finished = False
        self._first = records.first
        self._next = records.next

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return self._first

    @property
    def next(self) -> int:
        """Offset after the last record."""
        return self._next

    @property
    def stale(self) -> bool:
        """Whether the partition was given up meanwhile: nothing of this batch counts any more."""
        return self.flow.closed

    def done(self) -> None:
        """Everything of this batch is durable: it may be committed.

        Call it on the event loop of `StageTransport.run`. A second call, and a call after the
        partition was given up, do nothing.
        """
        if not self.finished:
            self.finished = True
            self.flow.finish()


@dataclass(slots=True)
class Piece:
    """A fetched batch that waits to be handed out.

    Attributes:
        records: Its rows, fewer each time a slice is taken.
        size: Bytes it took on the wire; they count as held until its last row is taken.
    """

    records: RecordBatch
    size: int


class Flow:
    """One partition during one assignment.

    `arrived_*`, `end` and `bus_paused` are the pump's to write, `taken_*` the hand-out's.

    Attributes:
        partition: Topic and partition number.
        position: Offset up to which everything is finished: what may be committed.
        read: Offset up to which records have arrived here; fetching begins there.
        end: Offset after the log's last readable record, as of the last fetch that found some.
        blank: Offsets from the first to below the second, at the end of what was fetched, hold no
            record: transaction markers, aborted or compacted records.
        committed: Offset below which nothing needs a commit; None: the start itself needs one.
        closing: Nothing new is begun; what has begun may still be finished.
        closed: The partition was given up.
        paused: Nothing is handed out.
        not_before: Monotonic seconds before which nothing is handed out.
    """

    def __init__(
        self,
        partition: Partition,
        position: int,
        *,
        committed: int | None,
        batch_rows: int,
        max_in_flight: int,
        held_bytes: int,
        changed: Callable[[], None],
    ) -> None:
        self.partition = partition
        self.position = position
        self.read = position
        self.committed = committed
        self.closing = False
        self.closed = False
        self.paused = False
        self.not_before = 0.0
        self.arrived_rows = self.arrived_bytes = self.taken_rows = self.taken_bytes = 0
        self.bus_paused = False
        self.end = position
        self.blank = (position, position)
        self._batch_rows, self._max_in_flight, self._held_bytes = (
            batch_rows,
            max_in_flight,
            held_bytes,
        )
        self._changed = changed
        self._pieces: deque[Piece] = deque()
        self._open: deque[Delivered] = deque()
        self._again: list[Delivered] = []

    @property
    def in_flight(self) -> int:
        """Batches handed over that are not committable yet."""
        return len(self._open)

    @property
    def lag(self) -> int:
        """Records not finished yet, as of the last fetch; 0 when only markers are left."""
        first, stop = self.blank
        position = max(self.position, stop) if self.position >= first else self.position
        return max(0, self.end - position)

    def fetched(self, last: int | None, position: int, end: int) -> None:
        """Note how far a fetch came.

        Args:
            last: Offset after its last record, None where it had none.
            position: Offset that is fetched next.
            end: Offset after the log's last readable record.
        """
        self.end = end
        if last is not None:
            self.blank = (last, position)
        elif self.blank[1] < position:
            self.blank = (self.blank[0], position)

    @property
    def open_bytes(self) -> int:
        """Bytes on the wire of those batches."""
        return sum(delivered.size for delivered in self._open)

    @property
    def waiting_bytes(self) -> int:
        """Bytes on the wire of what was fetched and not handed over."""
        return self.arrived_bytes - self.taken_bytes

    @property
    def full(self) -> bool:
        """Whether enough is held: fetching more waits."""
        return (
            self.arrived_rows - self.taken_rows >= self._batch_rows
            or self.waiting_bytes >= self._held_bytes
        )

    def offer(self, piece: Piece) -> None:
        """Add fetched records; dropped when the partition was given up."""
        if not self.closed:
            self._pieces.append(piece)
            self.read = piece.records.next

    def ready(self, now: float, *, small: bool = True) -> bool:
        """Whether `take` would give a batch at monotonic time `now`; a small one only if asked."""
        if self.closing or self.paused or now < self.not_before:
            return False
        if self._again:
            return True
        whole = self.full or (small and not self._open)
        return bool(self._pieces) and whole and len(self._open) < self._max_in_flight

    def take(self, now: float, *, small: bool = True) -> Delivered | None:
        """The next batch to hand over: one that came back first, then new records."""
        if not self.ready(now, small=small):
            return None
        if self._again:
            return self._again.pop(0)
        delivered = Delivered(self, *self._slice())
        self._open.append(delivered)
        return delivered

    def _slice(self) -> tuple[RecordBatch, int]:
        parts: list[RecordBatch] = []
        rows = held = size = 0
        while self._pieces and rows < self._batch_rows:
            piece = self._pieces[0]
            if parts and held + piece.size > self._held_bytes:
                break
            count = min(len(piece.records), self._batch_rows - rows)
            size += piece.size * count // len(piece.records)
            if count == len(piece.records):
                parts.append(piece.records)
                self.taken_bytes += piece.size
                self._pieces.popleft()
            else:
                parts.append(piece.records.slice(0, count))
                piece.records = piece.records.slice(count, len(piece.records))
            rows += count
            held += piece.size
        self.taken_rows += rows
        return join_records(parts), size

    def must_wait(self, delivered: Delivered) -> bool:
        """Whether this batch, on its way to the body, has to wait: paused, or one before it."""
        return self.paused or bool(self._again and self._again[0].first < delivered.first)

    def give_back(self, delivered: Delivered, *, not_before: float = 0.0) -> None:
        """Take a batch back to hand it out again, in its place, not before monotonic time."""
        if self.closing or delivered.finished:
            return
        insort(self._again, delivered, key=lambda waiting: waiting.first)
        self.not_before = max(self.not_before, not_before)
        self._changed()

    def finish(self) -> None:
        """Move the committable position over the longest finished prefix."""
        if self.closed:
            return
        while self._open and self._open[0].finished:
            self.position = self._open.popleft().next
        self._changed()

    def uncommitted(self) -> int | None:
        """The offset to commit, or None when the group already has it."""
        if self.committed is None or self.position > self.committed:
            return self.position
        return None

    def close(self) -> None:
        """Give the partition up: nothing is handed out or acknowledged any more."""
        self.closing = self.closed = True
        self._pieces.clear()
        self._open.clear()
        self._again.clear()


def rounds(flows: deque[Flow], now: float, *, small: bool = True) -> Iterator[Delivered]:
    """Hand out what is ready, one batch of each partition per round, a new first each round.

    Without `small`, only of partitions that have a full batch; none while OPEN_BYTES are in hand.
    """
    room = OPEN_BYTES - sum(flow.open_bytes for flow in flows)
    busy = True
    while busy:
        busy = False
        flows.rotate(-1)
        for flow in list(flows):
            delivered = flow.take(now, small=small) if room > 0 else None
            if delivered is not None:
                busy = True
                room -= delivered.size
                yield delivered
