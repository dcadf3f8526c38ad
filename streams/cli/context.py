"""What commands share: settings, the pipeline file a name means, and the signals that end them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from headrace.schemas.errors import PipelineFileError
from headrace.schemas.settings import Settings, load_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
"""Beside the layers, in a checkout and in an installed package alike."""


def load() -> Settings:
    """Settings from ``HEADRACE_SETTINGS`` or ``./headrace.toml``, then the environment.

    Raises:
        SettingsError: fatal.
    """
    named = os.environ.get("HEADRACE_SETTINGS")
    file = Path(named) if named else Path("headrace.toml")
    return load_settings(file if named or file.exists() else None, os.environ)


def pipeline_file(name: str) -> Path:
    """The pipeline file that `name` means: a path, or the name of an example.

    Raises:
        PipelineFileError: neither exists. Fatal.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path / "pipeline.toml" if path.is_dir() else path
    example = EXAMPLES / name / "pipeline.toml"
    if example.exists():
        return example
    known = sorted(p.parent.name for p in EXAMPLES.glob("*/pipeline.toml"))
    raise PipelineFileError(
        f"pipeline {name!r} is no file and no example; give the path of a .toml file, "
        f"or one of: {', '.join(known)}"
    )


async def until_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()
