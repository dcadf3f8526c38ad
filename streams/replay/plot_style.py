"""How a figure looks, wherever one is drawn; a file of its own that needs nothing but itself.

Equal data give equal bytes: fixed ids, letters left to the viewer's font. Text is mid-grey, so that
a page can be light or dark. The figures of `docs/benchmarks.md` are drawn in an environment without
Headrace, which loads this file alone.
"""

from __future__ import annotations

from typing import Any

GREY, OURS = "#808080", "#3b82f6"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "headrace",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color",
         "grid.color"), GREY),
}  # fmt: skip
