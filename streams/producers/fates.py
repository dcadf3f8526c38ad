"""What became of every event of a fleet, held against its ledger: arrays by event number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import RecordBatch
from headrace.streams.client.latency import Latency
from headrace.streams.producers.chance import F64, I64
from headrace.streams.producers.ledger_file import Entries, Header
from headrace.streams.producers.plan import EXPECTED, KINDS, OUTCOMES

SLOW_MS = 1000.0
"""An answer this long after the intended time says that there is a backlog."""
SLICE_S = 10
"""Answers are told by the time at which their events were due, in slices so long."""
SHOWN = 5
FOUND = ("predicted", "late", "dead")

_OUTCOME = np.array(EXPECTED)
_NOWHERE = -1


class _Times(msgspec.Struct, gc=False):
    served: int


class _Prediction(msgspec.Struct, gc=False):
    event_id: str
    source: str
    times_ms: _Times


class Fates:
    """Counts what the topics hold of one run.

    Args:
        header: The ledger's.
        entries: All its rows.

    Cost: 40 bytes an event.
    """

    def __init__(self, header: Header, entries: Iterable[Entries]) -> None:
        self.header = header
        rows = list(entries)
        number = _joined([part.number for part in rows], np.int64)
        kind = _joined([part.kind for part in rows], np.int8)
        count = int(number.max(initial=-1)) + 1
        self._kind, self._number = kind, number
        self.wanted = {
            outcome: np.bincount(number[_OUTCOME[kind] == place], minlength=count)
            for place, outcome in enumerate(OUTCOMES)
        }
        self._intended_ms = np.zeros(count)
        once = kind != KINDS.index("repeat")
        self._intended_ms[number[once]] = _joined([p.intended_ms for p in rows], np.float64)[once]
        self._sent = np.bincount(number[kind != KINDS.index("gap")], minlength=count)
        self.found = {outcome: np.zeros(count, np.bool_) for outcome in FOUND}
        self._source = np.full(count, _NOWHERE, np.int64)
        self._served_ms = np.zeros(count, np.int64)
        self._doubled = np.zeros(count, np.bool_)
        self.republished, self.leaks, self.unknown = 0, 0, 0
        self._decode = msgspec.json.Decoder(_Prediction).decode
        run = re.escape(header.run.encode())
        self._id = re.compile(rb'"%b-(\d+)"' % run)
        self._planted = re.compile(rb"(?:raw|person)-%b" % run)

    @property
    def settled(self) -> bool:
        """Whether every event that must be on a topic is there."""
        return all(bool(np.all(self.found[o] >= (self.wanted[o] > 0))) for o in FOUND)

    def predictions(self, records: RecordBatch) -> None:
        """Take in records of the predictions topic."""
        mine = f"{self.header.run}-"
        for value in records.values:
            prediction = self._decode(value or b"")
            if not prediction.event_id.startswith(mine):
                continue
            number = int(prediction.event_id[len(mine) :])
            if number >= len(self._source):
                self.unknown += 1
                continue
            place = _place(prediction.source)
            if self._source[number] == place:
                self.republished += 1
            elif self._source[number] != _NOWHERE:
                self._doubled[number] = True
            else:
                self._source[number] = place
                self._served_ms[number] = prediction.times_ms.served
                self.found["predicted"][number] = True

    def originals(self, outcome: str, records: RecordBatch) -> None:
        """Take in records of a topic that holds events as they were sent.

        Args:
            outcome: ``late`` or ``dead``.
            records: As read.
        """
        found = self.found[outcome]
        for value in records.values:
            match = self._id.search(value or b"")
            if match is not None:
                found[int(match[1])] = True

    def derived(self, records: RecordBatch) -> None:
        """Look for planted raw or personal content where there must be none."""
        self.leaks += sum(
            self._planted.search(value or b"") is not None for value in records.values
        )

    def wrong(self) -> I64:
        """Numbers of the events that did not become what the ledger says."""
        wrong = self._doubled.copy()
        for outcome in FOUND:
            wrong |= self.found[outcome] != (self.wanted[outcome] > 0)
        return np.flatnonzero(wrong)

    def report(self) -> dict[str, Any]:
        """The comparison as one JSON object."""
        wrong = self.wrong()
        counts = {outcome: int(self.found[outcome].sum()) for outcome in FOUND}
        events = int(self._sent.sum())
        is_wrong = np.zeros(len(self._source), np.bool_)
        is_wrong[wrong] = True
        return {
            "run": self.header.run,
            "events": events,
            **counts,
            "repeated": events - sum(counts.values()) - int(self._doubled.sum()),
            "expected": {o: int(self.wanted[o].sum()) for o in OUTCOMES},
            "wrong": len(wrong),
            "wrong_by_kind": self._by_kind(is_wrong),
            "first_wrong": [self._told(number) for number in wrong[:SHOWN].tolist()],
            "doubled": int(self._doubled.sum()),
            "republished": self.republished,
            "raw_or_personal_seen": self.leaks,
            **self._delays(),
        }

    def _by_kind(self, is_wrong: NDArray[np.bool_]) -> dict[str, str]:
        """Wrong of all, for each kind that there is."""
        found = {}
        for place, kind in enumerate(KINDS):
            rows = self._number[self._kind == place]
            if len(rows):
                found[kind] = f"{int(is_wrong[rows].sum())} of {len(rows)}"
        return found

    def _told(self, number: int) -> str:
        wanted = [o for o in OUTCOMES if self.wanted[o][number]]
        found = [o for o in FOUND if self.found[o][number]]
        twice = " twice" if self._doubled[number] else ""
        return (
            f"{self.header.run}-{number}: expected {' and '.join(wanted)}, "
            f"found {' and '.join(found) or 'nothing'}{twice}"
        )

    def _delays(self) -> dict[str, Any]:
        """From the intended time of sending to the answer, and when the last backlog was gone."""
        rows = np.flatnonzero(self.found["predicted"])
        if not len(rows):
            return {}
        delay_ms = self._served_ms[rows] - self._intended_ms[rows]
        slow = rows[delay_ms > SLOW_MS]
        last_slow_ms = int(self._served_ms[slow].max(initial=0))
        return {
            "answer_ms": _percentiles(delay_ms),
            "answer_ms_by_10_s": self._by_slice(self._intended_ms[rows], delay_ms),
            "over_1_s": len(slow),
            "last_over_1_s_at_s": round((last_slow_ms - self.header.start_ms) / 1000, 1)
            if len(slow)
            else None,
        }

    def _by_slice(self, due_ms: F64, delay_ms: F64) -> list[dict[str, float]]:
        """Percentiles of each slice in which an event was due, from the start of the run."""
        number = (due_ms - self.header.start_ms) // (1000 * SLICE_S)
        found = []
        for one in np.unique(number).tolist():
            part = delay_ms[number == one]
            found.append({"at_s": SLICE_S * int(one), "events": len(part), **_percentiles(part)})
        return found


def _percentiles(delay_ms: F64) -> dict[str, float]:
    latency = Latency()
    latency.record(delay_ms)
    return {
        "p50": round(latency.quantile(0.5), 1),
        "p99": round(latency.quantile(0.99), 1),
        "max": round(float(delay_ms.max()), 1),
    }


def _joined(parts: list[Any], kind: Any) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _place(source: str) -> int:
    """Partition and offset of ``topic[partition]@offset`` as one number.

    Example:
        >>> _place("t[2]@5") == (2 << 48) + 5
        True
    """
    before, _, offset = source.rpartition("]@")
    return (int(before.rpartition("[")[2]) << 48) + int(offset)
