"""The error budget of one objective, and how fast it burns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from headrace.schemas.objectives import Objective
from headrace.schemas.observed import BudgetImage, Severity
from headrace.streams.upstream.varints import pack, unpack

SLOTS = 8640
"""The window in slots: the shortest window that an alert looks at is one of them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert: the budget burns this fast in the last long and the last short stretch alike.

    The short one ends the alert soon after the burning has ended.

    Attributes:
        long: Slots of the longer stretch.
        short: Slots of the shorter one.
        burn: How many times faster than what would spend the budget in exactly its window.
        severity: Whether somebody has to come now.
    """

    long: int
    short: int
    burn: float
    severity: Severity


RULES = (
    Rule(SLOTS // 720, 1, 14.4, "page"),
    Rule(SLOTS // 120, SLOTS // 1440, 6.0, "page"),
    Rule(SLOTS // 10, SLOTS // 120, 1.0, "ticket"),
)
"""2 % of the budget in 1/720 of the window (an hour of thirty days), 5 % in 1/120, 10 % in a tenth.

Source: Google, "The Site Reliability Workbook", chapter 5, multiwindow, multi-burn-rate alerts.
"""


Spent = tuple[float, int, int]
"""How long ago in seconds, and how many events were good and bad then."""


def spent_of(image: BudgetImage, ago_s: float) -> list[Spent]:
    """What an image tells that was made `ago_s` seconds ago.

    Raises:
        ValueError: its bytes are none of an image.
    """
    ages, good, bad = np.split(unpack(image.slots), 3)
    when = (ago_s + ages * image.slot_s).tolist()
    return list(zip(when, good.tolist(), bad.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How an objective is doing.

    Attributes:
        which: Set: ``site`` or ``core``.
        name: The objective.
        good: Good events in the window.
        bad: Bad ones.
        left: Share of the error budget that is left; below 0 when more than all of it is spent,
            1 while there are no events.
        burn: How fast it burns in the shortest page rule's longer stretch; 1 spends it in exactly
            its window.
        alert: The most severe alert that holds now, None where none does.
    """

    which: str
    name: str
    good: int
    bad: int
    left: float
    burn: float
    alert: Severity | None

    @property
    def spent(self) -> bool:
        """Nothing is left: who changes things should wait."""
        return self.left <= 0


class ErrorBudget:
    """Good and bad events of the last window, in slots.

    Args:
        which: The set it belongs to.
        name: The objective's name.
        objective: What it asks for.
    """

    def __init__(self, which: str, name: str, objective: Objective) -> None:
        self.which, self.name, self.objective = which, name, objective
        self._slot_s = objective.window_h * 3600 / SLOTS
        self._counts = np.zeros((2, SLOTS), np.int64)
        self._slot: int | None = None
        self.seen = (0, 0)
        """Good and bad events so far, as of the last look."""

    def observe(self, now_s: float, *, good: int, bad: int) -> None:
        """Take a look.

        Args:
            now_s: Seconds that only rise.
            good: Good events so far; never fewer than at the last look.
            bad: Bad events so far; the same.
        """
        self._turn(int(now_s // self._slot_s))
        seen, self.seen = self.seen, (good, bad)
        place = (self._slot or 0) % SLOTS
        self._counts[:, place] += np.maximum(np.subtract(self.seen, seen), 0)

    def state(self) -> BudgetState:
        """As of the last look."""
        good, bad = self._within(SLOTS)
        allowed = (1 - self.objective.target) * (good + bad)
        left = 1 - bad / allowed if good + bad else 1.0
        held = [rule.severity for rule in RULES if self._holds(rule)]
        alert: Severity | None = "page" if "page" in held else held[0] if held else None
        burn = self._burn(RULES[0].long)
        return BudgetState(self.which, self.name, good, bad, left, burn, alert)

    def image(self) -> BudgetImage:
        """The whole window, for `restore` in another life."""
        last = self._slot or 0
        ages = np.arange(SLOTS)
        good, bad = self._counts[:, (last - ages) % SLOTS]
        used = np.flatnonzero(good + bad)
        slots = pack(np.concatenate([used, good[used], bad[used]]))
        return BudgetImage(which=self.which, name=self.name, slot_s=self._slot_s, slots=slots)

    def restore(self, now_s: float, spent: Iterable[Spent]) -> None:
        """Add what was counted in an earlier life; what is older than the window is passed over.

        Args:
            now_s: Seconds that only rise, as of `observe`.
            spent: What was counted when.
        """
        self._turn(int(now_s // self._slot_s))
        last = self._slot or 0
        for ago_s, good, bad in spent:
            slot = int((now_s - max(ago_s, 0.0)) // self._slot_s)
            if slot > last - SLOTS:
                self._counts[:, slot % SLOTS] += (good, bad)

    def _turn(self, slot: int) -> None:
        """Begin the slots that came since, empty."""
        if self._slot is None:
            self._slot = slot
        passed = min(max(slot - self._slot, 0), SLOTS)
        for step in range(passed):
            self._counts[:, (slot - step) % SLOTS] = 0
        self._slot = max(slot, self._slot)

    def _within(self, slots: int) -> tuple[int, int]:
        """Good and bad events of the last so many slots, the present one among them."""
        last = self._slot or 0
        places = np.arange(last - slots + 1, last + 1) % SLOTS
        good, bad = self._counts[:, places].sum(axis=1).tolist()
        return good, bad

    def _burn(self, slots: int) -> float:
        good, bad = self._within(slots)
        return bad / (good + bad) / (1 - self.objective.target) if good + bad else 0.0

    def _holds(self, rule: Rule) -> bool:
        enough = sum(self._within(rule.long)) >= self.objective.least_events
        # Two slots: the present one may have just begun.
        short = self._burn(max(rule.short, 2))
        return enough and self._burn(rule.long) >= rule.burn and short >= rule.burn
