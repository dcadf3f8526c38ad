"""What is most likely wrong with a pipeline now, as a code: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.schemas.observed import Percentiles

PARTS = (
    "device_to_ingest",
    "ingest_to_enrich",
    "enrich_to_features",
    "features_to_inference",
    "inference_to_prediction",
)
"""Hops that one after another make the whole way."""


def cause_of(facts: Mapping[str, Any], recent: Sequence[Percentiles]) -> str:
    """The first of these that holds: a dependency away, a worker in trouble, the slowest hop.

    Args:
        facts: What the health endpoint tells of the pipeline.
        recent: Latencies of the last minutes.

    Returns:
        ``bus.away``, ``store.away``, ``STAGE.VERDICT`` such as ``serve.stuck``,
        ``STAGE.restarting``, ``hop.NAME``, or ``unknown``.

    Example:
        >>> cause_of({"store": "does not answer", "bus": "answers", "workers": []}, [])
        'store.away'
    """
    for name in ("bus", "store"):
        if facts.get(name, "answers") != "answers":
            return f"{name}.away"
    for worker in facts.get("workers", ()):
        if not worker["running"]:
            return f"{worker['stage']}.restarting"
        if worker["verdict"] in ("slow", "waiting", "stuck", "silent"):
            return f"{worker['stage']}.{worker['verdict']}"
    hops = {p.hop: p.p99_ms for p in reversed(recent) if p.hop in PARTS and p.count}
    return f"hop.{max(hops, key=hops.__getitem__)}" if hops else "unknown"
