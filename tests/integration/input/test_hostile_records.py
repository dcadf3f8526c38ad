"""Records that are bad below the level of events: names, and sizes that only compression allows."""

from __future__ import annotations

from pathlib import Path

from fakes.bad_events import good
from fakes.input_forms import DEFAULT, WIDTH, Record
from fakes.onnx_models import mlp
from fakes.raw_producer import RawName, send_raw
from integration.input.plant import Plant

from headrace.schemas.deadletter import KEPT_BYTES, LIMIT_BYTES
from headrace.streams.bus import header_names
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.deadletters import DeadLetters

GZIP = 1
HUGE = 20_000_000


async def test_no_record_stops_the_stage(
    tmp_path: Path, kafka_url: str, store_url: str, unique, monkeypatch
) -> None:
    """A header's name of any bytes; key, headers and value of 20 MB: none in the way."""
    (tmp_path / "model.onnx").write_bytes(mlp(WIDTH))
    name = unique("hostile")
    (tmp_path / f"{name}.toml").write_text(DEFAULT.file(name))
    plant = Plant(tmp_path, kafka_url, store_url, name)
    start_ms = int(wall_clock() * 1000) - 60_000
    events = [DEFAULT.record(good(number, start_ms + number)) for number in range(6)]
    first, named, keyed, headed, valued, last = (event for event in events if event)
    huge = b"x" * HUGE
    await plant.prepare()
    for records in (
        [first, Record(named.key, named.value, ((RawName("\xff\xfe"), b"1"), ("ours", None)))],
        [Record(b"k" * HUGE, keyed.value)],
        [Record(b"another", headed.value, (("more", huge), ("more", huge)))],
        [Record(valued.key, (valued.value or b"") + b" " * HUGE), last],
        [Record(None, None)],
    ):
        await send_raw(plant.options, plant.topics.telemetry.name, 0, records, GZIP)

    ended, _ = await plant.ended()

    assert ended.verdicts == {
        0: ("out", None),
        1: ("out", None),
        2: ("dead", "key.mismatch"),
        3: ("dead", "key.mismatch"),
        4: ("dead", "record.size"),
        5: ("out", None),
        6: ("dead", "record.empty"),
    }
    plant.balance(7, ended)
    monkeypatch.setattr(header_names._Records, "expecting", False)
    telemetry = await plant.read(plant.topics.telemetry.name)
    assert next(h for r in telemetry for h in (r.headers or [()])[1])[0] == "\ufffd\ufffd"

    dead = [DeadLetters().read(r) for r in await plant.read(plant.topics.deadletter.name)]
    letters = [letter for part in dead for letter in part if letter is not None]
    assert [letter.is_cut for letter in letters] == [True, True, True, False]
    assert [len(letter.value) for letter in letters][2] == KEPT_BYTES
    assert max(len(letter.key or b"") for letter in letters) == KEPT_BYTES
    assert all(sum(len(v or b"") for _, v in letter.headers) <= LIMIT_BYTES for letter in letters)
