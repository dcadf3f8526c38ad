"""Starts local services, tells their process ids, then waits to be killed; run as a script."""

import asyncio
import json
import sys
import threading
from pathlib import Path

from headrace.streams.local.embedded_bus import EmbeddedBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.local_kafka import LocalKafka

MAKE = {"bus": EmbeddedBus, "store": EmbeddedStore, "kafka": LocalKafka}


async def main(base: Path, kinds: list[str]) -> None:
    services = [MAKE[kind](base=base) for kind in kinds]
    urls = await asyncio.gather(*(service.start() for service in services))
    print(json.dumps({"urls": urls, "pids": [s.service.pid for s in services]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    where, how, *wanted = sys.argv[1:]
    if how == "thread":  # not the main thread: the watcher must do what the kernel does not
        thread = threading.Thread(target=lambda: asyncio.run(main(Path(where), wanted)))
        thread.start()
        thread.join()
    asyncio.run(main(Path(where), wanted))
