"""Batches of a consumer group's partitions in, acknowledgements out: the transport's whole face."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol, cast

from headrace.schemas.errors import BusUnavailableError, FatalError, HeadraceError
from headrace.streams.transport.app import StageApp
from headrace.streams.transport.consumer import StageConsumer
from headrace.streams.transport.flow import OPEN_BYTES, Delivered, Flow
from headrace.streams.transport.group_offsets import Member
from headrace.streams.transport.options import Partition, StageOptions, log

__all__ = ["Delivered", "Partition", "StageHandler", "StageTransport"]

# What cutting off, the last commit, leaving the group and closing may take beyond `shutdown_s`.
_LEAVE_S = 6.0


class StageHandler(Protocol):
    """What a stage does with its partitions and batches. All calls come in one event loop."""

    async def assigned(self, partitions: frozenset[Partition]) -> None:
        """Get ready for these partitions, it may be none; called before their first batch.

        Cancelled when they are revoked before it returns; `revoked` follows. May use `commit`,
        `committed`, `log_range` and `start_at` of the transport. A RetryableError makes it run
        again after its `retry_after_s`; any other error ends the stage.
        """

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        """Return when open work is finished (and its `done` called) or dropped.

        The caller bounds it by `shutdown_s` and then goes on. Also called at the end.
        """

    async def batch(self, delivered: Delivered) -> None:
        """Take a batch over; it is finished when `delivered.done()` is called, not on return."""


class StageTransport:
    """One consumer group's share of topics, as columnar batches.

    Delivery: at least once. Records of a partition come in offset order. The group's offset is
    the longest finished prefix of each partition, committed every `commit_interval_s`, at a
    revocation and at the end, never past an unfinished batch. A batch whose handler raised is
    offered again, before those after it. After a crash, what was not committed comes again.

    Args:
        group: Consumer group.
        topics: Topics to read; they must exist.
        client_options: aiokafka client keyword arguments, used for every connection.
        embedded: The bus is the embedded one.
        batch_rows: Most records in one batch.
        max_in_flight: Most batches of one partition handed over and not committable yet.
        fetch_max_wait_ms: How long the broker may hold a fetch that finds nothing, milliseconds.
        fetch_bytes: Most bytes of one partition in one fetch; twice this is held for it at most.
        commit_interval_s: Seconds between commits.
        shutdown_s: Seconds that open work gets at a revocation and at the end.
        read_committed: Leave out records of open and aborted transactions.
        transactional: The handler commits offsets in its own transactions; nothing is committed
            here unless `commit` is called.
        note: Stands beside the offsets that `commit` commits.
        start: Where a partition without a committed offset begins.
        concurrency: How many `handler.batch` calls may run at the same time.
        handler: Who processes the batches.
    """

    def __init__(
        self,
        *,
        group: str,
        topics: Sequence[str],
        client_options: Mapping[str, Any],
        embedded: bool,
        handler: StageHandler,
        batch_rows: int = 8192,
        max_in_flight: int = 2,
        fetch_max_wait_ms: int = 20,
        fetch_bytes: int = 2 << 20,
        commit_interval_s: float = 0.5,
        shutdown_s: float = 10.0,
        read_committed: bool = False,
        start: Literal["earliest", "latest"] = "earliest",
        concurrency: int = 1,
        transactional: bool = False,
        note: str = "",
    ) -> None:
        self.options = StageOptions(
            group=group,
            topics=tuple(topics),
            client_options=dict(client_options),
            embedded=embedded,
            batch_rows=batch_rows,
            max_in_flight=max_in_flight,
            fetch_max_wait_ms=fetch_max_wait_ms,
            fetch_bytes=fetch_bytes,
            commit_interval_s=commit_interval_s,
            shutdown_s=shutdown_s,
            read_committed=read_committed,
            start=start,
            concurrency=concurrency,
            transactional=transactional,
            note=note,
        )
        self._handler = handler
        self._app: StageApp | None = None
        self._ended: asyncio.Future[None] | None = None
        self._stop_asked = False

    async def run(self) -> None:
        """Join the group and hand batches over until `stop` or `fail`.

        Raises:
            BusUnavailableError: No broker answers at the start; later losses are waited out. Or a
                log is another one than before.
            BusRefusedError: Credentials, certificate or rights.
            TopicError: A topic is missing.
            FatalError: What `fail` was given, or what the stage or Faust ended with.
        """
        self._ended = asyncio.get_running_loop().create_future()
        if self._stop_asked:
            return
        self._app = StageApp(self.options, self._handler, self.fail)
        starting = asyncio.create_task(self._app.start())
        try:
            await asyncio.wait({starting, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                starting.result()
            await self._ended
        except HeadraceError:
            raise
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the app's own start: every cause becomes one line
            raise FatalError(
                f"group {self.options.group!r} ended with {type(error).__name__}; see the log"
            ) from error
        finally:
            starting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await starting
            await self._leave(self._app)

    async def _leave(self, app: StageApp) -> None:
        stopping = asyncio.create_task(app.stop())
        await asyncio.wait({stopping}, timeout=self.options.shutdown_s + _LEAVE_S)
        if not stopping.done():
            stopping.cancel()
            log.warning("group %s was not left in time; it will notice", self.options.group)
        elif (error := stopping.exception()) is not None:
            log.warning("leaving group %s: %s", self.options.group, type(error).__name__)

    async def stop(self) -> None:
        """End `run` in good order: finish open work within `shutdown_s`, commit, leave the group.

        Returns at once; `run` returns when it is over.
        """
        self._stop_asked = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End `run` with `error`; nothing more is committed. The first error wins."""
        consumer = self._joined()
        if consumer is not None:
            consumer.halted = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    # --- for the handler --------------------------------------------------------------------

    def pause(self, partition: Partition) -> None:
        """Fetch and hand over nothing more of a partition; the others go on."""
        self._consumer().pause(partition)

    def resume(self, partition: Partition) -> None:
        """Go on with a paused partition."""
        self._consumer().resume(partition)

    def start_at(self, partition: Partition, offset: int) -> None:
        """Within `StageHandler.assigned`: begin at `offset`, not at the committed one."""
        self._consumer().share.start_at(partition, offset)

    async def commit(self, partition: Partition, offset: int) -> None:
        """Commit `offset` (the next to read) now, under the group's current generation.

        Raises:
            OwnershipLostError: The group has moved on: this worker is not the owner any more.
            BusUnavailableError: No answer in time; the outcome is unknown.
            BusRefusedError: No right to commit.
        """
        await self._consumer().commit_offsets({partition: offset})

    async def committed(self, partition: Partition) -> int | None:
        """The group's committed offset, None when it has none.

        Raises:
            BusUnavailableError: No answer in time; or a transaction that moves it is not decided.
        """
        return await self._consumer().committed(partition)

    async def offset_note(self, partition: Partition) -> str:
        """What was noted beside the group's committed offset; "" is nothing.

        Raises:
            BusUnavailableError: No answer in time.
        """
        return await self._consumer().offset_note(partition)

    async def log_range(self, partition: Partition) -> tuple[int, int]:
        """First offset of the log and the offset after its last record.

        Raises:
            BusUnavailableError: No answer in time.
        """
        return (await self._consumer().log_ranges([partition]))[partition]

    async def at_end(self, partition: Partition) -> bool:
        """Whether the log has nothing now that this stage has not finished.

        `lag` is as of the last fetch: a worker that was paused, or cut off, learns only here what
        has come meanwhile.

        Raises:
            BusUnavailableError: No answer in time.
        """
        _, end = await self.log_range(partition)
        flow = self._flows().get(partition)
        return flow is not None and end <= flow.end and not flow.lag

    def _consumer(self) -> StageConsumer:
        consumer = self._joined()
        if consumer is None:
            raise BusUnavailableError("the stage has not joined its group yet; start it first")
        return consumer

    def _joined(self) -> StageConsumer | None:
        return self._app.batches if self._app is not None and self._app.connected else None

    # --- for metrics and the watchdog -------------------------------------------------------

    @property
    def assignment(self) -> frozenset[Partition]:
        """Partitions that are assigned to this worker."""
        consumer = self._joined()
        return frozenset() if consumer is None else consumer.share.owned

    @property
    def ready(self) -> bool:
        """Whether the worker has its share of the group (it may be none) and reads all of it."""
        consumer = self._joined()
        return consumer is not None and consumer.share.settled

    @property
    def generation(self) -> int:
        """The group's generation that this worker takes part in; 0 before the first."""
        return 0 if self._app is None else int(self._app.consumer_generation_id)

    @property
    def member(self) -> Member:
        """This worker's place in the group, none before the first rebalance."""
        consumer = self._joined()
        return Member("", 0) if consumer is None else consumer.bus.member

    @property
    def in_flight(self) -> dict[Partition, int]:
        """Batches handed over and not committable yet, of each open partition."""
        return {partition: flow.in_flight for partition, flow in self._flows().items()}

    @property
    def held_bytes(self) -> int:
        """Bytes on the wire of what was fetched and is not finished, all partitions together."""
        return sum(flow.open_bytes + flow.waiting_bytes for flow in self._flows().values())

    @property
    def held_limit_bytes(self) -> int:
        """The bound of `held_bytes`: nothing is begun or fetched beyond it.

        What may be in work at once and one batch more; and of each partition what may wait and
        one fetch more, as a fetch is known when it has arrived. A record batch of the producer's
        that is larger than `fetch_bytes` comes whole, and counts as it is.
        """
        fetch = self.options.fetch_bytes
        return OPEN_BYTES + 2 * fetch + 3 * fetch * len(self._flows())

    @property
    def lag(self) -> dict[Partition, int]:
        """Records written and not finished yet, of each open partition; as of the last fetch.

        Offsets without a record (transaction markers, compaction) count until they are read past.
        """
        return {p: flow.lag for p, flow in self._flows().items()}

    @property
    def expired(self) -> dict[Partition, int]:
        """Offsets that the log dropped before this stage read them."""
        consumer = self._joined()
        return {} if consumer is None else dict(consumer.share.expired)

    @property
    def last_commit_age_s(self) -> float | None:
        """Seconds since the last successful commit; None before the first."""
        consumer = self._joined()
        if consumer is None or consumer.committed_at is None:
            return None
        return time.monotonic() - consumer.committed_at

    @property
    def columnar(self) -> bool:
        """Whether the columnar fetch lane is in use."""
        consumer = self._joined()
        return consumer is not None and consumer.bus.columnar

    def _flows(self) -> dict[Partition, Flow]:
        consumer = self._joined()
        return {} if consumer is None else consumer.flows


def load_faust() -> None:
    """Have Faust load all of itself: its first app takes 0.1 s, later ones 2 ms.

    It imports what its settings name, and to keep the agent it looks through every loaded module.
    """
    nobody = cast("StageHandler", None)
    unused = StageTransport(
        group="unused",
        topics=["unused"],
        client_options={"bootstrap_servers": []},
        embedded=True,
        handler=nobody,
    )
    StageApp(unused.options, nobody, unused.fail)
