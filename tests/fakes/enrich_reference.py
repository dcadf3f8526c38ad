"""The enrich stage event by event, on dicts and Python floats: slow, plain, the measure of ours.

Nothing here is shared with the code under test but the pipeline file's types.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.views import Column

NAN = float("nan")


class Reference:
    """One partition's verdicts and features, one record at a time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.spec = pipeline.input
        self.columns = pipeline.columns()
        self.lateness = round(self.spec.allowed_lateness_s * 1000)
        self.watermark = -(2**62)
        self.segments: dict[str, int] = {}
        self.history: dict[str, list[tuple[int, list[float]]]] = {}
        self.logged: dict[str, list[tuple[int, int]]] = {}

    def record(self, value: bytes | None, log_time: int) -> tuple[str, Any]:
        """What becomes of the next record: ``out`` and its features, or the verdict."""
        event = self.decode(value, log_time)
        if isinstance(event, str):
            return "dead", event
        event_id, entity, time, metrics = event
        before = self.watermark
        follows = self.spec.max_skew_s <= 24 * 3600
        self.watermark = max(before, min(time, log_time) if follows else time)
        if time < before - self.lateness:
            return "late", entity
        if self.repeated(event_id, time, before):
            return "repeated", None
        history = self.history.setdefault(entity, [])
        if history and time < max(t for t, _ in history) - self.lateness:
            return "late", entity
        history.append((time, metrics))
        logged = self.logged.setdefault(entity, [])
        logged.append((log_time, time))
        return "out", [
            clock_error(logged) if column.op == "clock_error" else feature(history, column)
            for column in self.columns
        ]

    def repeated(self, event_id: str, time: int, before: int) -> bool:
        """Whether the id's segment of event time still lives at this watermark."""
        length = max(1, math.ceil(self.lateness / 4))
        segment = self.segments.get(event_id)
        if segment is not None and (segment + 1) * length > before - self.lateness:
            return True
        self.segments[event_id] = time // length
        return False

    def decode(self, value: bytes | None, log_time: int) -> Any:  # noqa: C901
        """Id, entity, time and metrics of a record; or its dead letter code."""
        if not value:
            return "record.empty"
        if len(value) > self.spec.max_event_bytes:
            return "record.size"
        try:
            found = json.loads(value)
        except ValueError:
            return "json.invalid"
        numbers = found.get("metrics", {}) if isinstance(found, dict) else None
        if not isinstance(numbers, dict) or any(
            isinstance(v, (bool, str, list)) for v in numbers.values()
        ):
            return "event.type"
        if any(isinstance(v, float) and not math.isfinite(v) for v in numbers.values()):
            return "metric.range"
        if not found.get("device_id"):
            return "entity.missing"
        if len(found["device_id"]) > 256:
            return "entity.size"
        if found.get("time") is None:
            return "time.missing"
        try:
            moment = datetime.fromisoformat(found["time"])
        except ValueError:
            return "time.invalid"
        time = round(moment.timestamp() * 1000)
        if time > log_time + self.spec.max_skew_s * 1000:
            return "time.future"
        metrics = [
            NAN if (v := numbers.get(name)) is None else v + 0.0 for name in self.spec.metrics
        ]
        limits = list(zip(metrics, self.spec.metrics.values(), strict=True))
        if any(m.required and x != x for x, m in limits):
            return "metric.missing"
        if any(x < (m.min or -1e100) or x > (m.max or 1e100) for x, m in limits):
            return "metric.range"
        return found["id"], found["device_id"], time, metrics


def feature(history: list[tuple[int, list[float]]], column: Column) -> float:
    """One feature at the last event of an entity's history, from its definition."""
    if column.op == "since_last":
        before = history[-2][0] if len(history) > 1 else history[-1][0]
        return max(history[-1][0] - before, 0) / 1000.0
    if column.window_ms:
        return windowed(history, column)
    values = [(time, metrics[column.metric]) for time, metrics in history]
    present = [(time, x) for time, x in values if x == x]
    now = values[-1][1]
    if column.op == "raw":
        return now
    if column.op == "ewma":
        return ewma([x for _, x in present], column.alpha)
    if now != now:
        return NAN
    if column.op == "zscore":
        return zscore([x for _, x in present], column)
    return change(present, column.op)


def clock_error(logged: list[tuple[int, int]]) -> float:
    """Smallest difference in this span of 10 minutes and the one before, seconds."""
    span, of = 0, []
    for log_time, time in logged:
        span = max(span, log_time // 600_000)
        of.append((span, log_time - time))
    return min(difference for at, difference in of if at >= span - 1) / 1000.0


def change(present: list[tuple[int, float]], op: str) -> float:
    if len(present) < 2:
        return 0.0
    (time0, x0), (time1, x1) = present[-2:]
    if op == "delta":
        return x1 - x0
    return (x1 - x0) / ((time1 - time0) / 1000.0) if time1 > time0 else 0.0


def ewma(xs: list[float], alpha: float) -> float:
    s = NAN
    for place, x in enumerate(xs):
        s = x if place == 0 else s + alpha * (x - s)
    return s


def zscore(xs: list[float], column: Column) -> float:
    mean, var, a = xs[0], 0.0, column.alpha
    if len(xs) == 1:
        return 0.0
    for x in xs[1:-1]:
        d = x - mean
        mean = mean + a * d
        var = (1.0 - a) * (var + a * d * d)
    spread = math.sqrt(var)
    if len(xs) - 1 < column.warm_up or not spread > 1e-9 * abs(mean):
        return 0.0
    return (xs[-1] - mean) / spread


def windowed(history: list[tuple[int, list[float]]], column: Column) -> float:
    newest = history[-1][0] // column.tile_ms
    first = newest - column.window_ms // column.tile_ms + 1
    tiles: dict[int, list[float]] = {}
    events = 0
    for time, metrics in history:
        tile = time // column.tile_ms
        if first <= tile <= newest:
            events += 1
            x = metrics[column.metric]
            if x == x:
                tiles.setdefault(tile, []).append(x)
    if column.op == "count":
        return float(events)
    groups = [tiles[tile] for tile in sorted(tiles)]
    if column.op == "sum":
        return running_sum([running_sum(group) for group in groups])
    if not groups:
        return NAN
    if column.op in ("min", "max"):
        return (min if column.op == "min" else max)(
            min(g) if column.op == "min" else max(g) for g in groups
        )
    return moment(groups, column.op)


def running_sum(xs: list[float]) -> float:
    total = 0.0
    for x in xs:
        total = total + x
    return total


def moment(groups: list[list[float]], op: str) -> float:
    n, mean, m2 = 0.0, 0.0, 0.0
    for group in groups:
        count, c = float(len(group)), group[0]
        s = running_sum([x - c for x in group])
        q = running_sum([(x - c) * (x - c) for x in group])
        tile_mean, tile_m2 = c + s / count, max(q - s * s / count, 0.0)
        total = n + count
        share = count / total
        d = tile_mean - mean
        mean, m2, n = mean + d * share, m2 + tile_m2 + d * d * (n * share), total
    return mean if op == "mean" else math.sqrt(m2 / n)
