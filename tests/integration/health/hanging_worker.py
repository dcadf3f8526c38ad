"""A worker whose publisher hangs while a file exists: ``hanging_worker.py STAGE PIPELINE``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.schemas.protocols import Output
from headrace.streams.transport.publish import KafkaPublisher
from headrace.streams.workers.worker import main

publish = KafkaPublisher.publish


async def hang(self: KafkaPublisher, outputs: Sequence[Output]) -> None:
    """Neither an answer nor an error, as of a client with a bug."""
    if Path(sys.argv[2]).with_name("hang").exists():
        await asyncio.Event().wait()
    await publish(self, outputs)


KafkaPublisher.publish = hang  # type: ignore[method-assign]
main()
