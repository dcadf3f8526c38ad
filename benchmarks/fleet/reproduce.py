"""A million events of a fleet, killed workers and a new model; then all of it computed anew.

``make reproduce``: a Kafka and a store of its own, ``headrace up`` fed by ``produce fleet``, its
workers SIGKILLed meanwhile, the model exchanged half-way; then ``headrace replay reproduce`` over
everything, and again with one bit changed in a copy of the features topic. The last line is one
JSON object; exit code 1 where a bit differs, or the changed one is not found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fleet_site import Site

from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec, topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.replay.past import BusLog

KILL_EVERY_S, PATIENCE_S = 3.0, 60.0


def another_model(file: Path) -> None:
    """The same model with its weights a little smaller: other scores, other digest."""
    model = onnx.load(file)
    for constant in model.graph.initializer:
        if constant.name.startswith("coefficient"):
            values = onnx.numpy_helper.to_array(constant) * np.float32(0.97)
            constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
    onnx.save(model, file)


async def kill_workers(site: Site, kills: list[int]) -> None:
    """SIGKILL a worker now and then; its supervisor starts it again."""
    while True:
        await asyncio.sleep(KILL_EVERY_S)
        workers = site.worker_pids()
        if workers:
            victim = workers[len(kills) % len(workers)]
            os.kill(victim, signal.SIGKILL)
            kills.append(victim)


async def half(
    site: Site, ledger: Path, events: int, rate: int, kills: list[int], seed: int
) -> int:
    """Send half of the events while workers are killed, and wait until all are served."""
    async with site:
        killing = asyncio.create_task(kill_workers(site, kills))
        options = {"devices": 1000, "rate": rate, "seconds": events / rate, "seed": seed}
        sent = await site.run(
            "produce", "fleet", "--ledger", str(ledger),
            *(f"--{name}={value:g}" for name, value in options.items()),
        )  # fmt: skip
        killing.cancel()
        await site.served()
    return int(sent["events"])


async def planted(site: Site, bus: str) -> tuple[Path, str, str]:
    """A copy of the features of partition 0 with one bit changed, and a file that reads it.

    Returns:
        The pipeline file; the changed event and the changed column.
    """
    pipeline = load_pipeline(site.file)
    topics, options = topics_of(pipeline), client_options(BusSettings(url=bus))
    copy = f"{topics.features.name}-planted"
    spec = TopicSpec(copy, "features", topics.features.partitions, 86_400_000, "derived", ours=True)
    await ensure_topics(options, [spec])
    writer, place = KafkaBus(options).writer(copy), ("", "")
    await writer.start()
    async with BusLog(options) as log:
        _, end = await log.log_range(topics.features.name, 0)
        async for records in log.read_range(topics.features.name, 0, 0, end):
            values = [value or b"" for value in records.values]
            for row, value in enumerate(values):
                block = FeatureBlock.decode(value)
                if not place[0] and records.offsets[row] >= end // 2 and len(block) > 3:
                    block.features = block.features.copy()
                    block.features.view(np.int64)[2, 5] ^= 1
                    values[row] = block.encode()
                    place = f"{block.topic}[0]@{block.offsets[2]}", block.columns[5]
            await writer.write(0, [None] * len(values), values, [[]] * len(values))
    await writer.stop()
    file = site.file.with_name("planted.toml")
    text = site.file.read_text("utf-8")
    file.write_text(text.replace("[topics]\n", f'[topics]\nfeatures = "{copy}"\n'), "utf-8")
    return file, *place


async def main(events: int, rate: int) -> int:
    """The whole of it."""
    kafka, store, kills = LocalKafka(), EmbeddedStore(), list[int]()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-past-")))
        bus_url = await kafka.start()
        stack.push_async_callback(kafka.stop)
        store_url = await store.start()
        stack.push_async_callback(store.stop)
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        places = {"HEADRACE_BUS": bus_url, "HEADRACE_STORE": store_url, "PYTHONUNBUFFERED": "1"}
        places |= {"HEADRACE_SNAPSHOTS": str(folder / "kept"), "HEADRACE_SNAPSHOTS_EVERY_S": "4"}
        site = Site("past", folder, own | places)
        site.without_golden()
        sent = await half(site, folder / "first.ndjson", events // 2, rate, kills, 1)
        another_model(site.file.with_name("model.onnx"))
        sent += await half(site, folder / "second.ndjson", events // 2, rate, kills, 2)
        print(f"sent {sent:,} events, killed {len(kills)} workers, one new model", flush=True)
        found = await site.run("replay", "reproduce", "--full-speed", code=(0, 1))
        middle = f"0:{sent // 8}-{sent // 7}"
        stretch = await site.run(
            "replay", "reproduce", "--full-speed", "--offsets", middle, code=(0, 1)
        )
        file, source, column = await planted(site, bus_url)
        site.file = file
        bad = await site.run("replay", "reproduce", "--full-speed", "--offsets", "0", code=(0, 1))
    first = bad["features"]["differences"]["first"]
    located = [(one["source"], one["column"]) for one in first] == [(source, column)]
    report: dict[str, Any] = {
        "sent": sent,
        "kills": len(kills),
        "models": found["models"],
        "reproduced": found["reproduced"],
        "differing_bits": found["differing_bits"],
        "features": _counts(found["features"]),
        "predictions": _counts(found["predictions"]),
        "records_per_s": round(sum(p["records"] for p in found["partitions"]) / found["seconds"]),
        "reservations": found["reservations"],
        "stretch": {
            "reproduced": stretch["reproduced"],
            "begun": stretch["partitions"][0]["begun"],
            "features": _counts(stretch["features"]),
        },
        "planted": {"source": source, "column": column, "found": first, "located": located},
    }
    waiting = found["features"]["pending"] + found["predictions"]["pending"]
    fine = (
        found["reproduced"]
        and not waiting
        and stretch["reproduced"]
        and located
        and len(found["models"]) == 2
    )
    print(json.dumps(report))
    return 0 if fine else 1


def _counts(tally: dict[str, Any]) -> dict[str, Any]:
    names = ("computed", "compared", "again", "missing", "pending", "unexpected")
    return {name: tally[name] for name in names}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=30_000, help="events a second")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.events, given.rate)))
