"""What commands about the past share: a range, a pace that leaves the live path alone, progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from headrace.streams.cli.deadletter import Since
from headrace.streams.replay.ranges import Clock, Wanted, parse_offsets

F = TypeVar("F", bound=Callable[..., Any])

_TELL_S = 2.0
_NICE = 10
"""A replay gives way to workers on the same machine."""


def range_options(command: F) -> F:
    """``--from``, ``--to``, ``--by``, ``--offsets`` and ``--full-speed``."""
    for option in (
        click.option("--full-speed", is_flag=True, help="Do not give way to live workers."),
        click.option("--offsets", help="Only these: PARTITION:FIRST-STOP, parted by commas."),
        click.option(
            "--by", type=click.Choice(["broker", "event"]), default="broker", show_default=True,
            help="Whose time --from and --to are.",
        ),
        click.option("--to", "stop", type=Since(), help="Before this age (2h) or time."),
        click.option("--from", "start", type=Since(), help="Since this age (2h) or time."),
    ):  # fmt: skip
        command = option(command)
    return command


def wanted_range(start: float | None, stop: float | None, by: Clock, offsets: str | None) -> Wanted:
    """The range that the options ask for.

    Raises:
        SettingsError: it is reversed, empty or not understood. Fatal.
    """
    wanted = Wanted(
        by=by,
        start_ms=None if start is None else round(start),
        stop_ms=None if stop is None else round(stop),
        offsets=None if offsets is None else parse_offsets(offsets),
    )
    wanted.check()
    return wanted


def give_way(*, full_speed: bool) -> None:
    """Leave the processor to live workers, unless told not to."""
    if not full_speed and hasattr(os, "nice"):
        os.nice(_NICE)


class Progress:
    """How far a replay is, on standard error every other second.

    Args:
        total: Offsets in all.
        monotonic: Monotonic seconds.
    """

    def __init__(self, total: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._total, self._monotonic = total, monotonic
        self._done = 0
        self._began_s = self._told_s = monotonic()

    def __call__(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        now_s = self._monotonic()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            is_terminal = sys.stderr.isatty()
            line = self.line(now_s - self._began_s)
            click.echo(f"\r{line}\x1b[K" if is_terminal else line, err=True, nl=not is_terminal)

    def line(self, seconds: float) -> str:
        """Share, rate and time left.

        Example:
            >>> progress = Progress(200, monotonic=lambda: 0.0)
            >>> progress(50)
            >>> progress.line(10.0)
            '25 %  50 of 200 offsets  5/s  30 s left'
        """
        share = self._done / max(self._total, 1)
        left = f"{seconds * (1 - share) / share:,.0f} s left" if share else "starting"
        rate = self._done / max(seconds, 1e-9)
        return (
            f"{share * 100:.0f} %  {self._done:,} of {self._total:,} offsets  {rate:,.0f}/s  {left}"
        )


def write_file(file: Path, content: bytes) -> None:
    """Write a report.

    Raises:
        UsageError: it cannot be written there.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"writing {str(file)!r} failed: {error.strerror}") from error
