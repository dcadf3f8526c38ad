"""What every store offers: online rows, checkpoints, and a word about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headrace.schemas.protocols import CheckpointStore, OnlineStore


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the store is.

    Attributes:
        text: One line: product, version, memory, persistence.
        warnings: One line for each thing to mend.
    """

    text: str
    warnings: tuple[str, ...]


class Store(OnlineStore, CheckpointStore, Protocol):
    """Both stores on one way to one place."""

    async def ping(self) -> None:
        """Ask every server for a sign of life.

        Raises:
            StoreUnavailableError: retryable. StoreRefusedError: fatal.
        """

    async def server_info(self) -> ServerInfo:
        """What the store is, and what about it is wrong for us."""

    async def close(self) -> None:
        """Close every connection; a later call opens new ones."""
