"""Tills of shops: baskets being scanned and cards that pay, both as entities of one stream."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from labelled import NORMAL, START_MS, UNJUDGED, Sent, iso

TRAIN = {"count": 24, "minutes": 240.0}

CARDS_PER_TILL = 30
SWEETHEART, STOLEN, TESTED = "sweetheart", "stolen", "tested"
SHARE = {SWEETHEART: 0.02, STOLEN: 0.006, TESTED: 0.003}
"""How many of a till's baskets end so."""


@dataclass(slots=True)
class _Card:
    """A card, and what its owner commonly spends."""

    name: str
    usual_eur: float


@dataclass(slots=True)
class _Till:
    """One till; everything it does is added to what was sent."""

    number: int
    chance: np.random.Generator
    cards: list[_Card]
    sent: list[Sent] = field(default_factory=list)
    baskets: int = 0
    payments: int = 0

    def run(self, end_s: float) -> None:
        """Serve customers until the time is up."""
        now_s = float(self.chance.exponential(60))
        while now_s < end_s:
            draw = self.chance.random()
            if draw < SHARE[TESTED]:
                now_s = self._try_out(now_s)
            else:
                crooked = draw < SHARE[TESTED] + SHARE[SWEETHEART]
                now_s, total_eur = self._scan(now_s, SWEETHEART if crooked else NORMAL)
                now_s = self._pay(now_s, total_eur)
            now_s += float(self.chance.exponential(40)) + 10

    def _scan(self, now_s: float, kind: str) -> tuple[float, float]:
        """One basket; a crooked one has what is dear taken off again while it stays in the bag."""
        name = f"basket-{self.number:02d}-{self.baskets:05d}"
        self.baskets += 1
        items, total_eur, off = 0, 0.0, 0
        for _ in range(int(self.chance.integers(4, 40))):
            price = float(np.exp(self.chance.normal(1.0, 0.8)))
            items += 1
            total_eur += price
            now_s += float(self.chance.uniform(1, 4))
            self._basket(name, now_s, items, price, 0.0, kind, _found(kind, off))
            chance = 0.02 if kind == NORMAL else 0.45 if price > 2.5 else 0.05
            if self.chance.random() < chance:
                off += 1
                items -= 1
                total_eur -= price
                now_s += float(self.chance.uniform(1, 3))
                self._basket(name, now_s, items, 0.0, price, kind, _found(kind, off))
        return now_s, max(total_eur, 0.5)

    def _pay(self, now_s: float, total_eur: float) -> float:
        card = self.cards[self.chance.integers(len(self.cards))]
        if self.chance.random() < SHARE[STOLEN]:
            return self._spend(card, now_s)
        amount = card.usual_eur * float(np.exp(self.chance.normal(0, 0.45)))
        amount = 0.5 * (amount + total_eur)
        while self.chance.random() < 0.03:  # an honest wrong number, tried again
            self._payment(card, now_s, amount, 1, NORMAL, 0)
            now_s += float(self.chance.uniform(5, 20))
        self._payment(card, now_s, amount, 0, NORMAL, 0)
        return now_s

    def _spend(self, card: _Card, now_s: float) -> float:
        """A stolen card: a few large payments within some minutes, here and next door."""
        at_s = now_s
        for number in range(int(self.chance.integers(3, 6))):
            amount = card.usual_eur * float(self.chance.uniform(2.5, 8))
            declined = int(self.chance.random() < 0.15)
            self._payment(card, at_s, amount, declined, STOLEN, 1 if number else UNJUDGED)
            at_s += float(self.chance.uniform(30, 240))
        return now_s

    def _try_out(self, now_s: float) -> float:
        """Somebody tries a stolen number: many small payments, half of them declined."""
        card = self.cards[self.chance.integers(len(self.cards))]
        for number in range(int(self.chance.integers(8, 20))):
            amount = float(self.chance.uniform(0.5, 4))
            declined = int(self.chance.random() < 0.5)
            label = 1 if number >= 3 else UNJUDGED
            self._payment(card, now_s, amount, declined, TESTED, label)
            now_s += float(self.chance.uniform(3, 15))
        return now_s

    def _basket(
        self, name: str, at_s: float, items: int, eur: float, off: float, kind: str, label: int
    ) -> None:
        facts = {"amount_eur": eur, "voided_eur": off, "items": items, "declined": 0, "paying": 0}
        self._send(name, "basket", at_s, facts, kind, label)

    def _payment(
        self, card: _Card, at_s: float, eur: float, declined: int, kind: str, label: int
    ) -> None:
        self.payments += 1
        facts = {"amount_eur": eur, "voided_eur": 0.0, "items": 0, "declined": declined}
        self._send(card.name, "payment", at_s, {**facts, "paying": 1}, kind, label)

    def _send(
        self, subject: str, what: str, at_s: float, facts: dict[str, Any], kind: str, label: int
    ) -> None:
        time_ms = START_MS + round(at_s * 1000)
        event: dict[str, Any] = {
            "id": f"till-{self.number:02d}-{len(self.sent):06d}",
            "subject": subject,
            "time": iso(time_ms),
            "kind": what,
            "shop": ("north", "south", "east")[self.number % 3],
            "facts": {name: round(value, 2) for name, value in facts.items()},
            "people": {"cashier": f"cashier {self.number}", "customer": subject[-4:]},
            "journal": "the till's own line, which stays here",
        }
        late_ms = int(self.chance.integers(5, 60))
        self.sent.append(Sent(time_ms + late_ms, subject, event, kind, label))


def _found(kind: str, off: int) -> int:
    """A crooked basket is to be found from the third item that is taken off again."""
    if kind == NORMAL:
        return 0
    return 1 if off >= 3 else UNJUDGED


def simulate(seed: int, *, count: float = 4, minutes: float = 30.0) -> list[Sent]:
    """What `count` tills send: scans of baskets, and payments of cards that come back.

    Crooked is: what is dear taken off a basket again and again; a card that spends many times what
    it commonly does; a card number that is tried out. Honest are: a wrong scan, a wrong number,
    and a large shop.
    """
    chance = np.random.default_rng(seed)
    tills = []
    for number in range(round(count)):
        cards = [
            _Card(f"card-{number:02d}-{place:04d}", float(np.exp(chance.normal(3.4, 0.5))))
            for place in range(CARDS_PER_TILL)
        ]
        tills.append(_Till(number, chance, cards))
    for till in tills:
        till.run(minutes * 60)
        till.sent.sort(key=lambda sent: sent.at_ms)
    return list(heapq.merge(*(till.sent for till in tills), key=lambda sent: sent.at_ms))
