"""The only door to matplotlib, which comes with the `plots` extra: a what-if as one picture.

Equal reports give equal bytes: no dates, fixed ids, letters left to the viewer's font. The
background is left out and text is mid-grey, so that a page can be light or dark.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from headrace.schemas.errors import MissingExtraError
from headrace.streams.replay.comparison import Comparison
from headrace.streams.replay.plot_style import OURS, STYLE
from headrace.streams.replay.sides import Pairs

_THEIRS, _GAINED, _LOST = "#d97706", "#dc2626", "#16a34a"


def draw(pairs: Pairs, comparison: Comparison, *, title: str) -> bytes:
    """An SVG file: scores of both sides, how they moved, anomalies over time, flips by device.

    Args:
        pairs: Events side by side; at least one.
        comparison: Their report.
        title: Above it.

    Raises:
        MissingExtraError: matplotlib is not installed. Fatal.
    """
    try:
        import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]
        from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise MissingExtraError(
            package="matplotlib", extra="plots", needed_for="a plot of a what-if"
        ) from error
    found = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 6), layout="constrained")
        figure.suptitle(title)
        (scores, moved), (over_time, devices) = figure.subplots(2, 2)
        _scores(scores, pairs)
        _moved(moved, pairs)
        _over_time(over_time, comparison)
        _devices(devices, comparison)
        figure.savefig(
            found, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return found.getvalue()


def _scores(axes: Any, pairs: Pairs) -> None:
    edges = np.histogram_bin_edges(np.concatenate([pairs.ours, pairs.theirs]), 40)
    for values, name, color in (
        (pairs.ours, "as served", OURS), (pairs.theirs, "otherwise", _THEIRS)
    ):  # fmt: skip
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, color=color, label=name)
    axes.set(xlabel="score", ylabel="events", yscale="symlog")
    axes.legend()


def _moved(axes: Any, pairs: Pairs) -> None:
    moved = pairs.theirs - pairs.ours
    counts, edges = np.histogram(moved, 41)
    axes.stairs(counts, edges, color=_THEIRS)
    axes.set(xlabel="score otherwise, less as served", ylabel="events", yscale="symlog")


def _over_time(axes: Any, comparison: Comparison) -> None:
    first = comparison.times[0].start_ms
    seconds = [(one.start_ms - first) / 1000 for one in comparison.times]
    axes.plot(seconds, [one.was for one in comparison.times], color=OURS, label="as served")
    axes.plot(
        seconds, [one.now for one in comparison.times], "--", color=_THEIRS, label="otherwise"
    )
    unit = f"{comparison.bucket_ms / 1000:g} s"
    axes.set(xlabel="event time, seconds", ylabel=f"anomalies in {unit}")
    axes.legend()


def _devices(axes: Any, comparison: Comparison) -> None:
    rows = [one for one in comparison.devices if one.gained or one.lost][:12]
    places = range(len(rows))
    axes.barh(places, [one.gained for one in rows], color=_GAINED, label="gained")
    axes.barh(places, [-one.lost for one in rows], color=_LOST, label="lost")
    axes.set_yticks(places, [one.device_id for one in rows])
    axes.invert_yaxis()
    axes.set(xlabel="anomalies gained, and lost to the left" if rows else "no label changed")
    if rows:
        axes.legend()
