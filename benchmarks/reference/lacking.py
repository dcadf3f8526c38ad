"""What each side does not guarantee, or costs the user: speed alone is half a comparison.

Of the sides as they are written here: it is what their code does, not what their framework could.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from outcomes import TWO

HEAD = (
    "side", "can be lost", "is written again after a crash", "features after a restart",
    "a repeat after a restart", "what is no event", "besides",
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What becomes of a user's events on one side, a column of the table each.

    Attributes:
        lost: What can be lost.
        again: Which predictions a crash makes it write a second time.
        state: Features after a restart.
        repeat: An event that was seen before the restart and comes again.
        invalid: A record that is no event.
        besides: What else it costs.
    """

    lost: str
    again: str
    besides: str
    state: str = "begin anew, so scores differ"
    repeat: str = "passes"
    invalid: str = "no JSON: ends it; out of range: dropped unsaid"


_HEADRACE = Given(
    lost="nothing",
    again="the batch in work of each partition, equal, under one id; its consumer drops it",
    state="go on, bit for bit",
    repeat="dropped, within the allowed lateness",
    invalid="dead letter, with code and coordinates",
    besides="a topic more and a second write of every event; needs a store for its state; higher "
    "latency than the hand-written loop (see Latency); uses private attributes of aiokafka; its "
    "eager rebalances stop all partitions",
)
_BY_HAND = Given(
    lost="nothing",
    again="all since the last poll was committed",
    besides="while partitions change hands two processes may write the same rows",
)
_QUIX = Given(
    lost="nothing",
    again="up to 1 s (by default 5)",
    besides="the store is up to 1 s behind; the key's hash chooses the partition; its check that "
    "the bus is still there is off, which is faster",
)
_FAUST = Given(
    lost="the event at which an exception was raised",
    again="up to 1 s (by default 2.8)",
    invalid="lost, its exception is in the log; out of range: dropped unsaid",
    besides="no idempotent producer: a send that is tried again can be written twice; the store is "
    "up to 1 s behind, after a crash for good: its timer and the commit know nothing of each other",
)
_GIVEN = {
    "headrace": _HEADRACE,
    "headrace_once": replace(
        _HEADRACE,
        again="nothing, to readers of committed records; others see what was taken back",
        besides=f"a transaction's worth of latency; {_HEADRACE.besides}",
    ),
    "handwritten": _BY_HAND,
    "confluent": _BY_HAND,
    "bytewax": Given(
        lost="a prediction that the bus refuses: its sink does not ask",
        again="up to 1 s (by default 10)",
        besides="positions are in its own files instead of a consumer group, on a disk that its "
        "workers must share; the key's hash chooses the partition",
    ),
    "quix": _QUIX,
    "quix_sink": replace(
        _QUIX,
        again="up to 0.2 s or 60,000 events (by default 5 s)",
        besides="a prediction waits for the checkpoint, here up to 0.2 s; it is written by a "
        "producer beside the framework's own; the same check is off",
    ),
    "faust_take": replace(
        _FAUST,
        lost="the whole batch in which an exception was raised",
        invalid="no JSON: lost with its whole batch; out of range: dropped unsaid",
        besides="no idempotent producer: a send that is tried again can be written twice",
    ),
    "faust": _FAUST,
}


def given(name: str) -> Given:
    """What the side of this name gives; two processes of it give the same."""
    return _GIVEN[name.removesuffix(TWO)]


def rows(titles: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The table's rows, one for each title.

    Args:
        titles: Name and title of each side.
    """
    of = {title: given(name) for name, title in titles}
    return [
        [title, it.lost, it.again, it.state, it.repeat, it.invalid, it.besides]
        for title, it in of.items()
    ]
