"""The dead-letter limit: a bad deploy must stop, not divert everything."""

from __future__ import annotations

from headrace.schemas.errors import DeadLetterShareError


class DeadLetterShare:
    """Watches the share of dead events over a sliding run of batches.

    Counts are halved whenever the run reaches twice `least_events`, so an old good time does not
    hide a new bad one.

    Args:
        limit: Largest share allowed, 0 to 1.
        least_events: Nothing is judged on fewer events than this.

    Example:
        >>> share = DeadLetterShare(0.5, least_events=10)
        >>> share.add(events=8, dead=8)
        >>> share.add(events=8, dead=8)
        Traceback (most recent call last):
        ...
        headrace.schemas.errors.DeadLetterShareError: 16 of the last 16 events went to the dead \
letter, allowed are 50 %; look at their codes, mend the input mapping or the producer, then restart
    """

    def __init__(self, limit: float, *, least_events: int) -> None:
        self._limit = limit
        self._least = least_events
        self._events = 0
        self._dead = 0

    def add(self, *, events: int, dead: int) -> None:
        """Count one batch.

        Raises:
            DeadLetterShareError: the share is above the limit. Fatal.
        """
        self._events += events
        self._dead += dead
        if self._events >= self._least and self._dead > self._limit * self._events:
            raise DeadLetterShareError(
                f"{self._dead} of the last {self._events} events went to the dead letter, "
                f"allowed are {self._limit:.0%}; look at their codes, mend the input mapping or "
                f"the producer, then restart".replace("%;", " %;")
            )
        if self._events >= 2 * self._least:
            self._events //= 2
            self._dead //= 2
