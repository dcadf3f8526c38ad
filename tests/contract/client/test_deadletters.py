"""Dead letters read, counted and put back: each once, in order, however a run is cut short."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing

import msgspec
import pytest
from fakes.serve_world import pipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.schemas.deadletter import deadletter_headers, deadletter_value, tried
from headrace.schemas.errors import BusUnavailableError, Source
from headrace.schemas.pipeline import Delivery
from headrace.schemas.topics import topics_of
from headrace.streams.cli.deadletter_view import letter_lines, tally_lines
from headrace.streams.client.deadletter_tally import Tally
from headrace.streams.client.deadletters import (
    BATCH_ROWS,
    DeadLetter,
    Wanted,
    dead_letters,
    read_letter,
    redriven,
    selected,
)
from headrace.streams.client.redrive import Outcome, Redrive
from headrace.streams.client.redrive_report import outcome_lines

SPEC = pipeline()
TOPICS = topics_of(SPEC)
TELEMETRY, DEAD = TOPICS.telemetry.name, TOPICS.deadletter.name
NOW_S = 1_795_255_200.0
SECRET = b"patient-17"


def letter(offset: int, *, partition: int = 0, code: str = "json.invalid", **parts):
    """One dead letter as ENRICH publishes it: key, value, headers."""
    value = parts.pop("value", b'{"id": "%d", "who": "%s"' % (offset, SECRET))
    source = Source(parts.pop("topic", TELEMETRY), partition, offset)
    own = parts.pop("own", [("traceparent", b"00-%d" % offset)])
    facts = {
        "stage": "enrich",
        "pipeline": SPEC.name,
        "pipeline_digest": SPEC.digest,
        "first_seen_ms": round(NOW_S * 1000),
    }
    kept, cut = deadletter_value(value)
    return b"k%d" % offset, kept, [*own, *deadletter_headers(code, source, **facts | parts), *cut]


class Place:
    """A dead-letter topic and its telemetry, on a bus in memory."""

    def __init__(self, bus) -> None:
        self.bus = bus
        bus.create(TELEMETRY, 3)
        bus.create(DEAD, 3)

    async def die(self, *letters, partition: int = 0) -> None:
        """Dead letters onto one partition."""
        await self.bus.append(DEAD, partition, letters)

    async def redrive(self, wanted: Wanted | None = None, *, dry=False, **options) -> Outcome:
        """One run of the command."""
        wanted = wanted or Wanted()
        return await Redrive(self.bus, SPEC, wanted, now=lambda: NOW_S, **options).run(dry=dry)

    def back(self, partition: int = 0) -> list:
        """Records on a telemetry partition."""
        return self.bus.topics[TELEMETRY].partitions[partition]

    async def tally(self, wanted: Wanted | None = None, limit: int = 20) -> Tally:
        """What `list` sees."""
        wanted = wanted or Wanted()
        tally = Tally(limit, await redriven(self.bus, SPEC, wanted))
        async with aclosing(selected(self.bus, SPEC, wanted)) as batches:
            async for batch in batches:
                tally.add(batch)
        return tally


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A bus in memory has answered at once, or has nothing."""
    monkeypatch.setattr("headrace.streams.client.topic_reader.WAIT_S", 0.001)


@pytest.fixture
def place(memory_bus) -> Place:
    """An empty one."""
    return Place(memory_bus)


async def test_the_original_goes_back_where_it_came_from(place):
    """Key, bytes and headers are those of the record as read; ours say which try it is."""
    await place.die(letter(5, partition=2), partition=1)
    outcome = await place.redrive()

    ((key, value, headers),) = place.back(2)
    assert (key, value) == letter(5)[:2]
    assert headers[0] == ("traceparent", b"00-5")
    assert tried(headers, 0).attempt == 2
    assert dict(headers)["headrace-redriven"] == f"{DEAD}[1]@0".encode()
    assert outcome.redriven == 1


async def test_a_second_run_redrives_nothing(place):
    """What was redriven is marked on the bus, beside the dead letter."""
    await place.die(*[letter(n) for n in range(3)])
    first, second = await place.redrive(), await place.redrive()

    assert (first.redriven, second.redriven) == (3, 0)
    assert second.left == {"redriven": 3}
    assert [value for _, value, _ in place.back()] == [letter(n)[1] for n in range(3)]


KINDS = st.sampled_from(["json.invalid", "metric.range"])
LETTERS = st.lists(st.tuples(st.integers(0, 2), KINDS, st.integers(1, 4)), max_size=25)
RUNS = st.lists(
    st.tuples(
        st.sampled_from([None, "json.invalid", "metric.range"]),
        st.sampled_from([None, 1, 3]),
        st.booleans(),
    ),
    max_size=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(letters=LETTERS, runs=RUNS)
def test_any_runs_put_back_each_once_and_in_order(letters, runs, make_bus):
    """Whatever filters, limits and dry runs come first: in the end each is there once."""

    async def check() -> None:
        place = Place(make_bus())
        for number, (partition, code, attempt) in enumerate(letters):
            await place.die(
                letter(number, partition=partition, code=code, attempt=attempt), partition=partition
            )
        for reason, limit, dry in runs:
            before = [list(place.back(p)) for p in range(3)]
            outcome = await place.redrive(Wanted(reason=reason), limit=limit, dry=dry)
            assert limit is None or outcome.redriven <= limit
            if dry:
                assert [place.back(p) for p in range(3)] == before
        await place.redrive()

        for partition in range(3):
            expected = [
                letter(n)[0]
                for n, (where, _, attempt) in enumerate(letters)
                if where == partition and attempt < SPEC.delivery.redrive_attempts
            ]
            assert sorted(key for key, _, _ in place.back(partition)) == sorted(expected)
            if not runs:
                assert [key for key, _, _ in place.back(partition)] == expected

    asyncio.run(check())


class DiedError(Exception):
    """The process is gone."""


class Stopping:
    """A bus whose writer of marks dies before its `at`-th write."""

    def __init__(self, bus, at: int) -> None:
        self._bus, self._at = bus, at

    def reader(self, topic, *, group, start):
        return self._bus.reader(topic, group=group, start=start)

    def writer(self, topic):
        writer = self._bus.writer(topic)
        if topic == DEAD:
            write, count = writer.write, iter(range(1, 1_000_000))

            async def stopping(*args):
                if next(count) == self._at:
                    raise DiedError
                return await write(*args)

            writer.write = stopping
        return writer


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_run_that_dies_before_it_marks_repeats_one_batch(place, at):
    """Killed between publishing and marking: the next run repeats that batch, to the letter."""
    count = 2 * BATCH_ROWS + 7
    await place.die(*[letter(n) for n in range(count)])
    with pytest.raises(DiedError):
        await Redrive(Stopping(place.bus, at), SPEC, Wanted(), now=lambda: NOW_S).run()
    published = len(place.back())
    assert published == min(at * BATCH_ROWS, count)

    await place.redrive()
    first, again = place.back()[:published], place.back()[published:]
    repeated = [row for row in again if row in first]
    assert len(repeated) == published - (at - 1) * BATCH_ROWS
    assert {value for _, value, _ in place.back()} == {letter(n)[1] for n in range(count)}
    assert len(place.back()) == count + len(repeated)
    assert (await place.redrive()).redriven == 0


async def test_a_bus_that_is_away_fails_the_run_and_marks_nothing(place):
    """Nothing is marked that was not acknowledged."""
    await place.die(letter(1))
    place.bus.failing_writes = 1
    with pytest.raises(BusUnavailableError):
        await place.redrive()

    assert (await place.tally()).facts(NOW_S)["reasons"][0]["redriven"] == 0
    assert (await place.redrive()).redriven == 1


async def test_what_cannot_be_redriven_is_left_with_its_reason(place):
    """Each kind is counted apart, with the coordinates of one."""
    rows = [
        letter(0, attempt=3),
        letter(1, stage="serve", code="model.failed"),
        letter(2, value=b"x" * ((1 << 20) + 1)),
        letter(3, value=None),
        letter(4, topic="elsewhere"),
        letter(5, partition=9),
        letter(6),
    ]
    await place.die(*rows)
    outcome = await place.redrive()

    assert outcome.redriven == 1
    assert outcome.left == {"attempts": 1, "serve": 1, "cut": 1, "tombstone": 1, "elsewhere": 2}
    assert outcome.examples["serve"] == f"{DEAD}[0]@1"
    lines = list(outcome_lines(outcome, SPEC, dry=False))
    assert len(lines) == 1 + len(outcome.left)
    assert "tried 3 times" in "".join(lines)


async def test_attempts_are_the_pipelines_choice(place):
    """`delivery.redrive_attempts` bounds how often an event is tried in all."""
    await place.die(letter(0, attempt=1), letter(1, attempt=4))

    def limited(attempts: int) -> Redrive:
        spec = msgspec.structs.replace(SPEC, delivery=Delivery(redrive_attempts=attempts))
        return Redrive(place.bus, spec, Wanted(), now=lambda: NOW_S)

    assert (await limited(1).run()).left == {"attempts": 2}
    outcome = await limited(5).run()
    assert (outcome.redriven, outcome.left) == (2, {})


async def test_old_events_are_announced(place):
    """A letter first seen before the allowed lateness is counted: it may end as late."""
    lateness_ms = round(SPEC.input.allowed_lateness_s * 1000)
    now_ms = round(NOW_S * 1000)
    await place.die(
        letter(0, first_seen_ms=now_ms - lateness_ms - 1),
        letter(1, first_seen_ms=now_ms - lateness_ms),
    )
    outcome = await place.redrive(dry=True)

    assert (outcome.redriven, outcome.aged) == (2, 1)
    assert TOPICS.late.name in "".join(outcome_lines(outcome, SPEC, dry=True))


async def test_letters_of_other_pipelines_on_a_shared_topic_are_not_ours(place):
    """A dead-letter topic that several pipelines name: each sees its own."""
    await place.die(letter(0, pipeline="presses"), letter(1))

    assert (await place.tally()).facts(NOW_S)["count"] == 1
    assert (await place.redrive()).redriven == 1


async def test_since_and_stage_choose(place):
    """Both bounds hold for listing; the broker's time decides."""
    await place.die(letter(0), letter(1, stage="serve"))

    assert (await place.tally(Wanted(since_ms=1000))).facts(NOW_S)["count"] == 2
    assert (await place.tally(Wanted(since_ms=1001))).facts(NOW_S)["count"] == 0
    assert (await place.tally(Wanted(stage="serve"))).facts(NOW_S)["count"] == 1


async def test_a_listing_counts_all_names_the_newest_and_quotes_nothing(place):
    """Table and rows tell reason, place and fate of each, never content."""
    await place.die(*[letter(n) for n in range(5)])
    await place.die(letter(9, partition=1, code="metric.range"), partition=1)
    await place.redrive(Wanted(reason="metric.range"))
    tally = await place.tally(limit=3)
    facts, text = tally.facts(NOW_S), "\n".join(tally_lines(tally, NOW_S))

    assert [(r["code"], r["count"], r["redriven"]) for r in facts["reasons"]] == [
        ("json.invalid", 5, 0),
        ("metric.range", 1, 1),
    ]
    assert len(facts["letters"]) == 3
    assert f"{DEAD}[1]@0" in text
    assert f"redriven to {TELEMETRY}[1]@0" in text
    assert SECRET.decode() not in text + json.dumps(facts)
    assert list(tally_lines(Tally(3, {}), NOW_S)) == ["no dead letters"]


async def test_a_letter_is_shown_whole_and_harmless(place):
    """Everything is there; bytes that would move a terminal's cursor are not."""
    await place.die(letter(5, value="°C \x1b[2J\n".encode(), own=[("h", b"\xff")], model="9f2c"))
    (found,) = await _all(place)
    text = "\n".join(letter_lines(found, NOW_S))

    assert found.value == "°C \x1b[2J\n".encode()
    assert "°C \\x1b[2J\\n" in text
    assert "h: \\xff" in text
    assert "model       9f2c" in text
    assert "\x1b" not in text


async def test_one_letter_is_read_by_its_coordinates(place, monkeypatch):
    """Exactly the record named; none where the log holds none, or another partition does."""
    monkeypatch.setattr("headrace.streams.client.deadletters.PATIENCE_S", 0.01)
    await place.die(*[letter(n) for n in range(5)], partition=1)
    found = await read_letter(place.bus, Source(DEAD, 1, 3))

    assert found is not None
    assert (found.at, found.value) == (f"{DEAD}[1]@3", letter(3)[1])
    absent = [Source(DEAD, 1, 5), Source(DEAD, 0, 3), Source(DEAD, 7, 3)]
    assert [await read_letter(place.bus, at) for at in absent] == [None] * 3


async def test_a_mark_is_a_record_of_the_same_contract(place):
    """Readers of the topic get it under the code `redriven`, naming letter and new place."""
    await place.die(letter(5))
    await place.redrive()
    mark = (await _all(place))[1]

    assert (mark.is_mark, mark.code, mark.source) == (True, "redriven", f"{DEAD}[0]@0")
    assert mark.redriven_to == f"{TELEMETRY}[0]@0"
    assert mark.attempt == 2
    assert (mark.key, mark.value) == (None, b"")


async def _all(place: Place) -> Sequence[DeadLetter]:
    async with dead_letters(place.bus, SPEC, start="earliest", follow=False) as reader:
        return [item async for item in reader]
