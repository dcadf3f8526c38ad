"""What a replay leaves out is said wherever its rows go: to a terminal, a topic, a notebook."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes.replay_log import Logged, MemoryReader, small_pipeline
from fakes.services import without

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.cli import replay_show
from headrace.streams.cli.replay_show import INCOMPLETE, print_rows, rehearse
from headrace.streams.replay import frames
from headrace.streams.replay.ask import Ask
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.roles import form_of, role_of
from headrace.streams.replay.source import BusSource

try:
    import pyarrow as _  # noqa: F401
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")

PIPELINE = small_pipeline()
ASK = Ask(bus=BusSettings(url="kafka://127.0.0.1:1"), topic="t")
LATER = Wanted(start_ms=5)
EVENT = {"id": "e9", "device_id": "d1", "time": 9, "kind": "k", "metrics": {"a": 0.5, "code": 1}}
TELEMETRY = [b"{broken", json.dumps(EVENT).encode(), b"[]"]


class MemoryWriter:
    """A topic of one partition that takes everything."""

    def __init__(self, *_):
        pass

    async def start(self):
        return 1

    async def write(self, partition, keys, values, headers):
        pass

    async def stop(self):
        pass


@pytest.fixture
def holds(monkeypatch):
    """Let every replay read these records of a role."""

    def given(role, values):
        @asynccontextmanager
        async def opened(ask):
            form = form_of(role_of(role, topics_of(PIPELINE)), PIPELINE, Path(), raw=ask.raw)
            log = [Logged(i, i, None, value) for i, value in enumerate(values)]
            yield BusSource({}, MemoryReader("t", [log]), form, skew_ms=10_000)

        monkeypatch.setattr(frames, "open_source", opened)
        monkeypatch.setattr(replay_show, "KafkaWriter", MemoryWriter)

    return given


@pytest.mark.parametrize("into", [False, True])
async def test_rows_without_a_time_to_choose_them_by_are_counted(holds, capsys, into):
    """They are in no range of event times; whoever asks for one is told how many."""
    holds("telemetry", TELEMETRY)
    await (rehearse(ASK, LATER, "u", None) if into else print_rows(ASK, LATER, full_speed=True))
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "2 without an event time were left out" in err


@pytest.mark.parametrize("into", [False, True])
async def test_records_that_give_no_row_are_named(holds, capsys, into):
    """A rehearsal that lacks records is not whole either."""
    holds("predictions", [b"none"])
    every = Wanted()
    code = await (
        rehearse(ASK, every, "u", None) if into else print_rows(ASK, every, full_speed=True)
    )
    assert code == INCOMPLETE
    assert (
        "unreadable: 1 records are not what their topic carries: t[0]@0" in capsys.readouterr().err
    )


def test_a_notebook_can_ask_what_was_left_out(holds):
    """Beside `missing`."""
    holds("telemetry", TELEMETRY)
    with frames.open_replay(ASK.bus, "t", wanted=LATER, full_speed=True) as replay:
        assert replay.table().num_rows == 1
        assert (replay.undated, replay.unreadable) == (2, [])


def test_a_block_is_not_repeated_for_each_of_its_rows():
    """Raw features, and so features into a topic, are refused with what to do instead."""
    role = role_of("features", topics_of(PIPELINE))
    with pytest.raises(SettingsError, match=f"name the topic {role.topic} itself with -p ''"):
        form_of(role, PIPELINE, Path(), raw=True)
    assert form_of(role_of(role.topic, None), None, Path(), raw=True).role == "records"
