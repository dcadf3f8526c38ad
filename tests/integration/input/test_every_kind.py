"""Every kind of bad event on a real bus, ENRICH and SERVE as processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from fakes.agent_path import Ended
from fakes.bad_events import CASES, STEP_MS, Case, log_of, only_good
from fakes.input_forms import DEFAULT, FORMS, WIDTH, Form, Record
from fakes.onnx_models import mlp
from integration.input.plant import Plant

from headrace.streams.client.clock import wall_clock

pytestmark = pytest.mark.slow

BEHIND_S = 60.0
"""Good events begin so long ago, so that none of them is later than the bus's own time."""


async def send(plant: Plant, partition: int, records: Sequence[Record]) -> None:
    """Write records as any client may."""
    producer = AIOKafkaProducer(**plant.options, max_request_size=16 << 20, linger_ms=50)
    await producer.start()
    try:
        for record in records:
            await producer.send(
                plant.topics.telemetry.name,
                record.value,
                record.key,
                partition=partition,
                headers=list(record.headers),
            )
        await producer.flush()
    finally:
        await producer.stop()


def judged(kinds: Sequence[Case | None], ended: Ended) -> dict[str, tuple[str, str | None]]:
    """By the name of each kind that ended elsewhere: where it did."""
    expected = [("out", None) if kind is None else (kind.place, kind.code) for kind in kinds]
    found = [ended.verdicts.get(offset, ("repeated", None)) for offset in range(len(kinds))]
    return {
        kind.name if kind else "good": was
        for kind, want, was in zip(kinds, expected, found, strict=True)
        if was != want
    }


@pytest.mark.parametrize(
    ("form", "bus"),
    [*((form, "kafka_url") for form in FORMS), (DEFAULT, "tansu_url")],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_kind_has_its_place(
    request: pytest.FixtureRequest, tmp_path: Path, store_url: str, unique, form: Form, bus: str
) -> None:
    """Each ends where it must, with code and coordinates; good events as if it had never been.

    Partition 0 holds everything, partition 1 the good events alone.
    """
    (tmp_path / "model.onnx").write_bytes(mlp(WIDTH))
    name = unique("input")
    (tmp_path / f"{name}.toml").write_text(form.file(name))
    url = request.getfixturevalue(bus)
    plant = Plant(tmp_path, url, store_url, name, embedded=bus == "tansu_url")
    start_ms = (int((wall_clock() - BEHIND_S) * 1000) // STEP_MS) * STEP_MS
    sent = log_of(form, start_ms)

    async def run() -> tuple[Ended, Ended]:
        await plant.prepare()
        await send(plant, 0, sent.records)
        await send(plant, 1, only_good(sent))
        return await plant.ended()

    began_s = time.monotonic()
    everything, alone = asyncio.run(run())

    assert judged(sent.cases, everything) == {}, f"after {time.monotonic() - began_s:.0f} s"
    assert set(alone.verdicts.values()) == {("out", None)}
    assert len(alone.features) == len(CASES)
    assert {i: everything.features[i] for i in alone.features} == alone.features
    assert {i: everything.predictions[i] for i in alone.predictions} == alone.predictions
    plant.balance(len(sent.records) + len(alone.verdicts), everything, alone)
