"""The metrics' reference page: ``python -m headrace.schemas.metrics_page``."""

from __future__ import annotations

import sys

from headrace.schemas.metrics import CATALOGUE, MetricName

_HEAD = """# Metrics

Written by `python -m headrace.schemas.metrics_page` from `schemas/metrics.py`; change that, not
this page. Units are UCUM's: `s` seconds, `By` bytes, `1` a share or a truth, `{event}` a count of
events. No label holds a key, a device or anything else that a producer can choose.

| metric | kind | unit | labels | meaning | when it moves |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page, Markdown."""
    return _HEAD + "".join(f"{_row(name)}\n" for name in CATALOGUE)


def _row(name: MetricName) -> str:
    spec = CATALOGUE[name]
    labels = ", ".join(spec.labels)
    cells = (f"`{name}`", spec.kind, f"`{spec.unit}`", labels, spec.meaning, spec.action)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
