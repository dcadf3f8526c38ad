"""The health of several pipelines under one command: of all together, and of each by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.streams.health.server import Answers


class SeveralHealth:
    """Answers for all pipelines; `of` answers for one.

    A pipeline that ended is not ready. It is no reason to start this process again, which would
    mend nothing and take the others along: it counts as alive.

    Args:
        each: Health of each pipeline, by name.
        ended: Why those ended that did, by name; read whenever somebody asks.
    """

    def __init__(self, each: Mapping[str, Answers], ended: Mapping[str, Exception]) -> None:
        self._each = {name: _OfOne(name, answers, ended) for name, answers in each.items()}

    def of(self, name: str) -> Answers | None:
        """Who answers for one pipeline; None where there is none of this name."""
        return self._each.get(name)

    def not_live(self) -> list[str]:
        """Why this process or a worker is not alive, one line each; empty where all are."""
        return _distinct(line for one in self._each.values() for line in one.not_live())

    def not_ready(self) -> list[str]:
        """What keeps any pipeline from working on new input, one line each."""
        return _distinct(line for one in self._each.values() for line in one.not_ready())

    def facts(self) -> dict[str, Any]:
        """Everything that is known, without content; of a pipeline alone just as of itself."""
        facts = [one.facts() for one in self._each.values()]
        if len(facts) == 1:
            return facts[0]
        return {
            "live": not self.not_live(),
            "ready": not self.not_ready(),
            "reasons": self.not_ready(),
            "pipelines": facts,
        }


class _OfOne:
    """One pipeline, which may have ended."""

    def __init__(self, name: str, answers: Answers, ended: Mapping[str, Exception]) -> None:
        self._name = name
        self._answers = answers
        self._ended = ended

    def not_live(self) -> list[str]:
        return [] if self._name in self._ended else list(self._answers.not_live())

    def not_ready(self) -> list[str]:
        if self._name in self._ended:
            return [f"pipeline {self._name} ended: {self._ended[self._name]}"]
        return list(self._answers.not_ready())

    def facts(self) -> dict[str, Any]:
        facts = self._answers.facts()
        if self._name in self._ended:
            facts |= {"live": True, "ready": False, "reasons": self.not_ready()}
        return facts


def _distinct(lines: Iterable[str]) -> list[str]:
    """Each line once: pipelines share bus and store, and tell of them alike."""
    return list(dict.fromkeys(lines))
