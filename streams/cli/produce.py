"""`headrace produce`: send telemetry into a pipeline."""

from __future__ import annotations

import click

from headrace.streams.cli.lazy import Lazy, LazyGroup

_AT = "headrace.streams.cli.produce_"
SOURCES = {
    "host": Lazy(_AT + "host:host", "This machine's own telemetry."),
    "file": Lazy(_AT + "file:file", "A file of one JSON object per line."),
    "fleet": Lazy(_AT + "fleet:fleet", "A simulated fleet under load, made from a seed."),
    "check": Lazy(_AT + "check:check", "Hold the topics against a fleet's ledger."),
}


@click.command(cls=LazyGroup, lazy=SOURCES)
def produce() -> None:
    """Send telemetry: this machine's, a file, or a simulated fleet."""
