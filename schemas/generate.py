"""Writes the contracts that other languages read: ``python -m headrace.schemas.generate``.

With ``--check`` nothing is written; files that differ from the structs are named and the exit
status is 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from headrace.schemas.asyncapi import DeadLetterHeaders, document
from headrace.schemas.event import Event
from headrace.schemas.jsonschema import standalone
from headrace.schemas.observed import ObservedRecord
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prediction import Prediction
from headrace.schemas.settings import Settings
from headrace.schemas.summary import SummaryRecord

FOLDER = Path(__file__).parent / "generated"

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "event": Event,
    "prediction": Prediction,
    "summary": SummaryRecord,
    "observed": ObservedRecord,
    "deadletter-headers": DeadLetterHeaders,
    "pipeline": Pipeline,
    "settings": Settings,
}


def contents() -> dict[str, str]:
    """Every generated file: name to text."""
    documents = {f"{name}.json": standalone(kind, name) for name, kind in STRUCTS.items()}
    documents["asyncapi.json"] = document()
    return {
        name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for name, content in documents.items()
    }


def stale(folder: Path) -> list[str]:
    """Names of files in `folder` that are missing, differ, or belong to nothing any more."""
    expected = contents()
    found = {file.name: file.read_text("utf-8") for file in folder.glob("*.json")}
    return sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))


def write(folder: Path) -> None:
    """Make `folder` hold exactly the generated files."""
    folder.mkdir(exist_ok=True)
    expected = contents()
    for file in folder.glob("*.json"):
        if file.name not in expected:
            file.unlink()
    for name, text in expected.items():
        (folder / name).write_text(text, "utf-8")


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Write the files, or check them; returns the exit status."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m headrace.schemas.generate [--check]\n")
        return 2
    if not arguments:
        write(folder)
        return 0
    differ = stale(folder)
    if differ:
        sys.stderr.write(
            f"schemas/generated differs from the structs in {', '.join(differ)}; "
            f"run: make schemas\n"
        )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
