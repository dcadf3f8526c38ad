"""A simulated fleet through the whole path on a Kafka and a store of its own: ``make fleet``.

Each scenario is one pipeline run with ``headrace up``, fed by ``headrace produce fleet`` and held
against the ledger by ``headrace produce check``, every process on this machine. The last line is
one JSON object; exit code 1 where an event did not become what the ledger says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from fleet_site import Site

from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.local_kafka import LocalKafka

PATIENCE_S = 30.0
STORE_BYTES = 6 << 30
"""A device of this pipeline takes some 2.6 KB of the store, in online rows and checkpoint."""

SCENARIOS: dict[str, dict[str, Any]] = {
    # 1000 devices of mixed kinds at a high rate.
    "steady": {"devices": 1000, "rate": 50_000, "seconds": 60},
    # Ten times the rate from second 30 to 60.
    "burst": {"devices": 1000, "rate": 5_000, "seconds": 90, "pattern": "bursty"},
    # Every device reads about once.
    "million": {"devices": 1_000_000, "rate": 10_000, "seconds": 100},
    # The same load of few devices, beside it.
    "thousand": {"devices": 1000, "rate": 10_000, "seconds": 100},
}


async def scenario(name: str, asked: dict[str, Any], environ: dict[str, str]) -> dict[str, Any]:
    """Run one, and say what was sent, what became of it and what it cost."""
    with tempfile.TemporaryDirectory(prefix="headrace-fleet-") as folder:
        ledger = Path(folder) / "ledger.ndjson"
        async with Site(f"fleet-{name}", Path(folder), environ) as site:
            options = [f"--{option}={value}" for option, value in asked.items()]
            await site.told_again()
            idle = dict(site.statuses)
            sent = await site.run("produce", "fleet", "--ledger", str(ledger), *options)
            found = await site.run(
                "produce", "check", str(ledger), "--patience", str(PATIENCE_S)
            )  # fmt: skip
            await site.told_again()
    return {
        "scenario": name,
        "asked": asked,
        "sent": sent,
        "found": found,
        **_cost(site, idle, sent),
    }


def _cost(site: Site, idle: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """What the workers counted, and used since they were `idle`."""
    stages = site.statuses
    return {
        "counted": stages["enrich"]["events"],
        "workers": {
            stage: {
                "rss_mb": round(status["rss_mb"]),
                "cpu_us_per_event": round(
                    (status["cpu_s"] - idle[stage]["cpu_s"]) * 1e6 / max(sent["events"], 1), 2
                ),
            }
            for stage, status in stages.items()
        },
    }


def told(one: dict[str, Any]) -> str:
    """A scenario for people."""
    sent, found, late = one["sent"], one["found"], one["sent"]["sender_late_ms"]
    answer = found.get("answer_ms", {})
    lines = [
        f"{one['scenario']}: {one['asked']}",
        f"  sent {sent['events']:,} events of {sent['value_bytes']} bytes at "
        f"{sent['events_per_s']:,}/s, at most {sent['most_events_per_s']:,}/s; "
        f"{sent['cpu_us_per_event']} µs CPU per event, {sent['rss_mb']:.0f} MB",
        f"  the sender's own lateness p50 {late['p50']} ms, p99 {late['p99']} ms, most "
        f"{late['max']} ms",
        f"  {found['predicted']:,} predicted + {found['dead']:,} dead + {found['late']:,} late + "
        f"{found['repeated']:,} repeated of {found['events']:,}; not as the ledger says: "
        f"{found['wrong']}; raw or personal content seen: {found['raw_or_personal_seen']}",
        f"  answers after p50 {answer.get('p50')} ms, p99 {answer.get('p99')} ms, most "
        f"{answer.get('max')} ms; over 1 s: {found.get('over_1_s', 0):,}, the last of them "
        f"{found.get('last_over_1_s_at_s')} s into the run",
        "  p99 of each 10 s of the run, ms: "
        + ", ".join(f"{part['p99']:.0f}" for part in found.get("answer_ms_by_10_s", [])),
        "  "
        + "; ".join(
            f"{stage} {cost['cpu_us_per_event']} µs CPU per event, {cost['rss_mb']} MB"
            for stage, cost in one["workers"].items()
        )
        + f"; store {one['store_mb']} MB",
    ]
    return "\n".join(lines)


def is_wrong(one: dict[str, Any]) -> bool:
    """Something did not become what it should, or the workers counted other than was found."""
    found, counted = one["found"], one["counted"]
    outcomes = ("dead", "late", "repeated")
    return bool(
        found["wrong"]
        or found["raw_or_personal_seen"]
        or found["events"] != one["sent"]["events"]
        or any(found[o] != counted.get(o, 0) for o in outcomes)
        or any(found[o] != found["expected"][o] for o in ("predicted", *outcomes))
    )


async def _emptied_mb(url: str) -> int:
    """What the store holds, MiB; the next scenario finds it empty."""
    client = redis.from_url(url)
    try:
        used = (await client.info("memory"))["used_memory"]
        await client.flushall()
    finally:
        await client.aclose()
    return round(used / (1 << 20))


async def main(names: list[str], changed: dict[str, Any]) -> int:
    """Every scenario in turn, each on a new pipeline."""
    kafka, store, done = LocalKafka(), EmbeddedStore(max_memory_bytes=STORE_BYTES), []
    async with AsyncExitStack() as stack:
        bus_url = await kafka.start()
        stack.push_async_callback(kafka.stop)
        store_url = await store.start()
        stack.push_async_callback(store.stop)
        places = {"HEADRACE_BUS": bus_url, "HEADRACE_STORE": store_url}
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        for name in names:
            asked = SCENARIOS[name] | changed
            found = await scenario(name, asked, own | places | {"PYTHONUNBUFFERED": "1"})
            done.append(found | {"store_mb": await _emptied_mb(store_url)})
            print(told(done[-1]), flush=True)
    wrong = [one["scenario"] for one in done if is_wrong(one)]
    print(json.dumps({"scenarios": done, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    for option in ("devices", "rate", "seconds", "seed"):
        parser.add_argument(f"--{option}", type=int, help="instead of the scenario's own")
    given = vars(parser.parse_args())
    chosen = given.pop("scenarios")
    sys.exit(asyncio.run(main(chosen, {k: v for k, v in given.items() if v is not None})))
