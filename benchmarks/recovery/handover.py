"""How long predictions pause at a hand-over: ``python benchmarks/recovery/handover.py``.

Two workers of ENRICH and one of SERVE on a local Kafka and store, a steady stream of events over
four partitions. ENRICH's second worker joins, leaves in order (SIGTERM) and, joined again, is
killed (SIGKILL). The pause of a partition is the longest time between two of its predictions, by
the broker's clock, from the strike on. Two partitions move each time and two stay; the rebalance is
eager, so all of them stop.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from pathlib import Path

from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.drill.target import Target
from headrace.streams.drill.workers import Workers
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.workers.jobs import Endpoints

PARTITIONS = 4
EVERY_S = 0.02
"""One event of each partition: 50 a second each, so a pause is told to 20 ms."""

MODEL = Path(__file__).parents[2] / "examples" / "press" / "model.onnx"

FILE = """
name = "handover"

[input]
time_unit = "ms"
max_skew_s = 1e9
allowed_lateness_s = 1.0
id = ""

[input.metrics]
{metrics}

[views.machine]
features = [{{ op = "raw", metrics = ["*"] }}]

[model]
file = "model.onnx"

[topics]
partitions = 4

[delivery]
start = "earliest"
"""


def file_in(folder: Path, inputs: int) -> Path:
    """A pipeline whose model takes so many raw metrics."""
    metrics = "\n".join(f"m{n} = {{}}" for n in range(inputs))
    file = folder / "handover.toml"
    file.write_text(FILE.format(metrics=metrics))
    return file


async def send(target: Target, devices: int, inputs: int) -> None:
    """One event of every partition every so often, of each device in turn, for ever."""
    writer = KafkaBus(target.options).writer(target.topics.telemetry.name)
    await writer.start()
    try:
        for turn in itertools.count():
            at_ms = round(wall_clock() * 1000)
            event = {"time": at_ms, "metrics": {f"m{n}": turn % 7 for n in range(inputs)}}
            for partition in range(PARTITIONS):
                device = f"d{partition}-{turn % devices}"
                value = json.dumps({"device_id": device, **event}).encode()
                await writer.write(partition, [device.encode()], [value], [[]])
            await asyncio.sleep(EVERY_S)
    finally:
        await writer.stop()


async def fill(target: Target, devices: int, inputs: int) -> None:
    """One event of every device, so that there is state to take over."""
    writer = KafkaBus(target.options).writer(target.topics.telemetry.name)
    await writer.start()
    metrics = {f"m{n}": 1.0 for n in range(inputs)}
    for partition, first in itertools.product(range(PARTITIONS), range(0, devices, 2000)):
        names = [f"d{partition}-{n}" for n in range(first, min(first + 2000, devices))]
        event = {"time": round(wall_clock() * 1000), "metrics": metrics}
        values = [json.dumps({"device_id": name, **event}).encode() for name in names]
        await writer.write(partition, [name.encode() for name in names], values, [[]] * len(names))
    await writer.stop()


async def pauses_ms(target: Target, since_ms: int) -> dict[int, int]:
    """Of each partition the longest time between two predictions since then."""
    topic, found = target.topics.predictions.name, {}
    for partition, (begin, end) in (await log_ranges(target.options, topic)).items():
        times = [since_ms]
        async for records in read_range(target.options, topic, partition, begin, end):
            times += [at for at in records.log_times_ms.tolist() if at >= since_ms]
        found[partition] = max(b - a for a, b in itertools.pairwise(times))
    return found


async def measure(target: Target, devices: int, inputs: int) -> dict[str, dict[int, int]]:
    """The pauses of each way to change hands."""
    workers, found = Workers(target), {}
    try:
        await target.prepare()
        await fill(target, devices, inputs)
        workers.start("enrich", "serve")
        await workers.ready()
        sending = asyncio.create_task(send(target, devices, inputs))
        await asyncio.sleep(10.0)

        async def struck(what: str, settle_s: float) -> None:
            since_ms = round(wall_clock() * 1000)
            if what.startswith("joins"):
                workers.start("enrich-2")
                await workers.ready("enrich-2")
            elif what == "leaves":
                await workers.terminate("enrich-2")
            else:
                workers.kill("enrich-2")
            await asyncio.sleep(settle_s)
            found[what] = await pauses_ms(target, since_ms)

        for what, settle_s in (("joins", 6.0), ("leaves", 6.0), ("joins again", 6.0),
                               ("is killed", 20.0)):  # fmt: skip
            await struck(what, settle_s)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await workers.stop()
    finally:
        workers.end()
    return found


async def run(devices: int) -> dict[str, object]:
    """Services, the measurement, and everything gone again."""
    from onnxruntime import InferenceSession

    inputs = InferenceSession(MODEL).get_inputs()[0].shape[-1]
    bus, store = LocalKafka(), EmbeddedStore()
    began = time.monotonic()
    try:
        await asyncio.gather(bus.start(), store.start())
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "model.onnx").write_bytes(MODEL.read_bytes())
            places = Endpoints(
                bus=BusSettings(url=bus.url), store=StoreSettings(url=store.url), embedded=False
            )
            target = Target(file_in(folder, inputs), places)
            found = await measure(target, devices, inputs)
    finally:
        await asyncio.gather(bus.stop(), store.stop())
    return {"devices": devices, "pauses_ms": found, "seconds": round(time.monotonic() - began)}


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1000, help="of each partition")
    print(json.dumps(asyncio.run(run(parser.parse_args().devices))))


if __name__ == "__main__":
    main()
