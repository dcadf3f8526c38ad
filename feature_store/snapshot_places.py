"""The place that a URL of snapshots names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headrace.feature_store.snapshot_folder import SnapshotFolder
from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.protocols import SnapshotPlace
from headrace.schemas.settings import SnapshotSettings


def open_place(url: str) -> SnapshotPlace:
    """A folder, or object storage.

    Raises:
        MissingExtraError: object storage without the ``snapshots`` extra. Fatal.
        SettingsError: a URL that cannot be used. Fatal.

    Example:
        >>> open_place("file:///var/lib/headrace").place
        '/var/lib/headrace'
    """
    scheme, _, path = url.rpartition("://")
    if scheme in ("", "file"):
        return SnapshotFolder(Path(path).expanduser())
    # Loaded only here: who keeps snapshots in a folder does not need the library.
    from headrace.feature_store.snapshot_bucket import SnapshotBucket

    return SnapshotBucket(url)


def open_snapshots(
    settings: SnapshotSettings, pipeline: str, now: Callable[[], float]
) -> Snapshots | None:
    """A pipeline's snapshots; None where none are kept.

    Args:
        settings: Where they are, how many are kept.
        pipeline: Pipeline name.
        now: Wall clock, seconds since 1970.

    Raises:
        MissingExtraError, SettingsError: fatal.
    """
    if settings.url is None:
        return None
    return Snapshots(open_place(settings.url), pipeline, settings, now)
