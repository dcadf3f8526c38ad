"""What a supervisor tells a worker, and what a worker tells its supervisor: JSON lines."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings, SnapshotSettings, StoreSettings, WorkerSettings
from headrace.streams.observe.drift_sketch import WindowCounts
from headrace.streams.observe.log_lines import LogLine
from headrace.streams.observe.traces import SpanRecord

STAGES = ("enrich", "serve")
"""Stages in the order of the data path, one process each."""
ALL_STAGES = ("intake", *STAGES)
"""With the stage before them that only some pipelines have."""
FINALISER = "summarize"
BESIDE = {"serve": FINALISER}
"""Stages that run in another one's process: few records, not worth a process of their own."""


def stages_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The stages of a pipeline, in the order of the data path."""
    return ALL_STAGES if pipeline.input.rekey else STAGES


def groups_of(stages: Iterable[str]) -> tuple[str, ...]:
    """These stages and those beside them: each is a consumer group."""
    return tuple(name for stage in stages for name in (stage, BESIDE.get(stage)) if name)


def worker_of(stage: str) -> str:
    """The stage whose process runs this one.

    Example:
        >>> worker_of("summarize"), worker_of("enrich")
        ('serve', 'enrich')
    """
    return next((first for first, beside in BESIDE.items() if beside == stage), stage)


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the running services are. First line a worker reads on standard input.

    Attributes:
        bus: The bus, with a real URL.
        store: The store, with a real URL.
        embedded: The bus is the embedded one: short sessions, no idempotent producer.
        snapshots: Where copies of checkpoints are kept.
        tracing: Somebody exports traces and log lines.
        hold: Where the stages' groups begin is being settled: connect now, join at the next line.
        shutdown_s: Longest time for open batches at a stop, seconds.
    """

    bus: BusSettings
    store: StoreSettings
    embedded: bool
    snapshots: SnapshotSettings = SnapshotSettings()
    tracing: bool = False
    hold: bool = False
    shutdown_s: float = WorkerSettings().shutdown_s


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One partition of a worker's share, as its lane sees it.

    Attributes:
        partition: Partition number of the stage's source topic.
        position: Next offset to process.
        lag: Records written and not finished.
        in_flight: Batches taken and not finished.
        given: Rows that the lane has published since it began.
        taken_over: State and position are ours; false while a takeover is under way.
        step: What the lane has in hand: ``takeover``, ``process``, ``publish``, ``online rows``,
            ``checkpoint``; None between two batches.
        step_s: How long that step has taken so far, seconds.
    """

    partition: int
    position: int = 0
    lag: int = 0
    in_flight: int = 0
    given: int = 0
    taken_over: bool = True
    step: str | None = None
    step_s: float = 0.0


class StateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ENRICH or the finaliser remembers, all partitions of a worker together.

    Attributes:
        entities: Devices.
        bytes: Memory of their rows and of the event ids it knows, bytes, estimated; of the
            finaliser, of the parts of summaries.
        clocks: Devices by their clocks: ``ahead``, ``right``, ``behind``; empty where no feature
            `clock_error` looks at them.
        behind_s: Of the finaliser, by source partition: how much event time its closed windows are
            behind those of the partition that is furthest, seconds. Summaries wait for the largest;
            partitions for which they do not wait are left out.
    """

    entities: int = 0
    bytes: int = 0
    clocks: dict[str, int] = {}
    behind_s: dict[str, float] = {}

    @property
    def furthest_behind(self) -> tuple[str, float] | None:
        """The partition that summaries wait for, and its seconds; None where none is behind."""
        worst = max(self.behind_s.items(), key=lambda found: found[1], default=("", 0.0))
        return worst if worst[1] > 0 else None

    def __add__(self, other: StateFacts) -> StateFacts:
        """Of both together."""
        names = self.clocks | other.clocks
        return StateFacts(
            entities=self.entities + other.entities,
            bytes=self.bytes + other.bytes,
            clocks={n: self.clocks.get(n, 0) + other.clocks.get(n, 0) for n in names},
            behind_s=self.behind_s | other.behind_s,
        )


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker saw of the batches that went through it.

    Attributes:
        latencies: By hop and device class, counts of latencies (`observe.hops.Counted`) since the
            worker was started.
        spans: Spans since the last of these, only where traces are exported.
        logs: Log lines, the same.
        dropped: Why and how often something was not told, since it was started.
        drift: Of the newest windows, what it counted of them so far.
        model: Digest of the model that `drift` is of.
    """

    latencies: dict[str, dict[str, bytes]] = {}
    spans: list[SpanRecord] = []
    logs: list[LogLine] = []
    dropped: dict[str, int] = {}
    drift: list[WindowCounts] = []
    model: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's totals and where it is, one line on standard output every half second.

    Attributes:
        stage: Stage name.
        ready: All its partitions are taken over and nothing holds it back.
        events: Events by outcome.
        batches: Batches made durable.
        busy_s: Time spent making them durable, seconds.
        rewrites: Checkpoints written whole after a roll-back of the store.
        retries: Repeated steps by error code.
        expired: Events lost to retention.
        replayed: Events folded again on assignment.
        lag: Events behind, all partitions together.
        raw_bytes: Bytes of records read.
        upstream_bytes: Bytes of summaries published.
        rss_mb: Resident memory, MiB.
        cpu_s: CPU time used, seconds.
        held_bytes: Bytes on the wire of what was fetched and is not finished.
        held_limit_bytes: Their bound; 0 before the stage has joined its group.
        state: What it remembers; None for a stage that does not say.
        cache: Share of rows the cache answered, None while it is off.
        calls: Session calls.
        rows: Rows scored by the model.
        cached: Rows answered by the cache.
        model: Digest of the model; empty for a stage without one.
        model_cpu_s: CPU time of its session calls, seconds.
        saved_cpu_s: The same, saved by the cache, estimated.
        topic: Its source topic.
        partitions: Each partition of its share.
        seen: What it saw of its batches; in one line of several.
        beside: Status of the stage that runs in the same process.
        error: Why the worker ends; in its last line only.
    """

    stage: str
    ready: bool
    events: dict[str, int] = {}
    batches: int = 0
    busy_s: float = 0.0
    rewrites: int = 0
    retries: dict[str, int] = {}
    expired: int = 0
    replayed: int = 0
    lag: int = 0
    raw_bytes: int = 0
    upstream_bytes: int = 0
    rss_mb: float = 0.0
    cpu_s: float = 0.0
    held_bytes: int = 0
    held_limit_bytes: int = 0
    state: StateFacts | None = None
    cache: float | None = None
    calls: int = 0
    rows: int = 0
    cached: int = 0
    model: str = ""
    model_cpu_s: float = 0.0
    saved_cpu_s: float = 0.0
    topic: str = ""
    partitions: tuple[PartitionStatus, ...] = ()
    seen: Seen | None = None
    beside: Status | None = None
    error: str | None = None

    @property
    def state_bytes(self) -> int:
        """Memory of what the worker remembers, whichever of its stages does; estimated."""
        return sum(s.state.bytes for s in (self, self.beside) if s is not None and s.state)

    @property
    def sent_upstream_bytes(self) -> int:
        """Bytes of summaries that the worker published, whichever of its stages did."""
        return self.upstream_bytes + (self.beside.sent_upstream_bytes if self.beside else 0)
