"""`headrace replay`: a topic's past as a table, or one of the questions that have a name."""

from __future__ import annotations

import click

from headrace.streams.cli.lazy import Lazy, LazyGroup

_AT = "headrace.streams.cli."
QUESTIONS = {
    "reproduce": Lazy(
        _AT + "replay_reproduce:command", "Compute what was served anew, and compare each bit."
    ),
}


@click.command(cls=LazyGroup, lazy=QUESTIONS)
def replay() -> None:
    """Ask the past, beside everything that is live."""
