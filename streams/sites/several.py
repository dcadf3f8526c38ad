"""Several pipelines under one command: one bus, one store, and apart in everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headrace.schemas.errors import HeadraceError, PipelineFileError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import Settings
from headrace.schemas.topics import topics_of
from headrace.streams.console.shown import Shown
from headrace.streams.health.several import SeveralHealth
from headrace.streams.observe.export import OtlpExport, check_otlp
from headrace.streams.observe.exposition import exposition
from headrace.streams.observe.samples import Histograms, added
from headrace.streams.sites.assembly import Site, shown_of
from headrace.streams.sites.backing import Backing
from headrace.streams.workers.jobs import Endpoints
from headrace.streams.workers.spawning import Spawner

log = logging.getLogger("headrace.sites")


def check_apart(pipelines: Sequence[tuple[Path, Pipeline]]) -> None:
    """Refuse pipelines that would write over each other; they may read one telemetry topic.

    Raises:
        PipelineFileError: two of one name, or two that write to one topic. Fatal.
    """
    named: dict[str, Path] = {}
    written: dict[str, str] = {}
    for file, pipeline in pipelines:
        if pipeline.name in named:
            raise PipelineFileError(
                f"{str(named[pipeline.name])!r} and {str(file)!r} are both called "
                f"{pipeline.name!r}, which names topics, groups and keys of the store; "
                f"give one of them another name"
            )
        named[pipeline.name] = file
        for topic in topics_of(pipeline).all():
            if topic.stage == "telemetry":
                continue
            if topic.name in written:
                raise PipelineFileError(
                    f"pipelines {written[topic.name]!r} and {pipeline.name!r} both write to topic "
                    f"{topic.name!r}; give one of them another in topics.{topic.stage}"
                )
            written[topic.name] = pipeline.name


class Sites:
    """Pipelines that start, fail and stop each by itself.

    Each has its own workers, topics, consumer groups, keys and health. One that ends for good is
    stopped with one line, and the others go on; when the last has ended, so do all.

    Args:
        pipelines: Each pipeline file, and what it says.
        settings: Where the bus and the store of all of them are.
        stages: Stages to run here.
        workers: Processes of each stage.
        start: Where partitions begin that were never read, instead of the files'.

    Attributes:
        running: Each pipeline, by name.
        ended: Why those ended that did, by name.
        health: Of all of them, and of each.

    Raises:
        PipelineFileError: they are not apart. SettingsError: as of `Site`. Fatal.
    """

    def __init__(
        self,
        pipelines: Sequence[tuple[Path, Pipeline]],
        settings: Settings,
        *,
        stages: Sequence[str],
        workers: int = 1,
        start: str | None = None,
    ) -> None:
        check_apart(pipelines)
        check_otlp(settings.otlp)
        self._backing = Backing(settings)
        self._spawner = Spawner()
        self._lives: list[asyncio.Task[None]] = []
        self.ended: dict[str, HeadraceError] = {}
        self.running = {
            pipeline.name: Site(
                file,
                pipeline,
                settings,
                stages=stages,
                workers=workers,
                start=start,
                backing=self._backing,
                prefix="" if len(pipelines) == 1 else f"{pipeline.name}/",
                spawner=self._spawner,
            )
            for file, pipeline in pipelines
        }
        self._export: OtlpExport | None = None
        if settings.otlp.url is not None:
            every = [(site.readings, site.watched) for site in self.running.values()]
            self._export = OtlpExport(settings.otlp, every)
        self._exporting: asyncio.Task[None] | None = None
        self.health = SeveralHealth(
            {name: site.health for name, site in self.running.items()}, self.ended
        )

    def metrics(self, name: str | None = None) -> str | None:
        """Samples as Prometheus reads them, of all pipelines or of one; None of an unknown name."""
        if name is not None and name not in self.running:
            return None
        sites = list(self.running.values()) if name is None else [self.running[name]]
        histograms: Histograms = {}
        for site in sites:
            histograms |= site.readings.histograms()
        return exposition(added(site.watched.samples() for site in sites), histograms)

    def view(self, name: str | None = None) -> dict[str, Any] | None:
        """What is known of all pipelines, or of one; ready to become JSON."""
        if name is not None:
            return self.running[name].watched.view().facts() if name in self.running else None
        return {"pipelines": [site.watched.view().facts() for site in self.running.values()]}

    def shown(self) -> dict[str, Shown]:
        """What the console needs of each pipeline that has its bus and store."""
        return shown_of(self.running.values())

    async def start(self) -> Endpoints:
        """Bring up every pipeline that can be.

        Returns:
            Where bus and store are.

        Raises:
            HeadraceError: none of them started; what the first said.
        """
        loop = asyncio.get_running_loop()
        begun: dict[str, asyncio.Future[Endpoints]] = {
            name: loop.create_future() for name in self.running
        }
        self._lives = [
            asyncio.create_task(self._live(site, begun[name]), name=name)
            for name, site in self.running.items()
        ]
        await asyncio.wait(begun.values())
        _results(self._lives)
        if self._export is not None:
            self._exporting = asyncio.create_task(self._export.run())
            self._exporting.add_done_callback(_say_end)
        for endpoints in begun.values():
            if not endpoints.cancelled():
                return endpoints.result()
        raise self._first_failure()

    async def failed(self) -> None:
        """Wait until the last pipeline has ended, or a local service ends.

        Raises:
            HeadraceError: what the first to end said.
        """
        watching = asyncio.create_task(self._backing.watch())
        try:
            waited = {watching, *self._lives}
            while not all(life.done() for life in self._lives):
                done, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                _results(done)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        raise self._first_failure()

    async def stop(self) -> None:
        """Stop every pipeline, then bus and store; safe at any time, also half-started."""
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        await asyncio.gather(*(site.stop() for site in self.running.values()))
        self._spawner.stop()
        if self._exporting is not None:
            # Last of all: what the workers told while they ended is sent, too.
            self._exporting.cancel()
            await asyncio.gather(self._exporting, return_exceptions=True)
        await self._backing.stop()

    def check(self) -> None:
        """Raise what the first pipeline to end said; harmless where all go on."""
        if self.ended:
            raise self._first_failure()

    def _first_failure(self) -> HeadraceError:
        return next(iter(self.ended.values()))

    async def _live(self, site: Site, begun: asyncio.Future[Endpoints]) -> None:
        """One pipeline from its start to its end; its failure is its own."""
        try:
            begun.set_result(await site.start())
            await site.failed()
        except HeadraceError as error:
            self.ended[site.name] = error
            if len(self.running) > 1:
                log.error("pipeline %s ended: %s", site.name, error)
                await site.stop()
        finally:
            if not begun.done():
                begun.cancel()


def _say_end(exporting: asyncio.Task[None]) -> None:
    if not exporting.cancelled() and (error := exporting.exception()) is not None:
        log.error("telemetry is not exported any more: %s", type(error).__name__)


def _results(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise what those raised that are done: no failure of a task goes unseen."""
    for task in tasks:
        if task.done():
            task.result()
