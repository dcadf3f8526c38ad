"""What a drill tells the workers' model and clock to do: a file that every worker looks at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from headrace.schemas.errors import SettingsError

VARIABLE = "HEADRACE_DRILL_ORDERS"
"""The file's path; read by a drill's own workers only: no setting of a site can carry it."""


class Orders(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How model and clock behave.

    Attributes:
        slow_s: Longer that each session call takes, seconds.
        raises: The model raises for whatever holds a `cursed` row.
        ahead_s: How far the wall clock is ahead, seconds; negative: behind.
    """

    slow_s: float = 0.0
    raises: bool = False
    ahead_s: float = 0.0


def give(file: Path, orders: Orders) -> None:
    """Tell every worker that looks at this file, by its next batch; whole or not at all."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(orders))
    fresh.replace(file)


class OrdersFile:
    """The orders as they are now.

    Args:
        file: Where they are; none there is none given.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._orders = Orders()

    def now(self) -> Orders:
        """What is ordered; one look at the file's times."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return self._orders
        stamp = found.st_ino, found.st_mtime_ns
        if stamp != self._stamp:
            self._orders = msgspec.json.decode(self._file.read_bytes(), type=Orders)
            self._stamp = stamp
        return self._orders


def orders_of(environ: Mapping[str, str]) -> OrdersFile:
    """The orders that `VARIABLE` leads to.

    Raises:
        SettingsError: it is unset. Fatal.
    """
    if VARIABLE not in environ:
        raise SettingsError(f"{VARIABLE} is unset, expected the file with a drill's orders")
    return OrdersFile(Path(os.fspath(environ[VARIABLE])))
