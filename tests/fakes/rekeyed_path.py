"""All three stages in one process: intake before ENRICH and SERVE of each partition."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from fakes.agent_path import AgentPath, Ended
from fakes.input_forms import Form

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import Source
from headrace.schemas.protocols import Output
from headrace.schemas.rekeyed import origin
from headrace.streams.agents.intake import IntakeAgent


class RekeyedPath(AgentPath):
    """A pipeline that rekeys; records come in on one partition and are enriched on several.

    Args:
        folder: Where pipeline file and model are written.
        form: How events are written.
    """

    def __init__(self, folder: Path, form: Form) -> None:
        super().__init__(folder, form, key="rekey")
        self.intake = IntakeAgent(self.pipeline, self.topics)
        count = self.topics.enriched.partitions
        self._parts = [AgentPath(folder, form, key="rekey") for _ in range(count)]
        self.begin()

    def begin(self) -> None:
        """Begin anew, with no state."""
        super().begin()
        if not hasattr(self, "_parts"):  # within the base's constructor
            return
        self.states = {"intake": self.intake.new_state("t", 0)}
        self.ended = Ended(counts={"intake": Counter()})
        self._came_in: list[list[int]] = [[] for _ in self._parts]
        for number, part in enumerate(self._parts):
            part.begin()
            part.ended.offset_of = self._read_by(number)

    async def take(self, records: RecordBatch) -> None:
        """One batch, through all stages."""
        log_times = dict(zip(records.offsets.tolist(), records.log_times_ms.tolist(), strict=True))
        for output in await self._effects(self.intake, records):
            if output.topic == self.topics.enriched.name:
                await self._parts[output.partition].take(self._keyed(output, log_times))
            else:
                self._traces(output)

    async def close(self) -> None:
        """End every scorer."""
        for part in self._parts:
            await part.close()
        await super().close()

    def finish(self) -> Ended:
        """What became of everything, all partitions together."""
        whole = Ended(counts=dict(self.ended.counts))
        for ended in (self.ended, *(part.ended for part in self._parts)):
            assert not whole.verdicts.keys() & ended.verdicts.keys()
            whole.verdicts |= ended.verdicts
            whole.features |= ended.features
            whole.predictions |= ended.predictions
        for stage in ("enrich", "serve"):
            whole.counts[stage] = sum((part.ended.counts[stage] for part in self._parts), Counter())
        return whole

    def _keyed(self, output: Output, log_times: dict[int, int]) -> RecordBatch:
        """What ENRICH reads of an output, at the same broker times."""
        assert output.headers is not None
        assert output.keys is not None
        read = self._came_in[output.partition]
        first = len(read)
        found = [origin(headers) for headers in output.headers]
        read += [source.offset for source in found if source is not None]
        return RecordBatch(
            output.topic,
            output.partition,
            np.arange(first, len(read)),
            np.array([log_times[offset] for offset in read[first:]], np.int64),
            list(output.keys),
            list(output.values),
            list(output.headers),
        )

    def _read_by(self, partition: int):
        keyed = self.topics.enriched.name

        def offset_of(source: Source) -> int:
            if source.topic == keyed:
                return self._came_in[partition][source.offset]
            return source.offset

        return offset_of
