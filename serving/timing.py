"""Batch time as a function of size, learned while serving."""

from __future__ import annotations

_KEEP = 0.98
"""Weight of the past after one more call: about the last fifty calls count."""


class BatchTime:
    """Seconds of a session call as ``base + per_row * rows``, least squares with forgetting.

    Example:
        >>> time = BatchTime()
        >>> for rows in (10, 20, 30):
        ...     time.observe(rows, 0.001 + 0.0001 * rows)
        >>> round(time.per_row_s, 6), round(time.seconds(100), 6)
        (0.0001, 0.011)
    """

    def __init__(self) -> None:
        self.calls = 0
        self.base_s = 0.0
        self.per_row_s = 0.0
        self._weight = self._n = self._t = self._nn = self._nt = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one call."""
        self.calls += 1
        self._weight = self._weight * _KEEP + 1.0
        self._n = self._n * _KEEP + rows
        self._t = self._t * _KEEP + seconds
        self._nn = self._nn * _KEEP + rows * rows
        self._nt = self._nt * _KEEP + rows * seconds
        self._fit()

    def _fit(self) -> None:
        """Never negative: while all calls are of one size, everything is put down to the rows."""
        mean_n, mean_t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - mean_n * mean_n
        if spread <= 1e-6 * mean_n * mean_n:
            self.per_row_s, self.base_s = mean_t / mean_n, 0.0
            return
        slope = (self._nt / self._weight - mean_n * mean_t) / spread
        self.per_row_s = min(max(slope, 0.0), mean_t / mean_n)
        self.base_s = mean_t - self.per_row_s * mean_n

    def seconds(self, rows: int) -> float:
        """Expected duration of a call of `rows` rows, seconds; 0 before the first."""
        return self.base_s + self.per_row_s * rows
