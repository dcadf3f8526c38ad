"""The device registry: attributes of an entity that its events do not carry."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.schemas.errors import PipelineFileError
from headrace.schemas.input import Devices

UNKNOWN = "other"
"""Attribute of an entity that the registry does not list."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Entity to label, one table per attribute."""

    tables: dict[str, dict[str, str]]

    def attributes(self, entities: Sequence[str]) -> dict[str, list[str]]:
        """Each attribute's label of every entity, `UNKNOWN` where it is not listed.

        Example:
            >>> Registry({"site": {"press-07": "north"}}).attributes(["press-07", "press-99"])
            {'site': ['north', 'other']}
        """
        return {
            name: [table.get(entity, UNKNOWN) for entity in entities]
            for name, table in self.tables.items()
        }


NO_REGISTRY = Registry({})


def parse_registry(text: str, devices: Devices) -> Registry:
    """The registry in a CSV file's text; the first line holds the column names.

    Args:
        text: The file's content.
        devices: Which columns hold the entity and the attributes.

    Raises:
        PipelineFileError: a column is missing, a line has another number of fields, or an entity
            stands twice. Fatal.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    places = [_place(devices, header, name) for name in (devices.key, *devices.columns)]
    tables: dict[str, dict[str, str]] = {name: {} for name in devices.columns}
    seen: set[str] = set()
    for line in lines:
        if not line:
            continue
        if len(line) != len(header):
            raise PipelineFileError(
                f"line {lines.line_num} of device registry {devices.file!r} has {len(line)} "
                f"fields, expected {len(header)}; quote fields that hold a comma"
            )
        entity, *labels = [line[place] for place in places]
        if entity in seen:
            raise PipelineFileError(
                f"line {lines.line_num} of device registry {devices.file!r} repeats an entity, "
                "expected each once; remove one of the lines"
            )
        seen.add(entity)
        for name, label in zip(devices.columns, labels, strict=True):
            tables[name][entity] = label or UNKNOWN
    return Registry(tables)


def _place(devices: Devices, header: list[str], name: str) -> int:
    if name not in header:
        raise PipelineFileError(
            f"device registry {devices.file!r} has no column {name!r}, found "
            f"{', '.join(header) or 'none'}; name an existing column in [devices]"
        )
    return header.index(name)
