"""The door to `obstore`: snapshots in object storage (S3 and what speaks like it, GCS, Azure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from headrace.schemas.errors import (
    MissingExtraError,
    SettingsError,
    StoreRefusedError,
    StoreUnavailableError,
)
from headrace.schemas.protocols import StoredObject

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_TIMEOUT = timedelta(seconds=30)
_CHUNK_BYTES = 5 << 20
"""One part of an upload: the smallest that S3 takes."""


class SnapshotBucket:
    """`SnapshotPlace` in object storage, where an object is whole or not there by itself.

    Credentials, region and endpoint come from the environment, by the names that the storage's own
    tools read (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …).

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://…``.

    Raises:
        MissingExtraError: `obstore` is not installed. Fatal.
        SettingsError: a URL or environment that it cannot use. Fatal.
    """

    def __init__(self, url: str) -> None:
        self.place = url
        self._store = _opened(url)

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """See `SnapshotPlace`: an upload in parts, which is seen when it is complete."""
        import obstore

        with _named("writing", name, self.place):
            obstore.put(
                self._store, name, iter(pieces), use_multipart=True, chunk_size=_CHUNK_BYTES,
                max_concurrency=1,
            )  # fmt: skip

    def get(self, name: str) -> Iterator[bytes]:
        """See `SnapshotPlace`."""
        import obstore

        with _named("reading", name, self.place):
            try:
                answer = obstore.get(self._store, name)
            except FileNotFoundError:
                return
            for chunk in answer.stream():
                yield bytes(chunk)

    def objects(self, prefix: str) -> list[StoredObject]:
        """See `SnapshotPlace`."""
        import obstore

        with _named("listing", prefix, self.place):
            pages = obstore.list(self._store, prefix)
            return [StoredObject(found["path"], found["size"]) for page in pages for found in page]

    def delete(self, name: str) -> None:
        """See `SnapshotPlace`."""
        import obstore

        with _named("removing", name, self.place), suppress(FileNotFoundError):
            obstore.delete(self._store, name)


def _opened(url: str) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtraError(
            package="obstore", extra="snapshots", needed_for=f"snapshots in {url!r}"
        ) from error
    try:
        # Plain HTTP only where the endpoint in the environment says http.
        return from_url(url, client_options={"timeout": _TIMEOUT, "allow_http": True})
    except (BaseError, ValueError) as error:
        raise SettingsError(
            f"snapshots.url {url!r} cannot be used: {_first_line(error)}; set the credentials, "
            f"region and endpoint of that storage in the environment"
        ) from error


@contextmanager
def _named(doing: str, name: str, place: str) -> Iterator[None]:
    """Give the library's errors our names."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    tried = f"{doing} snapshot {name!r} at {place}"
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreRefusedError(
            f"{tried} was refused: {_first_line(error)}; give the workers' credentials the right "
            f"to list, read, write and delete there"
        ) from error
    except (BaseError, OSError) as error:
        raise StoreUnavailableError(
            f"{tried} failed: {_first_line(error)}; see to that storage and the way to it"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
