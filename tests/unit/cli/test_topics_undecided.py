"""`headrace topics undecided`: what is said of transactions, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from headrace.streams.cli import topics_undecided
from headrace.streams.cli.main import main
from headrace.streams.transport.undecided import Fate, Undecided

PLACES = ("headrace.hosts.features.v1[1]@7", "__consumer_offsets[3]@88")


@pytest.mark.parametrize(
    ("fate", "said", "code"),
    [
        ("open", "its owner ends it", 0),
        ("committed", "--mend writes it", 2),
        ("aborted", "--mend writes it", 2),
        ("mended", "is written", 0),
        ("forgotten", "nobody knows", 2),
    ],
)
def test_each_says_what_to_do(
    fate: Fate, said: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lines and as JSON; 2 while something is left to do."""
    asked: list[Any] = []

    async def look(options: Any, groups: Any, topics: Any, *, mend: bool) -> list[Undecided]:
        asked.append((list(groups), "headrace.hosts.predictions.v1" in topics, mend))
        return [Undecided("hosts.enrich.f00d", fate, PLACES)]

    monkeypatch.setattr(topics_undecided, "look", look)
    monkeypatch.setenv("HEADRACE_BUS", "kafka://127.0.0.1:1")
    done = CliRunner().invoke(main, ["topics", "undecided", "hosts"])
    assert done.exit_code == code, done.output
    first, *places = done.output.splitlines()
    assert first.startswith("hosts.enrich.f00d  ")
    assert said in first
    assert [line.strip() for line in places] == list(PLACES)
    done = CliRunner().invoke(main, ["topics", "undecided", "hosts", "--mend", "--json"])
    assert done.exit_code == code
    [found] = json.loads(done.output)["undecided"]
    assert (found["fate"], tuple(found["places"])) == (fate, PLACES)
    groups = ["hosts.enrich", "hosts.serve", "hosts.summarize"]
    assert asked == [(groups, True, False), (groups, True, True)]
