"""The finaliser's state: what holds summaries up, what it keeps, and what it cannot know whole."""

import numpy as np
import pytest
from fakes import serve_world
from fakes.serve_world import NO_SCORE, Final, Run, agent, block, records

from headrace.enrichers.late import BEGINNING
from headrace.schemas.batch import RecordBatch
from headrace.schemas.deadletter import split_headers
from headrace.schemas.partial import Part, Passed, encode_partial
from headrace.streams.agents.moments import Running

PARTIALS = "headrace.press.partials.v1"


def spec(**summary):
    made = {"idle_s": 20.0, "metrics": [], "group_by": [], "window_s": 10.0} | summary
    return serve_world.pipeline(summary=made)


class Partials:
    """What partitions say, and a finaliser that reads it."""

    def __init__(self, **summary):
        self.final = Final(spec(**summary))
        self.layout = self.final.agent.layout

    def part(self, partition, start, *, layout=None, rows=1, closes=None):
        return Part(
            layout=layout or self.layout,
            partition=partition,
            window_start_ms=start,
            group="all",
            closes_ms=start if closes is None else closes,
            rows=rows,
            running=Running.empty(1).encode(),
            devices={"d": (0.5, 0)},
        )

    def passed(self, partition, over, after=BEGINNING, *, layout=None, quiet=False):
        return Passed(
            layout=layout or self.layout,
            partition=partition,
            over_ms=over,
            after_ms=after,
            quiet=quiet,
        )

    async def say(self, *said):
        await self.final.batch([encode_partial(one) for one in said])

    def facts(self):
        return self.final.agent.facts(self.final.state)

    def released(self):
        return [key for output in self.final.outputs for key in output.keys]


async def test_a_partition_whose_rows_are_all_refused_closes_its_windows():
    """Event time goes on by what came, whatever the model says of it."""
    run = Run()
    served = block(2, event_times_ms=np.array([1000, 2000]), log_times_ms=np.array([1000, 2000]))
    late = np.array([14_999, 15_000])
    refused = np.full((2, 2), NO_SCORE)
    await run.batch(served)
    await run.batch(
        block(2, offset=2, event_times_ms=late, log_times_ms=late, features=refused), offset=1
    )

    assert run.counts["dead"] == 2
    assert run.final.counts["out"] == 2
    assert [key for o in run.final.outputs for key in o.keys]


async def test_a_refused_row_closes_the_window_of_the_rows_behind_it():
    """A row after a refused one is judged late by it, as it is by a served one."""
    times = np.array([1000, 15_000, 2000, 40_000])
    found = []
    for value in (0.5, NO_SCORE):
        features = np.array([[0.1, 0.1], [value, value], [0.1, 0.1], [0.1, 0.1]])
        run = Run()
        await run.batch(block(4, event_times_ms=times, log_times_ms=times, features=features))
        parts = [part for part in run.parts() if part.window_start_ms == 0]
        found.append([(part.closes_ms, part.rows) for part in parts])

    assert len(found[0]) > 1
    assert found[0] == found[1]


async def test_the_partition_that_summaries_wait_for_is_known():
    """Those that rest are not waited for; one that was not heard of is behind by all of it."""
    at = Partials()
    await at.say(at.part(0, 0), at.passed(0, 0), at.part(0, 40_000), at.passed(0, 40_000, 0))
    assert at.facts().behind_s == {"0": 0.0, "1": 50.0, "2": 50.0}
    await at.say(at.passed(1, 20_000), at.passed(2, BEGINNING, quiet=True))

    assert at.facts().behind_s == {"0": 0.0, "1": 20.0}
    assert at.facts().furthest_behind == ("1", 20.0)
    assert at.released() == [b"0/all"]
    await at.say(at.passed(1, 40_000, 20_000))
    assert at.facts().furthest_behind is None


async def test_nothing_is_behind_before_anything_was_said():
    """No partition has a mark, no window is kept."""
    facts = Partials().facts()

    assert facts.bytes == 0
    assert facts.furthest_behind is None


async def test_what_is_kept_is_counted():
    """Bytes of all parts, as many again after a restart, and none when all is forgotten."""
    at = Partials(amend_s=30.0)
    quiet = [at.passed(p, BEGINNING, quiet=True) for p in (1, 2)]
    for start in range(0, 100_000, 10_000):
        await at.say(at.part(0, start), at.part(0, start), at.passed(0, start, start - 10_000))
    state, kept = at.final.state, at.facts().bytes
    again = at.final.agent.new_state(PARTIALS, 0)
    again.load(list(at.final.store.items()))
    values = [
        v for groups in state.windows.values() for w in groups.values() for v in w.parts.values()
    ]

    assert len(values) == 10
    assert kept == again.memory_bytes > sum(map(len, values))
    await at.say(*quiet)
    await at.say(at.passed(0, 500_000, 90_000))
    assert (at.facts().bytes, state.windows) == (0, {})


async def test_a_window_of_which_something_was_not_read_is_not_released(caplog):
    """Partition 1 was past 20 s before we heard of it: windows up to there cannot be whole."""
    at = Partials()
    await at.say(at.passed(2, BEGINNING, quiet=True))
    for start in (10_000, 20_000, 30_000):
        await at.say(at.part(0, start), at.passed(0, start, start - 10_000))
    await at.say(at.part(1, 30_000), at.passed(1, 30_000, 20_000))

    assert at.released() == [b"30000/all"]
    assert at.final.counts["unsummarized"] == 2
    assert "windows that start up to 20000 ms are not released: what partition 1" in caplog.text
    late = at.part(1, 20_000, closes=40_000)
    await at.say(late, at.passed(1, 40_000, 30_000))
    assert at.released() == [b"30000/all"]
    assert at.final.counts["unsummarized"] == 3
    assert at.final.state.lacking == 20_000


async def test_what_a_crash_writes_again_lacks_nothing():
    """A partition that says again what it said, in other steps, is where it was."""
    at = Partials()
    await at.say(*(at.passed(p, BEGINNING, quiet=True) for p in (1, 2)))
    await at.say(at.part(0, 0), at.passed(0, 0), at.passed(0, 10_000, 0))
    await at.say(at.part(0, 0), at.passed(0, 10_000), at.part(0, 20_000))
    await at.say(at.passed(0, 20_000, 10_000))

    assert at.released() == [b"0/all", b"20000/all"]
    assert at.final.state.lacking == BEGINNING


async def test_other_summaries_are_none_of_ours():
    """Parts and marks of another [summary] are counted and change nothing."""
    at = Partials()
    await at.say(at.part(0, 0, layout="x", rows=5), at.passed(0, 50_000, layout="x"))

    assert at.final.counts == {"in": 5, "unsummarized": 5}
    assert (at.final.state.marks, at.final.state.windows) == ({}, {})


@pytest.mark.parametrize("lateness_s", [0.0001, 40.0])
async def test_another_lateness_loses_no_window(lateness_s):
    """What was said to be over stays so; rows go on to be summarized, each once."""
    times = np.array([1000, 22_000, 38_000])
    old = Run()
    await old.batch(block(3, event_times_ms=times, log_times_ms=times))
    changed = serve_world.pipeline(input={"allowed_lateness_s": lateness_s})
    run = Run(agent(changed))
    run.state, run.final, run.store = old.state, old.final, old.store
    for n, at in enumerate((39_000, 60_000, 90_000, 200_000)):
        one = np.array([at])
        await run.batch(block(1, offset=3 + n, event_times_ms=one, log_times_ms=one), offset=1 + n)

    assert run.final.counts == {"in": 6, "out": 6}
    assert run.final.state.lacking == BEGINNING


@pytest.mark.parametrize("made", [agent, lambda: Final(serve_world.pipeline()).agent])
def test_a_record_that_cannot_be_processed_keeps_its_bytes(made):
    """SERVE and the finaliser write the dead letter that every stage writes."""
    read = records(b"no block", partition=2, offset=7)
    read = RecordBatch(
        read.topic, 2, read.offsets, read.log_times_ms, [b"key"], read.values, [[("a", b"1")]]
    )
    stage = made()
    effects = stage.dead(read, 0, "block.invalid", stage.new_state(read.topic, 2))
    (output,) = effects.outputs
    own, ours = split_headers(output.headers[0])

    assert (output.partition, output.keys, output.values) == (2, [b"key"], [b"no block"])
    assert list(own) == [("a", b"1")]
    assert (ours["code"], ours["stage"]) == (b"block.invalid", stage.stage.encode())
    assert ours["source"] == b"headrace.press.features.v1[2]@7"
    assert ours.get("model") == (b"9f2c41d0" if stage.stage == "serve" else None)
    assert effects.counts["dead"] == 1
    assert dict(effects.delta.changed()) == {}
