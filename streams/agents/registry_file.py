"""The device registry's file, beside the pipeline file."""

from __future__ import annotations

from pathlib import Path

from headrace.schemas.errors import PipelineFileError
from headrace.schemas.pipeline import Pipeline


def registry_text(pipeline: Pipeline, folder: Path) -> str | None:
    """The device registry's file in `folder`; None where the pipeline names none.

    Raises:
        PipelineFileError: it is missing or unreadable. Fatal.
    """
    if pipeline.devices is None:
        return None
    try:
        return (folder / pipeline.devices.file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineFileError(
            f"reading the device registry {pipeline.devices.file!r} failed: {error}; "
            f"put it beside the pipeline file"
        ) from error
