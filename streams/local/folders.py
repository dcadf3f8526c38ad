"""Folders of local services: where they are, who owns them, and removal of what was left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headrace.schemas.errors import LocalServiceError

LOCK = "lock"


def cache_folder() -> Path:
    """This user's cache folder for Headrace: ``$XDG_CACHE_HOME/headrace`` or the system's place."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named) / "headrace"
    inside = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / inside / "headrace"


class OwnedFolder:
    """A folder that one live process at a time owns, by an advisory lock on a file in it.

    The lock's descriptor is also handed to the service that runs in the folder, so the folder
    stays owned until starter *and* service are gone, however they end.

    Args:
        path: The folder.
        temporary: Remove it on `release`.
    """

    def __init__(self, path: Path, *, temporary: bool) -> None:
        self.path = path
        self.temporary = temporary
        self._lock: int | None = None

    @property
    def lock(self) -> int:
        """Descriptor of the held lock."""
        if self._lock is None:
            raise LocalServiceError(f"folder {str(self.path)!r} is not owned by this process")
        return self._lock

    def acquire(self) -> bool:
        """Make the folder and own it; False when another live process does.

        Raises:
            LocalServiceError: the folder cannot be written. Fatal.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(descriptor, wait=False):
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def release(self) -> None:
        """Give the folder up; a temporary one is removed. Harmless when it is not owned."""
        if self._lock is None:
            return
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = None


def temporary_folder(base: Path, name: str) -> OwnedFolder:
    """A new folder ``<base>/run/<name>-…`` of our own; folders without a live owner are removed.

    Raises:
        LocalServiceError: `base` cannot be written. Fatal.
    """
    run = base / "run"
    with writing(run):
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(run):
            _sweep(run)
            folder = OwnedFolder(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=run)), temporary=True)
            folder.acquire()
    return folder


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the folder and the setting.

    Raises:
        LocalServiceError: the body raised OSError. Fatal.
    """
    try:
        yield
    except OSError as error:
        raise LocalServiceError(
            f"local services cannot write to {str(path)!r}: {error.strerror or error}; "
            f"name a writable folder in worker.data_dir (HEADRACE_WORKER_DATA_DIR)"
        ) from error


def _lock(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Between making a folder and locking it nobody else may sweep."""
    descriptor = os.open(run / f".{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _sweep(run: Path) -> None:
    """Remove the folders whose lock nobody holds."""
    for path in run.iterdir():
        left = OwnedFolder(path, temporary=True)
        if path.is_dir() and left.acquire():
            left.release()
