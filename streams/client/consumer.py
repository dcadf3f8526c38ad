"""Consumer: typed predictions, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.connect import bus_of
from headrace.streams.client.latency import Latency
from headrace.streams.client.predictions import Predictions
from headrace.streams.client.received import Received
from headrace.streams.client.report import LatencyReport
from headrace.streams.client.topic_reader import TopicReader


class Consumer(TopicReader[Received]):
    """Predictions of a pipeline, in the order of each source partition.

    .. code-block:: python

        async with Consumer(bus, pipeline, group="brakes", deadline_ms=200) as predictions:
            async for prediction in predictions:
                hold() if prediction.degraded else act(prediction)

    A repeat, which a restarted worker makes, is dropped by the highest source offset seen of its
    source partition: exactly, however old it is. An amendment (a higher `rev` of an id) is
    delivered with `supersedes` set; a lower or equal one is dropped. What is committed when:
    see `TopicReader`. Predictions of probes (`[canary]`) are passed over.

    Args:
        bus: Connection settings, aiokafka client options, or a `Bus`.
        pipeline: The pipeline, or the name of a predictions topic.
        group: Consumer group; None reads alone and commits nothing.
        deadline_ms: Predictions whose event is older than this on arrival are `overdue`.
        on_overdue: Is given the overdue ones instead of the loop. An exception in it goes to the
            caller, and the prediction counts as not delivered.
        start: Where a group that never read begins: ``latest``, ``earliest``, an RFC 3339 time.
        follow: False ends the loop at what the topic held on opening.
        max_rows: Most predictions of one batch.
        commit_every_s: Time between two commits, seconds.
        report: Tell the pipeline once a minute how long predictions took to arrive, on its topic
            `observed`, which must then be writable; reading never waits for that.
        now: Wall clock, seconds since 1970.

    Raises:
        SettingsError: `report` with no more of the pipeline than a topic's name. Fatal.

    Delivery: at-least-once towards the caller; of what the caller finished, once.
    """

    def __init__(
        self,
        bus: BusSettings | Mapping[str, Any] | Bus,
        pipeline: Pipeline | str,
        *,
        group: str | None = None,
        deadline_ms: float | None = None,
        on_overdue: Callable[[Received], None] | None = None,
        start: str = "latest",
        follow: bool = True,
        max_rows: int = 2000,
        commit_every_s: float = 1.0,
        report: bool = False,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        bus = bus_of(bus)
        topic = pipeline if isinstance(pipeline, str) else topics_of(pipeline).predictions.name
        content = Predictions(deadline_ms=deadline_ms)
        super().__init__(
            bus,
            topic,
            content,
            group=group,
            start=start,
            follow=follow,
            max_rows=max_rows,
            commit_every_s=commit_every_s,
            now=now,
        )
        self._content, self._on_overdue = content, on_overdue
        self._report = _reporting(bus, pipeline, content, now) if report else None

    async def __aenter__(self) -> Self:
        """See `TopicReader`."""
        await super().__aenter__()
        if self._report is not None:
            self._report.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            if self._report is not None:
                await self._report.stop()

    @property
    def latency(self) -> Latency:
        """Perceived latency of everything delivered: arrival less the device's time."""
        return self._content.latency

    def _accept(self, items: list[Received]) -> list[Received]:
        if self._content.probed:
            items = [item for item in items if not item.probe]
        if self._on_overdue is None:
            return items
        for item in items:
            if item.overdue:
                self._on_overdue(item)
        return [item for item in items if not item.overdue]


def _reporting(
    bus: Bus, pipeline: Pipeline | str, content: Predictions, now: Callable[[], float]
) -> LatencyReport:
    """What tells of `content`'s latencies."""
    if isinstance(pipeline, str):
        raise SettingsError(
            f"reporting latencies of topic {pipeline!r} was asked for, expected its pipeline, "
            f"which names the topic they go to; pass the pipeline, or leave `report` out"
        )
    content.since_served = Latency()
    latencies = {
        "prediction_to_consumer": content.since_served,
        "device_to_consumer": content.latency,
    }
    return LatencyReport(bus, pipeline, latencies, now=now)
