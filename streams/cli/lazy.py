"""A click group that imports a command only when it is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from headrace.schemas.strict import nearest


class Lazy(NamedTuple):
    """Where a command is.

    Attributes:
        place: ``module:attribute`` of the click command.
        summary: Its line in the group's help, so that help imports nothing.
    """

    place: str
    summary: str


class LazyGroup(click.Group):
    """Group whose commands are named by import path.

    Args:
        lazy: Command name to place and summary, in the order of the help.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the order of the data path."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command; None for an unknown name.

        Raises:
            UsageError: the name is unknown; the message names the nearest one.
        """
        if cmd_name not in self.lazy:
            message = f"no command {cmd_name!r}{nearest(cmd_name, self.lazy)}"
            raise click.UsageError(message, ctx)
        module, _, attribute = self.lazy[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write name and summary of every command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self.lazy.items()])
