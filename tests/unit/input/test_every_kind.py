"""Every kind of bad event through both agents: its place, its code, its neighbours unharmed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from fakes.agent_path import AgentPath, Ended
from fakes.bad_events import CASES, DEVICES, STEP_MS, Sent, log_of, only_good
from fakes.input_forms import FORMS, Form, Record

from headrace.enrichers.verdicts import CODES

START_MS = 1_795_255_200_000
CUTS = {"whole": [10**6], "one by one": list(range(500)), "sevens": list(range(0, 500, 7))}


async def taken(path: AgentPath, records: list[Record], cuts: list[int]) -> Ended:
    """What becomes of a log, cut so."""
    path.begin()
    log_times = [START_MS + STEP_MS * (len(CASES) + place) for place in range(len(records))]
    edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    for start, stop in pairwise(edges):
        await path.take(path.batch(records[start:stop], start, log_times[start:stop]))
    path.ended.balance(len(records))
    return path.ended


def judged(sent: Sent, ended: Ended) -> dict[str, tuple[str, str | None]]:
    """By the name of each kind that ended elsewhere: where it did."""
    wrong = {}
    for offset, kind in enumerate(sent.cases):
        expected = ("out", None) if kind is None else (kind.place, kind.code)
        found = ended.verdicts.get(offset, ("repeated", None))
        if found != expected:
            wrong[kind.name if kind else f"good at {offset}"] = found
    return wrong


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_each_kind_has_its_place(tmp_path: Path, form: Form) -> None:
    """In any company and any cut; and the good events are those of a log without the others."""
    path, sent = AgentPath(tmp_path, form), log_of(form, START_MS)
    clean = await taken(path, only_good(sent), CUTS["whole"])
    assert len(clean.predictions) == len(CASES) >= DEVICES

    for cuts in CUTS.values():
        ended = await taken(path, sent.records, cuts)
        assert judged(sent, ended) == {}
        assert {i: ended.features[i] for i in clean.features} == clean.features
        assert {i: ended.predictions[i] for i in clean.predictions} == clean.predictions
    await path.close()


def test_the_table_has_every_code() -> None:
    """No code of the decoder is without a kind."""
    assert {case.code for case in CASES if case.place == "dead"} == set(CODES)
