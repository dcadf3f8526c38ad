"""What each side does not guarantee, or costs the user: speed alone is half a comparison."""

from __future__ import annotations

from outcomes import TWO

_HEADRACE = (
    "a topic more and a second write of every event; needs a store for its state; higher latency "
    "than the hand-written loop (see Latency); uses private attributes of aiokafka; its eager "
    "rebalances stop all partitions; repeats are known only within the allowed lateness"
)
_NOT_USED = "as written here (its recoverable state is not used)"
_NOT_GIVEN = {
    "headrace": "after a crash a prediction can be there twice, as on every other side in its "
    f"default; under one id, by which consumers drop it; {_HEADRACE}",
    "headrace_once": "readers must ask for committed records, or they see what was taken back; a "
    f"transaction's worth of latency; {_HEADRACE}",
    "handwritten": "a rebalance mixes two owners; nothing about late events",
    "bytewax": f"{_NOT_USED}; after a crash it goes back up to 1 s; positions are in its own "
    "files instead of a consumer group, on a disk that its workers must share; its sink does not "
    "ask whether the bus refused a prediction, and leaves its partition to the key's hash",
    "quix": f"{_NOT_USED}; the store is up to 1 s behind; the key's hash chooses the partition; "
    "its check that the bus is still there is off, which is faster",
    "quix_sink": f"{_NOT_USED}; a prediction waits for the checkpoint, here up to 0.2 s; it is "
    "written by a producer beside the framework's own; the same check is off",
    "faust_take": f"{_NOT_USED}; an exception loses the whole batch it was in",
    "faust": f"{_NOT_USED}; an exception loses the event; the store is up to 1 s behind, after a "
    "crash for good: its timer and the commit know nothing of each other",
}


def not_given(name: str) -> str:
    """What the side of this name does not give; two processes of it are the same."""
    return _NOT_GIVEN[name.removesuffix(TWO)]
