"""What a side wrote, every prediction of it, less what is a side's own."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from job import START_MS

FORM = re.compile(
    rb'\{"id":"[^"]{32}",'
    rb'(?P<event>"rev":0,"event_id":"(?P<device>[^"]*)-(?P<number>\d{8})","device_id":"(?P=device)",'
    rb'"event_time":"[^"]*"),"score":(?P<score>[^,]+),"label":"(?P<label>normal|anomaly)",'
    rb'"confidence":(?P<confidence>[^,]+),(?P<about>"tier":[^{]*),"feature_age_ms":(?P<age>-?\d+),'
    rb'(?P<model>"model":\{[^}]*\}),"source":"(?P<topic>[^"\[]*)\[(?P<partition>\d+)\]'
    rb'(?P<offset>@\d+)","times_ms":\{"device":(?P<at>\d+),"ingest":(?P<ingest>\d+),'
    rb'"served":\d+\}\}'
)
"""A prediction, its fields in the documented order; id and time of serving are each side's own."""
WORST_CONFIDENCE = 1e-6


@dataclass
class Predictions:
    """What a side wrote.

    Attributes:
        scores: float64 (N,), of every event, NaN where it has no prediction.
        ingested_ms: int64 (N,), the broker's time of every event.
        rest: int64 (N,), a hash of all else that must be the same on every side.
        topics: Logs that they say they are of.
        size: Bytes of all of them.
    """

    scores: np.ndarray
    ingested_ms: np.ndarray
    rest: np.ndarray
    topics: set[bytes]
    size: int = 0

    @classmethod
    def none(cls, count: int) -> Predictions:
        """Of so many events, before the first is read."""
        times = np.zeros(count, np.int64)
        return cls(np.full(count, np.nan), times, times.copy(), set())

    @property
    def value_bytes(self) -> float:
        """Mean length of a prediction."""
        return self.size / len(self.scores)

    def take(self, key: bytes | None, value: bytes, partition: int | None) -> None:
        """One record; `partition` is None where the side leaves it to the key's hash.

        Raises:
            SystemExit: it has another form than is documented, or contradicts itself.
        """
        found = FORM.fullmatch(value)
        if found is None:
            raise SystemExit(f"a prediction of {len(value)} bytes has not the documented form")
        (event, device, number, score, label, confidence, about, age, model, topic, source, offset,
         at, ingest) = found.groups()  # fmt: skip
        n, rate = int(number), float(score)
        wrong = [
            name
            for name, right in (
                ("key", key == device),
                ("partition", partition is None or partition == int(source)),
                ("label", (label == b"anomaly") == (rate >= 0.5)),
                ("confidence", abs(float(confidence) - max(rate, 1 - rate)) <= WORST_CONFIDENCE),
                ("feature_age_ms", int(age) == int(ingest) - int(at)),
                ("times_ms.device", int(at) == START_MS + n // 50),
            )
            if not right
        ]
        if wrong:
            raise SystemExit(f"the prediction of event {n} has a wrong {', '.join(wrong)}")
        self.scores[n], self.ingested_ms[n] = rate, int(ingest)
        self.rest[n] = hash((event, about, model, source, offset))
        self.topics.add(topic)
        self.size += len(value)
