"""What a sampled stack was busy with: the parts of each stage's path, and where each begins.

A stack belongs to the innermost of its calls that `PARTS` names, so that what numpy or the client
does counts for whoever asked for it. A stack without one belongs to what `BEHIND` names: the event
loop between two callbacks, and the clients' work in it that nobody awaits. What is left is `OTHER`.
"""

from __future__ import annotations

from collections.abc import Mapping

from profile_stacks import OTHER, Frame, Stack

PARTS: tuple[tuple[str, str, str], ...] = (
    # file or folder, start of the function's name, part
    ("streams/transport/", "", "fetch"),
    ("aiokafka/consumer/", "", "fetch"),
    ("aiokafka/coordinator/", "", "fetch"),
    ("enrichers/decode.py", "", "decode"),
    ("enrichers/times.py", "", "decode"),
    ("enrichers/paths.py", "", "decode"),
    ("enrichers/cloudevents.py", "", "decode"),
    ("enrichers/registry.py", "", "decode"),
    ("enrichers/verdicts.py", "", "decode"),
    ("enrichers/late.py", "", "dedupe"),
    ("enrichers/dedupe.py", "", "dedupe"),
    ("enrichers/dedupe.py", "SeenIds.changed", "checkpoint"),
    ("enrichers/dedupe.py", "SeenIds.dropped", "checkpoint"),
    ("enrichers/enricher.py", "Enricher._without_repeats", "dedupe"),
    ("enrichers/features.py", "", "features"),
    ("enrichers/operators/", "", "features"),
    ("enrichers/runs.py", "", "features"),
    ("enrichers/rows.py", "", "features"),
    ("enrichers/state.py", "EnrichDelta", "checkpoint"),
    ("enrichers/state.py", "online_rows", "online rows"),
    ("feature_store/codec.py", "", "online rows"),
    ("feature_store/buckets.py", "", "online rows"),
    ("feature_store/online.py", "", "online rows"),
    ("feature_store/checkpoint.py", "", "checkpoint"),
    ("streams/agents/enrich.py", "EnrichAgent._blocks", "encode block"),
    ("streams/agents/serve.py", "ServeAgent._block", "decode block"),
    ("streams/agents/serve.py", "_fresh", "decode block"),
    ("streams/agents/feature_rows.py", "", "decode block"),
    ("streams/agents/isolate.py", "", "score"),
    ("serving/", "", "score"),
    ("streams/agents/serve.py", "ServeAgent._predictions", "encode predictions"),
    ("schemas/prediction.py", "", "encode predictions"),
    ("streams/agents/serve.py", "ServeAgent._summarized", "summarise"),
    ("streams/agents/summarize.py", "", "summarise"),
    ("streams/agents/windows.py", "", "summarise"),
    ("streams/agents/moments.py", "", "summarise"),
    ("streams/agents/serve_state.py", "", "checkpoint"),
    ("streams/transport/publish.py", "", "publish"),
    ("aiokafka/producer/", "", "publish"),
    ("streams/agents/", "", "agent"),
    ("enrichers/", "", "agent"),
    ("streams/delivery/", "", "delivery"),
)
"""The most exact row that fits a call names its part: the longer file, then the longer function."""

BEHIND: tuple[tuple[str, str, str], ...] = (
    ("faust/", "", "fetch"),
    ("mode/", "", "fetch"),
    ("redis/", "", "store client"),
    ("feature_store/", "", "store client"),
    ("aiokafka/", "", "bus client"),
    ("asyncio/", "", "event loop"),
    ("selectors.py", "", "event loop"),
    ("streams/workers/worker.py", "_collect", "garbage collector"),
)

ORDER = {
    "enrich": (
        "fetch", "decode", "dedupe", "features", "encode block", "agent", "publish", "online rows",
        "checkpoint", "delivery", "store client", "bus client", "event loop", "garbage collector",
    ),
    "serve": (
        "fetch", "decode block", "score", "encode predictions", "summarise", "agent", "publish",
        "checkpoint", "delivery", "store client", "bus client", "event loop", "garbage collector",
    ),
}  # fmt: skip
"""Parts in the order of the path; what else was found follows, and `OTHER` is the last."""


def part_of(stack: Stack) -> str:
    """The part that a stack belongs to.

    Example:
        >>> lane = Frame("Lane._process", "streams/delivery/lane.py")
        >>> read = Frame("Decoder.__call__", "enrichers/decode.py")
        >>> part_of(Stack("main", (lane, read, Frame("array", "numpy/_core/numeric.py")), 1))
        'decode'
        >>> part_of(Stack("main", (Frame("f", "somewhere.py"),), 1))
        'other'
    """
    for table in (PARTS, BEHIND):
        for frame in reversed(stack.frames):
            if (found := _named(frame, table)) is not None:
                return found
    return OTHER


def _named(frame: Frame, table: tuple[tuple[str, str, str], ...]) -> str | None:
    """The part of the most exact row that fits one call."""
    rows = [
        (len(path), len(function), part)
        for path, function, part in table
        if frame.file.startswith(path) and frame.function.startswith(function)
    ]
    return max(rows)[2] if rows else None


def in_order(stage: str, cost: Mapping[str, float]) -> list[tuple[str, float]]:
    """The parts of a stage from its input to its output; none that was found is left out.

    Example:
        >>> in_order("serve", {"other": 0.1, "score": 0.5, "new": 0.2, "fetch": 0.3})
        [('fetch', 0.3), ('score', 0.5), ('new', 0.2), ('other', 0.1)]
    """
    known = [part for part in ORDER[stage] if part in cost]
    rest = sorted(part for part in cost if part not in known and part != OTHER)
    last = [OTHER] if OTHER in cost else []
    return [(part, cost[part]) for part in (*known, *rest, *last)]
