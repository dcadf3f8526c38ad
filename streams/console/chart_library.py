"""Where the chart library is: a file of a package that the extra `console` brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = "litecharts"
"""Carries TradingView's Lightweight Charts (Apache-2.0) as one script; no code of it runs here."""

FILE = "js/lightweight-charts.js"
WITHOUT = b"// no chart library: pip install 'headrace[console]'; charts are drawn without it\n"


def chart_library() -> Path | None:
    """The library's script; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)  # looks for it, and imports nothing
    for folder in found.submodule_search_locations or () if found is not None else ():
        if (file := Path(folder) / FILE).is_file():
            return file
    return None
