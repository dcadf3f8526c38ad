"""Programs and schemas that the files of compose/ are checked with: `sh .ci/compose`."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import ModuleType

from fakes.services import without

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "compose"
FETCHED = ROOT / "build" / "compose"


def fetched(name: str) -> Path:
    """What `.ci/compose` fetches, or the system's program of that name; skips where neither is."""
    file = FETCHED / name
    if not file.exists():
        found = shutil.which(name)
        if found is None:
            without(f"{name} is not in build/compose; fetch it with: sh .ci/compose")
        file = Path(found)
    return file


def package(name: str) -> ModuleType:
    """A module of what `.ci/compose` installs; skips where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        without(f"{name} cannot be imported; install it with: sh .ci/compose")
