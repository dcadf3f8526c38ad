"""Device classes by number, as a worker meets them: few, whatever is declared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.block import Labels

MOST_CLASSES = 32
ALL, OTHER = "all", "other"


class ClassNumbers:
    """Numbers in the order of first appearance; what comes after `MOST_CLASSES` is `OTHER`.

    Attributes:
        names: Every class met so far; its place is its number.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.names: list[str] = []

    def of(self, classes: Labels | None, count: int) -> NDArray[np.intp]:
        """The number of each event's class, intp (N,).

        Args:
            classes: Class of each; None: all of them are of class `ALL`.
            count: N.

        Example:
            >>> known = ClassNumbers()
            >>> known.of(Labels.encode(["b", "a", "b"]), 3).tolist(), known.names
            ([0, 1, 0], ['b', 'a'])
        """
        if classes is None:
            return np.full(count, self._number(ALL), np.intp)
        return np.array([self._number(name) for name in classes.names], np.intp)[classes.codes]

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            name = name if len(self.names) < MOST_CLASSES - 1 else OTHER
            number = self._numbers.setdefault(name, len(self.names))
            self.names += [name] * (number == len(self.names))
        return number
