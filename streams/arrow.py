"""The only door to pyarrow, which comes with the `tables` extra."""

from __future__ import annotations

import importlib
from typing import Any

from headrace.schemas.errors import MissingExtraError


def arrow(module: str = "", *, needed_for: str = "tables") -> Any:
    """`pyarrow`, or one of its modules; loaded where it is first needed: some 0.2 s.

    Args:
        module: Name below `pyarrow`: ``parquet``, ``csv``; empty for itself.
        needed_for: What the caller wants of it, for the message.

    Raises:
        MissingExtraError: it is not installed. Fatal.
    """
    try:
        import pyarrow as pa  # type: ignore[import-not-found,import-untyped,unused-ignore]  # untyped
    except ImportError as error:
        raise MissingExtraError(package="pyarrow", extra="tables", needed_for=needed_for) from error
    return importlib.import_module(f"pyarrow.{module}") if module else pa
