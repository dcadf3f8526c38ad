"""The Lua scripts of the store, shipped as package data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the SHA-1 in hexadecimal by which a server that has it knows it."""

    text: str
    sha: str


def _load(name: str) -> Script:
    text = (files("headrace.feature_store") / "lua" / f"{name}.lua").read_text("utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ROWS_WRITE: Final = _load("rows_write")
ROWS_WRITE_SWEPT: Final = _load("rows_write_swept")
ROWS_READ: Final = _load("rows_read")
CHECKPOINT_WRITE: Final = _load("checkpoint_write")
CHECKPOINT_BEGIN: Final = _load("checkpoint_begin")
CHECKPOINT_APPEND: Final = _load("checkpoint_append")
CHECKPOINT_SWITCH: Final = _load("checkpoint_switch")

_BY_SHA = {
    script.sha: script
    for script in (
        ROWS_WRITE, ROWS_WRITE_SWEPT, ROWS_READ,
        CHECKPOINT_WRITE, CHECKPOINT_BEGIN, CHECKPOINT_APPEND, CHECKPOINT_SWITCH,
    )
}  # fmt: skip


def text_of(sha: str) -> str:
    """The text of one of these scripts by its SHA-1."""
    return _BY_SHA[sha].text
