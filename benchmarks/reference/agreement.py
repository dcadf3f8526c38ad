"""Whether all sides predicted the same: no comparison of speed means anything before."""

from __future__ import annotations

import numpy as np
from scaling_check import WORST_SCORE
from written import Predictions

LENGTHS = 0.01
"""Most that two sides' mean length of a prediction may differ, as a share."""


def compare(wrote: dict[str, Predictions]) -> None:
    """Every side predicted the same events with the same values, but for id and time of serving.

    The broker's times are compared where both sides read one log.

    Raises:
        SystemExit: it did not.
    """
    # The longest: of the others each event is compared, and which side ran first does not matter.
    first, expected = max(wrote.items(), key=lambda item: len(item[1].scores))
    others = [(name, found) for name, found in wrote.items() if name != first]
    for name, found in wrote.items():
        if missing := int(np.isnan(found.scores).sum()):
            raise SystemExit(f"{name} has no prediction of {missing} of {len(found.scores)} events")
        if len(found.topics) > 1:
            raise SystemExit(f"{name} says of its events that they are of {len(found.topics)} logs")
    for name, found in others:
        shared = min(len(found.scores), len(expected.scores))
        differ = found.rest[:shared] != expected.rest[:shared]
        if found.topics == expected.topics:
            differ |= found.ingested_ms[:shared] != expected.ingested_ms[:shared]
        if differ.any():
            raise SystemExit(
                f"{name} and {first} write different values of {int(differ.sum())} of {shared} "
                f"events, the first is event {int(differ.argmax())}"
            )
        longer = abs(found.value_bytes / expected.value_bytes - 1)
        if longer > LENGTHS:
            raise SystemExit(f"predictions of {name} and {first} differ by {longer:.1%} in length")
        worst = float(np.abs(found.scores[:shared] - expected.scores[:shared]).max())
        if worst > WORST_SCORE:
            raise SystemExit(f"{name} differs from {first} by {worst} in a score")
