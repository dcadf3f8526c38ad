"""Everything that is known of one pipeline's workers on this machine, kept while they run."""

from __future__ import annotations

from headrace.streams.jobs import Status
from headrace.streams.observe.samples import Lives, Samples, added
from headrace.streams.supervisor import Supervisor, Worker


class Readings:
    """Takes every status line of a supervisor's workers, and answers for all of them together.

    Args:
        pipeline: Pipeline name.
        supervisor: Whose workers.
    """

    def __init__(self, pipeline: str, supervisor: Supervisor) -> None:
        self._workers = [
            (worker, Lives(pipeline, worker.stage, worker.name)) for worker in supervisor.workers
        ]
        self._lives = {worker.name: lives for worker, lives in self._workers}
        supervisor.told.append(self._take)

    def samples(self) -> Samples:
        """Every metric of the catalogue that there is something to say of."""
        return added(
            lives.samples(life=worker.restarts, running=worker.running)
            for worker, lives in self._workers
        )

    def _take(self, worker: Worker, status: Status) -> None:
        self._lives[worker.name].take(worker.restarts, status)
