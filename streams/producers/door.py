"""The only door to psutil, which comes with the `host` extra."""

from __future__ import annotations

from headrace.schemas.errors import MissingExtraError

try:
    import psutil as psutil  # type: ignore[import-untyped]  # ships no type information
except ImportError as error:
    raise MissingExtraError(
        package="psutil", extra="host", needed_for="telemetry of this machine"
    ) from error

__all__ = ["psutil"]
