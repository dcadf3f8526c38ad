"""The figures of ``docs/benchmarks.md``: ``python plots.py REPORT FOLDER``, a process of its own.

It runs in the environment ``plots``: nothing else here needs matplotlib. Equal reports give equal
bytes: no dates, fixed ids, letters left to the viewer's font. The background is left out and text
is mid-grey, so that a page can be light or dark.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from plots_series import FIGURES, Series, latency_series, scaling_series, short, throughput_series
from targets import LATENCY_MS, LATENCY_RATE, LATENCY_SIDE

_STYLE_FILE = Path(__file__).parents[2] / "streams" / "replay" / "plot_style.py"
STYLE = runpy.run_path(str(_STYLE_FILE))["STYLE"]
"""That of the package's own figures; the package is not in this environment."""
OURS, OTHER, TARGET = "#3b82f6", "#d97706", "#16a34a"
LINES = ((OURS, "o", "-"), (OTHER, "s", "--"), ("#a855f7", "^", ":"))


def throughput(sides: dict[str, Any]) -> Figure:
    """Events per second of every side, as marks on a logarithmic axis, each with its number."""
    rows = throughput_series(sides)
    figure = Figure(figsize=(8, 0.6 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for y, (key, _, rate) in enumerate(rows):
        ours = key == "headrace"
        axes.plot([rate], [y], "o" if ours else "s", color=OURS if ours else OTHER)
        axes.annotate(f"{rate:,.0f}", (rate, y), (8, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [label for _, label, _ in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(row[2] for row in rows) / 2, max(row[2] for row in rows) * 3)
    axes.set_xlabel("events/s, logarithmic")
    _short_ticks(axes, x=True, subs=(1.0,))
    return figure


def latency(latency: dict[str, Any]) -> Figure:
    """Milliseconds over the rate, a panel for each percentile, a line for each side."""
    panels = latency_series(latency)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    every = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axes, (percentile, lines) in zip(every, panels.items(), strict=True):
        for line in lines:
            color, marker, dashes = LINES[list(latency).index(line.name) % len(LINES)]
            axes.plot(line.x, line.y, dashes, marker=marker, color=color, label=line.name)
        axes.plot([LATENCY_RATE], [LATENCY_MS[percentile]], "_", color=TARGET, markersize=18,
                  markeredgewidth=2, label=f"target: {LATENCY_SIDE}")  # fmt: skip
        axes.set(title=percentile, xlabel="events/s", xscale="log", yscale="log")
        axes.xaxis.set_major_locator(FixedLocator(sorted({x for line in lines for x in line.x})))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        _short_ticks(axes, x=False, subs=(1.0, 2.0, 5.0))
    every[0].set_ylabel("ms, logarithmic")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def scaling(scaling: dict[str, Any]) -> Figure:
    """Small multiples: a row for each figure, a column for each dimension."""
    curves = scaling_series(scaling)
    columns = [dimension for figure, dimension in curves if figure == next(iter(FIGURES))]
    page = Figure(figsize=(1.2 + 1.65 * len(columns), 5.4), layout="constrained")
    grid = page.subplots(len(FIGURES), len(columns), sharex="col", sharey="row", squeeze=False)
    for row, (figure, title) in zip(grid, FIGURES.items(), strict=True):
        for axes, dimension in zip(row, columns, strict=True):
            _curve(axes, curves[figure, dimension], logarithmic=figure != "rss_mb")
        row[0].set_ylabel(title)
    for axes, dimension in zip(grid[-1], columns, strict=True):
        axes.set_xlabel(curves["rss_mb", dimension].name)
    for axes in grid[-1]:
        axes.set_ylim(bottom=0)
    return page


def _curve(axes: Axes, curve: Series, *, logarithmic: bool) -> None:
    axes.plot(curve.x, curve.y, "-o", color=OURS, markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(curve.x))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.tick_params(axis="x", labelsize=7)
    axes.margins(x=0.12)
    if logarithmic:
        axes.set_yscale("log")
        _short_ticks(axes, x=False, subs=(1.0, 2.0, 5.0))


def _short_ticks(axes: Axes, *, x: bool, subs: tuple[float, ...]) -> None:
    axis = axes.xaxis if x else axes.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


DRAWN: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "sides": throughput,
    "latency": latency,
    "scaling": scaling,
}


def main(report: Path, folder: Path) -> None:
    """Draw what the report holds."""
    found = json.loads(report.read_text("utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for part, draw in DRAWN.items():
            if part in found:
                file = folder / f"{draw.__name__}.svg"
                # Neither date nor version: equal figures are equal files.
                nothing = {"Date": None, "Creator": None}
                draw(found[part]).savefig(file, transparent=True, metadata=nothing)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
