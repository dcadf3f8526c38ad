"""A stage in a process of its own, for tests that end it: writes each batch to a ledger first."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from headrace.streams.transport.stage import Delivered, Partition, StageTransport


class Ledger:
    """Appends `partition first next` for each batch, then acknowledges it."""

    def __init__(self, path: str, pace_s: float) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._pace_s = pace_s

    async def assigned(self, partitions: frozenset[Partition]) -> None:
        pass

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        pass

    async def batch(self, delivered: Delivered) -> None:
        await asyncio.sleep(self._pace_s)
        records = delivered.records
        values = [int(value) for value in records.values if value is not None]
        assert values == records.offsets.tolist()
        line = f"{records.partition} {delivered.first} {delivered.next}\n"
        os.write(self._file, line.encode())
        delivered.done()


async def main() -> None:
    address, embedded, topic, ledger, pace_s = sys.argv[1:]
    stage = StageTransport(
        group=f"g-{topic}",
        topics=[topic],
        client_options={"bootstrap_servers": address},
        embedded=embedded == "embedded",
        handler=Ledger(ledger, float(pace_s)),
        batch_rows=100,
        commit_interval_s=0.1,
        shutdown_s=3.0,
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(stage.stop()))
    await stage.run()


if __name__ == "__main__":
    asyncio.run(main())
