"""Batches of several partitions that are enriched at once give what each gives alone."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace

import pytest
from fakes import enrich_world as world
from fakes.enrich_logs import logs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.enrichers.enricher import Enriched, Enricher
from headrace.enrichers.state import EnrichState
from headrace.schemas.batch import RecordBatch
from headrace.streams.agents.together import Together

WITH_IDS = Enricher(world.pipeline())
BY_PLACE = Enricher(world.pipeline(id=None))

batches = st.lists(st.tuples(logs(), logs()), min_size=1, max_size=4)


def facts(found: Enriched) -> tuple[object, ...]:
    """Everything a batch says and changes, to the bit."""
    rows = [world.bits(row.tolist()) for row in found.featured.values]
    named = (found.events.topic, found.events.partition, found.events.ids, found.events.entities)
    order = found.featured.renewed.tolist(), found.events.offsets.tolist()
    changed = list(found.delta.changed()), list(found.delta.dropped())
    return rows, named, order, found.dead, found.late, found.repeated, changed


@pytest.mark.parametrize("enricher", [WITH_IDS, BY_PLACE], ids=["ids", "places"])
@given(batches)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_company_changes_nothing(
    enricher: Enricher, pairs: list[tuple[RecordBatch, RecordBatch]]
) -> None:
    """Two batches of each partition, the second on the state that the first one left."""
    alone: list[EnrichState] = [enricher.new_state() for _ in pairs]
    joined: list[EnrichState] = [enricher.new_state() for _ in pairs]
    for turn in (0, 1):
        records = [replace(pair[turn], partition=k) for k, pair in enumerate(pairs)]
        expected = [enricher.apply(s, part) for s, part in zip(alone, records, strict=True)]
        found = enricher.apply_all(list(zip(joined, records, strict=True)))
        assert [facts(one) for one in found] == [facts(one) for one in expected]
        for one in (*expected, *found):
            one.delta.fold()
    assert [list(s.dump()) for s in joined] == [list(s.dump()) for s in alone]


def test_a_state_is_only_read() -> None:
    """Nothing of a partition is changed before its delta is folded."""
    first, second = (WITH_IDS.new_state() for _ in range(2))
    records = world.batch([world.event("e", "d", world.START_MS, load=1.0)])
    WITH_IDS.apply(first, records).delta.fold()
    before = copy.deepcopy(list(first.dump()))
    WITH_IDS.apply_all([(first, records), (second, records)])
    assert list(first.dump()) == before
    assert not len(second.rows)


async def asked(numbers: list[int]) -> tuple[list[object], list[list[int]]]:
    """What each caller got, and which calls were made; 0 is cause for an error."""
    calls: list[list[int]] = []

    async def work(parts: list[int]) -> list[float]:
        calls.append(list(parts))
        return [1 / number for number in parts]

    together = Together[int, float](work)  # type: ignore[arg-type]
    found = await asyncio.gather(*map(together.ask, numbers), return_exceptions=True)
    return list(found), calls


def test_what_is_asked_in_one_turn_is_one_call() -> None:
    """Each caller gets its own answer."""
    found, calls = asyncio.run(asked([1, 2, 4]))
    assert (found, calls) == ([1.0, 0.5, 0.25], [[1, 2, 4]])


def test_an_error_is_told_to_its_caller_alone() -> None:
    """The others are asked for again, each by itself."""
    found, calls = asyncio.run(asked([1, 0, 4]))
    assert (found[0], type(found[1]), found[2]) == (1.0, ZeroDivisionError, 0.25)
    assert calls == [[1, 0, 4], [1], [0], [4]]


def test_a_caller_that_is_cancelled_changes_nothing() -> None:
    """For the others; and it is left out."""

    async def cancelled() -> tuple[object, bool]:
        together = Together[int, int](_echo)
        first, second = (asyncio.create_task(together.ask(n)) for n in (1, 2))
        await asyncio.sleep(0)
        first.cancel()
        return await second, first.cancelled() or first.cancelling() > 0

    assert asyncio.run(cancelled()) == (2, True)


async def _echo(parts: list[int]) -> list[int]:  # type: ignore[misc]
    return list(parts)
