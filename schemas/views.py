"""Feature views of a pipeline file, and the feature columns they expand to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Op = Literal[
    "raw", "delta", "rate", "ewma", "zscore", "since_last", "clock_error",
    "count", "sum", "mean", "std", "min", "max",
]  # fmt: skip

WINDOW_OPS = frozenset({"count", "sum", "mean", "std", "min", "max"})
"""Operators over a sliding event-time window; they need `window_s`."""

PLAIN_OPS = frozenset({"since_last", "clock_error", "count"})
"""Operators over the events themselves, with no metric."""


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One operator over one or more metrics: one column per metric.

    Attributes:
        op: ``raw`` the value; ``delta`` minus the one before; ``rate`` delta per second; ``ewma``;
            ``zscore`` distance from the entity's own exponentially weighted history, in standard
            deviations; ``since_last`` seconds since the entity's event before; ``clock_error``
            seconds by which the device's clock is behind the broker's, negative where ahead, told
            from the events of the last 10 to 20 minutes; ``count``, ``sum``, ``mean``, ``std``,
            ``min``, ``max`` over a sliding event-time window.
        metrics: Names; ``*`` stands for all. Empty for ``since_last``, ``clock_error`` and
            ``count``.
        window_s: Length of the window, seconds.
        tile_s: The window moves in steps of this; default a tenth of the window.
        alpha: Weight of the newest value in ``ewma`` and ``zscore``, 0 to 1.
        warm_up: Events of an entity before ``zscore`` says anything but 0.
        name: Column name; ``{metric}`` stands for the metric. Default
            ``<metric>_<op>``, with the window where there is one: ``load_mean_60s``.
    """

    op: Op
    metrics: tuple[str, ...] = ()
    window_s: Annotated[float, Meta(gt=0)] | None = None
    tile_s: Annotated[float, Meta(gt=0)] | None = None
    alpha: Annotated[float, Meta(gt=0, le=1)] = 0.05
    warm_up: Annotated[int, Meta(ge=1)] = 30
    name: str | None = None


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of features of one entity, kept together in the online store.

    Attributes:
        features: Its features, in order.
        version: Raised when its features change: rows of another version stand beside it in the
            store until they expire, so that the new one can be filled before it is served.
        ttl_s: A row not renewed for this long counts as missing, seconds.
        stale: What a reader does with a row older than its TTL.
    """

    features: Annotated[tuple[Feature, ...], Meta(min_length=1)]
    version: Annotated[int, Meta(ge=1)] = 1
    ttl_s: Annotated[float, Meta(gt=0)] = 86_400.0
    stale: Literal["serve", "default", "abstain"] = "serve"


@dataclass(frozen=True, slots=True)
class Column:
    """One feature column.

    Attributes:
        view: View it belongs to, as the store calls it (`stored_view`).
        name: Its name, unique in the pipeline.
        op: Operator.
        metric: Index of its metric among the pipeline's metrics; -1 where there is none.
        window_ms: Window length in milliseconds, a multiple of `tile_ms`; 0 where there is none.
        tile_ms: Tile length in milliseconds.
        alpha: Weight of the newest value.
        warm_up: Events before the operator says anything but 0.
    """

    view: str
    name: str
    op: Op
    metric: int
    window_ms: int
    tile_ms: int
    alpha: float
    warm_up: int


def expand(views: Mapping[str, View], metrics: Iterable[str]) -> tuple[Column, ...]:
    """Every feature column of a pipeline, view by view, in the order of the file.

    Raises:
        ValueError: an unknown metric, a missing or odd window, or two columns of one name.

    Example:
        >>> load = Feature(op="mean", metrics=("load",), window_s=60)
        >>> [c.name for c in expand({"host": View(features=(load,))}, ["load"])]
        ['load_mean_60s']
    """
    names = list(metrics)
    columns = [
        column
        for view, spec in views.items()
        for feature in spec.features
        for column in _columns(view, spec.version, feature, names)
    ]
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise ValueError(f"two features are called {column.name!r}; give one of them a name")
        seen.add(column.name)
    return tuple(columns)


def stored_view(view: str, version: int) -> str:
    """What the store calls a version of a view.

    Example:
        >>> stored_view("host", 1), stored_view("host", 2)
        ('host', 'host@2')
    """
    return view if version == 1 else f"{view}@{version}"


def _columns(view: str, version: int, feature: Feature, names: list[str]) -> Iterable[Column]:
    window_ms, tile_ms = _window(view, feature)
    chosen: list[str] = []
    for name in feature.metrics:
        chosen += names if name == "*" else [name]
    if not chosen and feature.op not in PLAIN_OPS:
        raise ValueError(f"feature {feature.op!r} of view {view!r} names no metrics")
    if chosen and feature.op in PLAIN_OPS:
        raise ValueError(f"feature {feature.op!r} of view {view!r} takes no metrics")
    for metric in chosen or [""]:
        if metric and metric not in names:
            raise ValueError(
                f"feature {feature.op!r} of view {view!r} names the metric {metric!r}, "
                f"known are: {', '.join(names)}"
            )
        yield Column(
            stored_view(view, version),
            _name(feature, metric, window_ms),
            feature.op,
            names.index(metric) if metric else -1,
            window_ms,
            tile_ms,
            feature.alpha,
            feature.warm_up,
        )


def _window(view: str, feature: Feature) -> tuple[int, int]:
    if feature.op not in WINDOW_OPS:
        if feature.window_s is not None or feature.tile_s is not None:
            raise ValueError(f"feature {feature.op!r} of view {view!r} takes no window")
        return 0, 0
    if feature.window_s is None:
        raise ValueError(f"feature {feature.op!r} of view {view!r} needs window_s")
    window_ms = round(feature.window_s * 1000)
    tile_ms = round((feature.tile_s or feature.window_s / 10) * 1000)
    if tile_ms < 1 or window_ms % tile_ms or window_ms // tile_ms > 1000:
        raise ValueError(
            f"feature {feature.op!r} of view {view!r} has a window of {window_ms} ms in tiles of "
            f"{tile_ms} ms, expected 1 to 1000 whole tiles; set tile_s"
        )
    return window_ms, tile_ms


def _name(feature: Feature, metric: str, window_ms: int) -> str:
    if feature.name is not None:
        return feature.name.replace("{metric}", metric)
    parts = [metric, feature.op, f"{window_ms / 1000:g}s" if window_ms else ""]
    return "_".join(part for part in parts if part)
