"""Whether the cache pays: what looking up costs against the inference it saves, both measured."""

from __future__ import annotations

PROBE_ROWS = 8192
"""Rows of one judgement; a probe begins with an empty cache and is judged by its second half."""
FIRST_PAUSE_ROWS = 65_536
LONGEST_PAUSE_ROWS = 4_194_304
"""Rows between two probes: a probe in vain then costs 1/512 of a row's look-up per row."""
_WORTH = 1.5
"""Saved time over its cost that turns the cache on; it goes off again only below 1."""
LEAST_LOOKUP_S = 0.5e-6
"""No look-up is cheaper (a hit was measured at 0.85 us): a model faster than this per row needs no
cache, and none is tried."""


class CacheGain:
    """Turns a cache on while it pays, off when it does not, and asks again now and then.

    Args:
        always: Keep it on, whatever it gains.
    """

    def __init__(self, *, always: bool = False) -> None:
        self.on = True
        self._always = always
        self._proved = False
        self._halves = 0
        self._pause_rows = FIRST_PAUSE_ROWS
        self._left_rows = PROBE_ROWS // 2
        self._spent_s = self._saved_s = 0.0

    @property
    def pays(self) -> bool:
        """Every row is looked up: told to, or measured to be worth it."""
        return self._always or self._proved

    def ask(self, rows: int, *, row_s: float) -> int:
        """How many of `rows` to look up now: all once it pays, at most a probe's rest before.

        Args:
            rows: Rows of the call.
            row_s: Time the model takes for one row, seconds; 0 while it is not known.
        """
        if self.pays:
            return rows
        if not self.on or row_s < LEAST_LOOKUP_S:
            return 0
        return min(rows, self._left_rows)

    def skipped(self, rows: int) -> None:
        """`rows` went past the cache; while it is off they bring the next probe nearer."""
        if self.on:
            return
        self._left_rows -= rows
        if self._left_rows <= 0:
            self.on = True
            self._begin(PROBE_ROWS // 2, halves=0)

    def observe(self, *, rows: int, answered: int, spent_s: float, row_s: float) -> None:
        """`rows` were looked up.

        Args:
            rows: How many.
            answered: How many of them the cache answered.
            spent_s: Time that looking up and keeping took, seconds.
            row_s: Time the model takes for one row, seconds.
        """
        if self._always:
            return
        self._spent_s += spent_s
        self._saved_s += answered * row_s
        self._left_rows -= rows
        if self._left_rows > 0:
            return
        if not self._proved and self._halves == 0:
            self._begin(PROBE_ROWS // 2, halves=1)
            return
        self._judge()

    def _judge(self) -> None:
        worth = 1.0 if self._proved else _WORTH
        self._proved = self._saved_s > worth * self._spent_s
        if self._proved:
            self._pause_rows = FIRST_PAUSE_ROWS
            self._begin(PROBE_ROWS, halves=1)
            return
        self.on = False
        self._begin(self._pause_rows, halves=0)
        self._pause_rows = min(2 * self._pause_rows, LONGEST_PAUSE_ROWS)

    def _begin(self, rows: int, *, halves: int) -> None:
        self._left_rows, self._halves = rows, halves
        self._spent_s = self._saved_s = 0.0
