"""What the producer promises to a caller and to the bus."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import BusUnavailableError, EventRefusedError, FatalError
from headrace.schemas.event import Event
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.client import Producer, Record
from headrace.streams.client.partition import Partitioner
from headrace.streams.client.traceparent import is_traceparent

PIPELINE = """
name = "press"
[input]
sequence = "seq"
raw = ["payload"]
key = "entity"
[input.metrics.load]
min = 0.0
[input.metrics.heat]
required = false
[views.now]
features = [{ op = "raw", metrics = ["*"] }]
[model]
file = "model.onnx"
"""
TOPIC = "headrace.press.telemetry.v1"
NOW_S = 1_795_255_200.0


@pytest.fixture
def pipeline(tmp_path: Path):
    """A pipeline whose input is the default form."""
    (tmp_path / "p.toml").write_text(PIPELINE)
    return load_pipeline(tmp_path / "p.toml")


@pytest.fixture
def bus(memory_bus):
    """A bus with the telemetry topic."""
    memory_bus.create(TOPIC, 4)
    return memory_bus


def make(bus, pipeline, **options):
    """A quick producer at a standing clock."""
    return Producer(bus, pipeline, **{"linger_ms": 0, "now": lambda: NOW_S, **options})


def logs(bus):
    """Every record on the topic, by partition."""
    return bus.topics[TOPIC].partitions


async def test_an_emitted_event_has_the_default_form(bus, pipeline):
    """`emit` writes `schemas.event.Event`, keyed by its entity, on the key's partition."""
    async with make(bus, pipeline) as producer:
        receipt = await producer.emit("press-07", {"load": 0.5}, seq=3, payload={"raw": 1})
        [source] = await receipt
    partition = Partitioner(4).of(b"press-07")
    assert (source.topic, source.partition, source.offset) == (TOPIC, partition, 0)
    [(key, value, headers)] = logs(bus)[partition]
    event = msgspec.json.decode(value, type=Event)
    assert key == b"press-07"
    assert (event.device_id, event.metrics, event.seq) == ("press-07", {"load": 0.5}, 3)
    assert event.time == "2026-11-21T10:00:00.000Z"
    assert event.payload == {"raw": 1}
    assert is_traceparent(dict(headers)["traceparent"].decode())


@pytest.mark.parametrize(
    ("metrics", "time", "code"),
    [
        ({"load": -1.0}, None, "metric.range"),
        ({"load": float("nan")}, None, "metric.missing"),
        ({"heat": 1.0}, None, "metric.missing"),
        ({"load": "hot"}, None, "event.type"),
        ({"load": 1.0}, NOW_S + 3600, "time.future"),
    ],
)
async def test_an_event_its_pipeline_would_refuse_is_not_sent(bus, pipeline, metrics, time, code):
    """A bad event raises one line with the dead letter's code, and no value of the event."""
    async with make(bus, pipeline) as producer:
        with pytest.raises(EventRefusedError) as refused:
            await producer.emit("press-07", metrics, time=time)
    assert refused.value.code == code
    assert "\n" not in str(refused.value)
    assert "hot" not in str(refused.value)
    assert "press-07" not in str(refused.value)
    assert not any(logs(bus))


async def test_one_bad_event_of_many_stops_them_all(bus, pipeline):
    """`send_many` sends all or nothing, and says which one was bad."""
    good = b'{"id":"1","device_id":"a","time":"2026-11-21T10:00:00Z","metrics":{"load":1}}'
    async with make(bus, pipeline) as producer:
        with pytest.raises(EventRefusedError, match="event 2 of 3") as refused:
            await producer.send_many([Record(good), Record(b"{"), Record(good)])
        assert refused.value.row == 1
        await producer.flush()
        assert not any(logs(bus))
        assert len(await (await producer.send_many([Record(good)] * 3))) == 3


async def test_a_record_without_key_gets_its_entity(bus, pipeline):
    """The key is the entity; another one is refused where the pipeline wants the entity."""
    value = b'{"id":"1","device_id":"a","time":"2026-11-21T10:00:00Z","metrics":{"load":1}}'
    async with make(bus, pipeline) as producer:
        await producer.send(None, value)
        with pytest.raises(EventRefusedError) as refused:
            await producer.send(b"b", value)
    assert refused.value.code == "key.mismatch"
    assert [row[0] for log in logs(bus) for row in log] == [b"a"]


async def test_events_of_a_device_stay_in_order_through_failures(bus, pipeline):
    """Writes that fail and are repeated change no device's order and lose nothing."""
    bus.failing_writes = 5
    async with make(bus, pipeline, batch_bytes=400) as producer:
        for seq in range(200):
            await producer.emit(f"d{seq % 7}", {"load": 1.0}, seq=seq)
    sent = [msgspec.json.decode(row[1]) for log in logs(bus) for row in log]
    assert len(sent) == 200
    for device in range(7):
        own = [event["seq"] for event in sent if event["device_id"] == f"d{device}"]
        assert own == sorted(own)


async def test_a_full_buffer_makes_the_caller_wait(bus, pipeline):
    """With `max_pending` records waiting, `send` waits; nothing is dropped."""
    bus.gate = asyncio.Event()
    async with make(bus, pipeline, max_pending=10) as producer:
        for _ in range(10):
            await producer.emit("a", {"load": 1.0})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.emit("a", {"load": 1.0}), 0.05)
        assert producer.pending == 10
        bus.gate.set()
        await producer.emit("a", {"load": 1.0})
    assert sum(map(len, logs(bus))) == 11


async def test_records_of_a_flood_travel_together(bus, pipeline):
    """Many records make few requests."""
    form = b'{"id":"%d","device_id":"a","time":"2026-11-21T10:00:00Z","metrics":{"load":1}}'
    rows = [Record(form % number) for number in range(1000)]
    async with make(bus, pipeline) as producer:
        await producer.send_many(rows)
    assert sum(bus.requests) == 1000
    assert len(bus.requests) <= 3


async def test_a_failure_nobody_awaits_is_raised_by_flush(bus, pipeline):
    """Records that were given up are never a silence."""
    bus.failing_writes = 10**9
    async with make(bus, pipeline, give_up_s=0.05) as producer:
        await producer.emit("a", {"load": 1.0})
        await producer.emit("a", {"load": 1.0})
        with pytest.raises(BusUnavailableError, match="2 records did not reach"):
            await producer.flush()
        await producer.flush()


async def test_a_failure_that_is_awaited_is_raised_there_only(bus, pipeline):
    """A receipt that is awaited tells its caller, and flush does not tell again."""
    bus.failing_writes = 10**9
    async with make(bus, pipeline, give_up_s=0.05) as producer:
        receipt = await producer.emit("a", {"load": 1.0})
        with pytest.raises(BusUnavailableError):
            await receipt
        await producer.flush()


async def test_closing_is_bounded_while_the_bus_is_away(bus, pipeline):
    """Leaving the producer does not wait for ever, and says what was left."""
    bus.gate = asyncio.Event()

    async def body() -> None:
        async with make(bus, pipeline, give_up_s=0.1) as producer:
            await producer.emit("a", {"load": 1.0})

    with pytest.raises(BusUnavailableError, match="not known"):
        await asyncio.wait_for(body(), 5)


async def test_a_body_that_raises_keeps_its_own_error(bus, pipeline):
    """Trouble with the bus does not hide what went wrong before."""
    bus.failing_writes = 10**9

    async def body() -> None:
        async with make(bus, pipeline, give_up_s=0.05) as producer:
            await producer.emit("a", {"load": 1.0})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()


async def test_cancelled_send_leaves_its_neighbours(bus, pipeline):
    """Cancelling k of N waiting calls leaves the other N-k; the cancelled send nothing."""
    bus.gate = asyncio.Event()
    async with make(bus, pipeline, max_pending=1) as producer:
        await producer.emit("a", {"load": 1.0}, seq=0)
        calls = [
            asyncio.create_task(producer.emit("a", {"load": 1.0}, seq=seq)) for seq in range(1, 7)
        ]
        await asyncio.sleep(0.01)
        for call in calls[::2]:
            call.cancel()
        bus.gate.set()
        await asyncio.gather(*calls, return_exceptions=True)
    sent = [msgspec.json.decode(row[1])["seq"] for log in logs(bus) for row in log]
    assert sorted(sent) == [0, 2, 4, 6]


async def test_trace_is_passed_on_or_left_out(bus, pipeline):
    """A given traceparent is passed on, a malformed one refused, none without tracing."""
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with make(bus, pipeline) as producer:
        await producer.emit("a", {"load": 1.0}, traceparent=given)
        with pytest.raises(FatalError, match="W3C"):
            await producer.emit("a", {"load": 1.0}, traceparent="00-nope")
    async with make(bus, pipeline, trace=False) as producer:
        await producer.emit("a", {"load": 1.0})
    assert [list(row[2]) for log in logs(bus) for row in log] == [
        [("traceparent", given.encode())],
        [],
    ]


async def test_a_topic_name_is_enough_for_whole_records(bus):
    """Without a pipeline records go as they are, and events cannot be composed."""
    async with make(bus, TOPIC) as producer:
        await producer.send(b"k", b"no json")
        with pytest.raises(FatalError, match="needs its pipeline"):
            await producer.emit("a", {"load": 1.0})
    assert sum(map(len, logs(bus))) == 1


async def test_events_are_composed_along_the_pipelines_own_paths(bus, tmp_path):
    """Where a pipeline maps another form, `emit` writes that form, and its decoder reads it."""
    text = PIPELINE.replace(
        'sequence = "seq"',
        'entity = "dev.name"\nid = "dev.event"\ntime = "at"\ntime_unit = "ms"\nsequence = "n"',
    ).replace("[input.metrics.load]", '[input.metrics.load]\npath = "m.l"')
    (tmp_path / "p.toml").write_text(text)
    async with make(bus, load_pipeline(tmp_path / "p.toml")) as producer:
        await producer.emit("x", {"load": 2.0}, event_id="e", seq=9)
    [value] = [row[1] for log in logs(bus) for row in log]
    assert msgspec.json.decode(value) == {
        "dev": {"name": "x", "event": "e"},
        "at": 1_795_255_200_000,
        "n": 9,
        "m": {"l": 2.0},
    }


async def test_unentered_producer_says_so(bus, pipeline):
    """Sending outside `async with` is refused with the remedy."""
    with pytest.raises(FatalError, match="async with"):
        await make(bus, pipeline).emit("a", {"load": 1.0})


def test_record_batch_is_what_the_decoder_takes(pipeline):
    """The producer's judge is the pipeline's decoder: same record, same verdict."""
    import numpy as np

    from headrace.enrichers.decode import Decoder
    from headrace.streams.client.contract import Contract

    values = [b"{", b"", b'{"device_id":"a"}', b'{"id":"1","device_id":"a","time":"x"}', b"[1]"]
    for value in values:
        batch = RecordBatch("t", 0, np.array([0]), np.array([0]), [b"a"], [value], None)
        [expected] = Decoder(pipeline.input)(batch).dead.values()
        with pytest.raises(EventRefusedError) as refused:
            Contract(pipeline).keys([b"a"], [value], [()], 0.0)
        assert refused.value.code == expected
