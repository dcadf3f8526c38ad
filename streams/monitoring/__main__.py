"""Writes alerts and dashboards: ``python -m headrace.streams.monitoring [--check] FOLDER``.

They are ``prometheus/alerts.yml`` and ``grafana/dashboards/*.json`` of the folder. With ``--check``
nothing is written; files that differ are named and the exit status is 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from headrace.streams.monitoring.alert_rules import rule_file
from headrace.streams.monitoring.boards import BOARDS
from headrace.streams.monitoring.panels import dashboard

DASHBOARDS = "grafana/dashboards"


def contents() -> dict[str, str]:
    """Every file: its place in the folder to its text."""
    made = {"prometheus/alerts.yml": rule_file()}
    for board in BOARDS:
        text = json.dumps(dashboard(board), indent=2, ensure_ascii=False) + "\n"
        made[f"{DASHBOARDS}/{board.uid.removeprefix('headrace-')}.json"] = text
    return made


def stale(folder: Path) -> list[str]:
    """Places that are missing, differ, or hold a dashboard that is none of ours."""
    expected = contents()
    others = {f"{DASHBOARDS}/{file.name}" for file in (folder / DASHBOARDS).glob("*.json")}
    return sorted(p for p in expected.keys() | others if expected.get(p) != _text(folder / p))


def write(folder: Path) -> None:
    """Make the folder hold exactly these."""
    expected = contents()
    for place in stale(folder):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if place in expected:
            (folder / place).write_text(expected[place], "utf-8")
        else:
            (folder / place).unlink()


def _text(file: Path) -> str | None:
    return file.read_text("utf-8") if file.is_file() else None


def main(arguments: list[str]) -> int:
    """Write the files, or check them; returns the exit status."""
    check, folders = arguments[:1] == ["--check"], [a for a in arguments if a != "--check"]
    if len(folders) != 1:
        sys.stderr.write("usage: python -m headrace.streams.monitoring [--check] FOLDER\n")
        return 2
    folder = Path(folders[0])
    if not check:
        write(folder)
        return 0
    differ = stale(folder)
    if differ:
        sys.stderr.write(
            f"{folder} differs from the metric catalogue in {', '.join(differ)}; "
            f"run: python -m headrace.streams.monitoring {folder}\n"
        )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
