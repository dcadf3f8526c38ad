"""Latency at a rate of two pipelines that take turns: how much later one's predictions come."""

from __future__ import annotations

import random

from aiokafka import AIOKafkaConsumer
from latency import WARM_S, at_rate
from sides import Running
from turns import Side

PERCENTILES = ("p50_ms", "p99_ms")


async def rounds_of(
    one: Side, other: Side, bus: str, *, rate: int, seconds: float, rounds: int, seed: int
) -> dict[str, list[tuple[float, float]]]:
    """Percentiles of both in each round, milliseconds; one has nothing to do in the other's turn.

    Args:
        one: The first side.
        other: The one compared with it.
        bus: host:port.
        rate: Events per second.
        seconds: Counted in each turn; `WARM_S` before it are not.
        rounds: How many.
        seed: Of who comes first in each.

    Raises:
        SystemExit: predictions did not come.
    """
    draw = random.Random(seed)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PERCENTILES}
    consumer = AIOKafkaConsumer(bootstrap_servers=bus)
    await consumer.start()
    try:
        for side in (one, other):
            await side.begin(consumer)
        for _ in range(rounds):
            told = {}
            for side in draw.sample((one, other), 2):
                running = Running(output=side.output, first=side.output)
                told[side] = await at_rate(
                    bus, side.where.telemetry, running, rate, seconds, side.sent
                )
                side.sent += round(rate * (WARM_S + seconds))
            for name in PERCENTILES:
                pair = told[one][name], told[other][name]
                print(f"{name} at {rate}/s: {pair}", flush=True)
                if None not in pair:
                    found[name].append(pair)
    finally:
        one.stop()
        other.stop()
        await consumer.stop()
    return found
