"""What a worker serves, kept beside the snapshots: a replay follows a model by its digest."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from headrace.feature_store.snapshot_places import open_place
from headrace.schemas.errors import HeadraceError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import SnapshotSettings
from headrace.streams.client.clock import wall_clock

log = logging.getLogger("headrace.replay")


async def remember_served(
    settings: SnapshotSettings, pipeline: Pipeline, folder: Path, digest: str
) -> None:
    """Keep the pipeline file, registry and model that are served from now on.

    What cannot be kept is a line in the log: it never holds up or ends a worker.

    Args:
        settings: Where snapshots are kept; without a place nothing is.
        pipeline: What is served.
        folder: Where its model and registry files are.
        digest: First 8 hex digits of the digest of the model that is served.
    """
    if settings.url is None:
        return
    try:
        kept = await asyncio.to_thread(_keep, settings.url, pipeline, folder)
    except (HeadraceError, OSError) as error:
        log.warning("the model that is served was not kept for replays: %s", error)
        return
    if kept != digest:
        log.warning(
            "model file %r was changed while its worker started: model %s is not kept for replays",
            pipeline.model.file, digest,
        )  # fmt: skip


def _keep(url: str, pipeline: Pipeline, folder: Path) -> str:
    # Loaded on the thread: nothing of it is needed for the first prediction.
    from headrace.serving.repository import Repository
    from headrace.streams.agents.registry_file import registry_text

    repository = Repository(open_place(url), pipeline.name, wall_clock)
    content = (folder / pipeline.model.file).read_bytes()
    registry, numerics = registry_text(pipeline, folder), numerics_fingerprint()
    return repository.keep(pipeline, content, registry, numerics=numerics).model_digest
