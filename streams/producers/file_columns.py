"""Rows of named columns as events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.schemas.input import Input
from headrace.streams.producers.file_facts import PER_MS


class NoEventError(ValueError):
    """A row cannot be made an event; the message says why and quotes nothing."""


class Columns:
    """Makes events of rows of named columns.

    A column is named as the pipeline names what it holds (a metric, an attribute), or by its path
    in an event, dots between the names of nested objects.

    Args:
        spec: The pipeline's input.
        time_field: Column of the time; None is the one named as the input's.

    Raises:
        SettingsError: the input is CloudEvents. Fatal.
    """

    def __init__(self, spec: Input, time_field: str | None) -> None:
        if spec.format != "json":
            raise SettingsError(
                f"the pipeline takes {spec.format}, and rows of a table become plain json; "
                "give it a file of one event per line"
            )
        self._paths = {name: spec.metric_path(name) for name in spec.metrics}
        self._paths |= {name: spec.attribute_path(name) for name in spec.attributes}
        if time_field is not None:
            self._paths[time_field] = spec.time
        self._numbers = {spec.metric_path(name) for name in spec.metrics}
        if spec.sequence is not None:
            self._numbers.add(spec.sequence)
        if spec.time_unit != "iso":
            self._numbers.add(spec.time)
        self._unit, self._time = spec.time_unit, spec.time
        self._encode = msgspec.json.Encoder().encode

    def paths(self, names: Sequence[str]) -> list[list[str]]:
        """The path of each column in an event.

        Raises:
            SettingsError: two columns would be in each other's place. Fatal.
        """
        found = [self._paths.get(name, name).split(".") for name in names]
        nested = {".".join(path[:depth]) for path in found for depth in range(1, len(path))}
        for name, path in zip(names, found, strict=True):
            if ".".join(path) in nested or found.count(path) > 1:
                raise SettingsError(
                    f"column {name!r} and another would be in each other's place in an event; "
                    "name them by different paths"
                )
        return found

    def event(self, paths: Sequence[list[str]], values: Sequence[Any]) -> bytes:
        """The event of one row; columns without a value are left out.

        Raises:
            NoEventError: a number was expected and is none, or JSON cannot hold a value.
        """
        tree: dict[str, Any] = {}
        for path, value in zip(paths, values, strict=True):
            if value is None or value == "":
                continue
            place = tree
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = self._valued(".".join(path), value)
        try:
            return self._encode(tree)
        except (TypeError, ValueError):
            raise NoEventError("holds what JSON cannot") from None

    def _valued(self, path: str, value: Any) -> Any:
        if isinstance(value, date):
            return self._timed(value)
        if not isinstance(value, str) or path not in self._numbers:
            return value
        try:
            return int(value) if value.lstrip("+-").isdigit() else float(value)
        except ValueError:
            raise NoEventError(f"has no number in column {path!r}") from None

    def _timed(self, at: date) -> Any:
        """A time of a Parquet file as the input writes it."""
        when = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        if self._unit == "iso":
            return when.isoformat().replace("+00:00", "Z")
        ms = when.timestamp() * 1000
        return ms / 1000 if self._unit == "s" else round(ms * PER_MS[self._unit])
