"""How long a snapshot holds up the event loop: ``python benchmarks/recovery/stall.py``.

One partition's checkpoint is written batch by batch through the store that keeps snapshots, first
while none is due and then while one is being written all the time. A probe asks the loop for the
next millisecond and notes how much later it came. Beside it: the same state dumped in one piece,
which is what a snapshot without remembered changes would cost at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.snapshot_places import open_snapshots
from headrace.feature_store.snapshotting import SnapshottingStore
from headrace.schemas.protocols import CheckpointMeta
from headrace.schemas.settings import SnapshotSettings
from headrace.streams.client.clock import wall_clock

KEY = "enrich/telemetry/0"
ROW_BYTES = 256
BATCH_ROWS = 3000
BATCH_EVERY_S = 0.015
PROBE_S = 0.001


def meta(position: int) -> CheckpointMeta:
    """What a checkpoint at this position says of itself."""
    return CheckpointMeta(
        position=position, layout="l", format=1, partitions=1, numerics="n", epoch=0, last=None
    )


class NoStore(MemoryStore):
    """Takes everything and keeps nothing: what is measured is ours."""

    async def write(self, key, **kwargs):  # type: ignore[no-untyped-def, override]
        """Written, it says."""
        kwargs["changed"] = kwargs["dropped"] = []
        return await super().write(key, **kwargs)


async def probe(lags_ms: list[float], until: asyncio.Event) -> None:
    """Note how much later than asked the loop comes back."""
    while not until.is_set():
        asked = time.perf_counter()
        await asyncio.sleep(PROBE_S)
        lags_ms.append((time.perf_counter() - asked - PROBE_S) * 1000)


async def run(devices: int, seconds: float, every_s: float) -> dict[str, float]:
    """Batches for so long; lags of the loop, and what was written meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SnapshotSettings(url=folder, every_s=every_s, keep=2)
        kept = open_snapshots(settings, "bench", wall_clock)
        assert kept is not None
        store = SnapshottingStore(NoStore(), kept, every_s=every_s)
        await store.claim(KEY)
        names = [b"rdevice-%07d" % n for n in range(devices)]
        whole = [(name, bytes(ROW_BYTES)) for name in names]
        await store.rewrite(KEY, claim=1, meta=meta(0), fields=whole)
        await store.write(KEY, claim=1, base=0, meta=meta(1), changed=[], dropped=[])
        await asyncio.gather(*store._jobs)  # the first one, after a takeover
        lags_ms: list[float] = []
        stop = asyncio.Event()
        probing = asyncio.create_task(probe(lags_ms, stop))
        at, jobs, ends = 1, 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            first = at * BATCH_ROWS % devices
            value = at.to_bytes(8, "little") * (ROW_BYTES // 8)
            rows = [(names[(first + n) % devices], value) for n in range(min(BATCH_ROWS, devices))]
            before = len(store._jobs)
            await store.write(KEY, claim=1, base=at, meta=meta(at + 1), changed=rows, dropped=[])
            jobs += len(store._jobs) > before
            at += 1
            await asyncio.sleep(BATCH_EVERY_S)
        stop.set()
        await probing
        await asyncio.gather(*store._jobs)
        stored = kept.stored(KEY)
        cuts = statistics.quantiles(lags_ms, n=1000)
        return {
            "p50_ms": round(cuts[499], 2), "p99_ms": round(cuts[989], 2),
            "p99.9_ms": round(cuts[998], 2), "max_ms": round(max(lags_ms), 2),
            "snapshots": jobs, "bytes": stored[0].size,
        }  # fmt: skip


def at_once(devices: int) -> float:
    """What dumping the state in one piece takes, milliseconds."""
    rows = [(b"rdevice-%07d" % n, bytes(ROW_BYTES)) for n in range(devices)]
    began = time.perf_counter()
    b"".join([part for pair in rows for part in pair])
    return round((time.perf_counter() - began) * 1000, 1)


def main() -> None:
    """Print a line of JSON for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", default="1000,100000", help="of one partition")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    asked = parser.parse_args()
    gc.disable()  # as in a worker, which collects between batches
    for devices in map(int, asked.devices.split(",")):
        found = {
            "devices": devices,
            "at_once_ms": at_once(devices),
            "none_due": asyncio.run(run(devices, asked.seconds, 3600.0)),
            "always_one_due": asyncio.run(run(devices, asked.seconds, 1e-6)),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
