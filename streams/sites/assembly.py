"""One pipeline running on this machine: topics, positions, workers, health; all or nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from headrace.schemas.errors import FatalError, SettingsError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prices import load_prices
from headrace.schemas.settings import Settings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.client.clock import wall_clock
from headrace.streams.console.shown import Shown
from headrace.streams.health.site_health import SETTLE_S, SiteHealth
from headrace.streams.health.verdict import Limits
from headrace.streams.local.services import bus_kind
from headrace.streams.observe.canary_book import CanaryBook
from headrace.streams.observe.energy import EnergyMeter
from headrace.streams.observe.history import History, teller_of
from headrace.streams.observe.history_topic import HistoryTopic
from headrace.streams.observe.perceived import Perceived
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.site_watch import SiteWatch
from headrace.streams.observe.webhook import Webhook
from headrace.streams.sites.backing import Backing
from headrace.streams.sites.modes import check_mode, check_transactions
from headrace.streams.sites.positions import check_store, settle_positions
from headrace.streams.workers.jobs import Endpoints, Status, stages_of
from headrace.streams.workers.spawning import Spawner
from headrace.streams.workers.supervisor import Supervisor


class Site:
    """Everything a pipeline needs, started together and stopped in order.

    Raises:
        SettingsError: several workers of a stage on the embedded bus, or exactly-once delivery on
            it; or none of the stages is one of the pipeline's. Fatal.

    Args:
        file: Pipeline file.
        pipeline: What it says.
        settings: Where bus and store are; ``local`` ones are started here and end with us.
        stages: Stages to run here.
        workers: Processes of each stage.
        start: Where partitions begin that were never read, instead of the file's.
        on_status: Told of every worker's status.
        backing: Bus and store that other pipelines use too, and that outlive this one; None opens
            its own, which end with it.
        prefix: Put before the workers' names, to tell pipelines apart.
        spawner: Starts the workers of other pipelines too, and outlives this one; None is an own.
    """

    def __init__(
        self,
        file: Path,
        pipeline: Pipeline,
        settings: Settings,
        *,
        stages: Sequence[str],
        workers: int = 1,
        start: str | None = None,
        on_status: Callable[[Status], None] | None = None,
        backing: Backing | None = None,
        prefix: str = "",
        spawner: Spawner | None = None,
    ) -> None:
        if workers > 1 and bus_kind(settings) == "embedded":
            raise SettingsError(
                f"{workers} workers of one stage were asked of the embedded bus, on which two "
                f"members do not settle in one group; run: headrace kafka --install"
            )
        check_mode(pipeline, embedded=bus_kind(settings) == "embedded")
        self.pipeline = pipeline
        self._settings = settings
        self._stages = tuple(stage for stage in stages_of(pipeline) if stage in stages)
        if not self._stages:
            raise SettingsError(
                f"pipeline {pipeline.name!r} has the stages {', '.join(stages_of(pipeline))}, "
                f"asked for were {', '.join(stages)}; an intake stage comes with input.rekey"
            )
        self._start = start
        self.backing = backing or Backing(settings)
        self._owns_backing = backing is None
        self.supervisor = Supervisor(
            file,
            self._stages,
            workers=workers,
            on_status=on_status,
            prefix=prefix,
            spawner=spawner,
        )
        limits = Limits(
            stuck_after_s=pipeline.delivery.stuck_after_s,
            stuck_restart_s=pipeline.delivery.stuck_restart_s,
        )
        self.health = SiteHealth(self.supervisor, limits, pipeline.name)
        self.readings = Readings(pipeline.name, self.supervisor)
        url, listed = settings.alerts.url, settings.prices.file
        prices = None if listed is None else load_prices(Path(listed))
        self.watched = SiteWatch(
            pipeline,
            self.readings,
            self.health,
            self._stages,
            webhook=None if url is None else Webhook(url),
            prices=prices,
            meter=None if prices is None else EnergyMeter(),
        )
        self._watching: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.pipeline.name

    async def start(self) -> Endpoints:
        """Bring everything up; workers import and check their model while services start.

        Returns:
            Where bus and store are; the workers are told and are joining their groups.

        Raises:
            FatalError: one line; nothing is left running after `stop`.
        """
        self.supervisor.start()
        failed = asyncio.create_task(self.supervisor.failed())
        services = asyncio.create_task(self._services())
        try:
            await asyncio.wait({failed, services}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            endpoints = await services
        finally:
            failed.cancel()
            services.cancel()
            await asyncio.gather(failed, services, return_exceptions=True)
        self._watching = asyncio.create_task(self._watch(endpoints))
        return endpoints

    async def failed(self) -> None:
        """Wait until a worker ends for good, or a local service ends or holds too much memory.

        A worker also ends for good when it is stuck again after it was started again for that.

        Raises:
            FatalError: one line.
        """
        watches = [self.supervisor.failed()]
        if self._owns_backing:
            watches.append(self.backing.watch())
        tasks = [asyncio.create_task(watch) for watch in watches]
        # It never ends by itself, unless with an error that must not go unseen.
        watching = [self._watching] if self._watching is not None else []
        try:
            done, _ = await asyncio.wait([*tasks, *watching], return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Stop workers, then bus and store of our own; safe at any time, also half-started."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.supervisor.stop()
        if self._owns_backing:
            await self.backing.stop()

    async def _watch(self, endpoints: Endpoints) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.health.watch(endpoints))
            group.create_task(self.watched.watch())
            group.create_task(self._keep_history())
            group.create_task(self._probe())

    async def _keep_history(self) -> None:
        """Write what is seen to its topic, once the first prediction need not wait for that."""
        with suppress(FatalError):  # told by `failed`
            await self.supervisor.ready()
            await asyncio.sleep(SETTLE_S)
            if self.backing.bus is None:
                raise AssertionError("unreachable")
            teller = teller_of(self.name, self._stages)
            history = History(self.pipeline, self.readings, self.watched.book, teller)
            topic = topics_of(self.pipeline).observed.name
            options = self.backing.bus.options
            perceived = Perceived(round(wall_clock() * 1000), self.readings.perceive)
            async with asyncio.TaskGroup() as group:
                group.create_task(HistoryTopic(options, topic, history).run())
                group.create_task(perceived.follow(options, topic))

    async def _probe(self) -> None:
        """Send probes, where the pipeline has any and both its ends are here."""
        canary, bus = self.pipeline.canary, self.backing.bus
        if canary is None or bus is None or not {"enrich", "serve"} <= set(self._stages):
            return
        with suppress(FatalError):  # told by `failed`
            await self.supervisor.ready()
            # Loaded only now: the first prediction does not wait for it.
            from headrace.streams.observe.prober import Prober

            book = self.readings.canary = self.health.canary = CanaryBook()
            life = os.urandom(8).hex()
            await Prober(self.pipeline, canary, bus.options, book, life=life).run()

    async def _services(self) -> Endpoints:
        running_bus, running_store = await self.backing.open()
        if running_store.kind == "remote":
            await check_store(running_store.settings, self.pipeline.name)
        await check_transactions(self.pipeline, running_bus.options)
        topics = topics_of(self.pipeline)
        await ensure_topics(running_bus.options, topics.all())
        endpoints = Endpoints(
            bus=running_bus.settings,
            store=running_store.settings,
            embedded=running_bus.kind == "embedded",
            snapshots=self._settings.snapshots,
            tracing=self._settings.otlp.url is not None,
            hold=True,
            shutdown_s=self._settings.worker.shutdown_s,
        )
        self.supervisor.connect(endpoints)
        await settle_positions(
            self.pipeline,
            topics,
            self._stages,
            running_bus.options,
            None if endpoints.embedded else running_store.settings,
            start=self._start,
            empty=await running_store.empty(),
        )
        self.supervisor.begin()
        return endpoints


def shown_of(sites: Iterable[Site]) -> dict[str, Shown]:
    """What the console needs of each pipeline that has its bus and store, by name."""
    return {
        site.name: Shown(site.pipeline, site.watched, site.readings, bus.options, store.settings)
        for site in sites
        for bus, store in [(site.backing.bus, site.backing.store)]
        if bus is not None and store is not None
    }
