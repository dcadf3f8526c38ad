"""Snapshots in a folder: each a file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from headrace.schemas.errors import HeadraceError, StoreRefusedError, StoreUnavailableError
from headrace.schemas.protocols import StoredObject

_CHUNK_BYTES = 1 << 20
_UNFINISHED = ".part"


class SnapshotFolder:
    """`SnapshotPlace` in a folder, which is made with the first object.

    Args:
        folder: Where; every worker that may take over a partition must see the same.
    """

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._folder = folder

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """See `SnapshotPlace`: written beside, fsynced, renamed, and the folder fsynced."""
        path = self._folder / name
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_UNFINISHED}")
        with _named("writing", name, self.place):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("xb") as file:
                    file.writelines(pieces)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def get(self, name: str) -> Iterator[bytes]:
        """See `SnapshotPlace`."""
        with (
            _named("reading", name, self.place),
            contextlib.suppress(FileNotFoundError),
            (self._folder / name).open("rb") as file,
        ):
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def objects(self, prefix: str) -> list[StoredObject]:
        """See `SnapshotPlace`."""
        found = []
        with _named("listing", prefix, self.place):
            for path in (self._folder / prefix).rglob("*"):
                if path.suffix == _UNFINISHED:
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    status = path.stat()
                    if path.is_file():
                        name = path.relative_to(self._folder).as_posix()
                        found.append(StoredObject(name, status.st_size))
        return found

    def delete(self, name: str) -> None:
        """See `SnapshotPlace`."""
        with _named("removing", name, self.place):
            (self._folder / name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _named(doing: str, name: str, place: str) -> Iterator[None]:
    """Give the system's errors our names."""
    try:
        yield
    except HeadraceError:
        raise
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise StoreRefusedError(
            f"{doing} snapshot {name!r} in {place!r} failed: {error.strerror}; let the workers "
            f"write there, or name another folder in snapshots.url"
        ) from error
    except OSError as error:
        raise StoreUnavailableError(
            f"{doing} snapshot {name!r} in {place!r} failed: {error.strerror}; "
            f"see to its disk, or name another folder in snapshots.url"
        ) from error
