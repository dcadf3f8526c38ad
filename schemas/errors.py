"""Every error of Headrace, by what the worker does about it.

    HeadraceError
    ├── RetryableError      a dependency is slow or away   -> pause the partition, offer it again
    │   ├── BusUnavailableError
    │   ├── StoreUnavailableError
    │   └── OwnershipLostError     another worker owns the partition -> run assignment again
    ├── PoisonError         this record can never succeed  -> dead letter with `code`, go on
    │   ├── PoisonRecordsError     several records of one batch, each with its own code
    │   └── EventRefusedError      an event its pipeline would refuse: nothing was sent
    └── FatalError          set-up, contract or code wrong -> commit nothing more, exit non-zero
        ├── SettingsError          an unknown or impossible setting
        ├── PipelineFileError      a pipeline file that cannot run
        ├── MissingExtraError      an optional package that this command needs is absent
        ├── BusRefusedError        wrong credentials, certificate or rights on the bus
        ├── StoreRefusedError      the same on the store
        ├── LocalServiceError      an embedded service could not start or ended
        ├── TopicError             a topic is missing or has another partition count
        ├── StateError             checkpoint and log contradict each other
        ├── ModelError             the model file, its signature or its checks
        └── DeadLetterShareError   more of the input is dead than the pipeline allows

Messages are one line: what was tried, what was found (records as ``topic[partition]@offset``),
what to do. They never hold a payload, a key or a feature value.
"""

from __future__ import annotations

from dataclasses import dataclass


class HeadraceError(Exception):
    """Root of everything Headrace raises on purpose."""

    code = "headrace"


class RetryableError(HeadraceError):
    """A dependency is slow or away: the same step may succeed later.

    Args:
        message: One line for the log.
        retry_after_s: Seconds to wait before the step is offered again.
    """

    code = "retryable"

    def __init__(self, message: str, *, retry_after_s: float = 0.5) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BusUnavailableError(RetryableError):
    """The bus did not answer."""

    code = "bus.unavailable"


class StoreUnavailableError(RetryableError):
    """The store did not answer, or answered that it cannot write now."""

    code = "store.unavailable"


class OwnershipLostError(RetryableError):
    """Another worker raised its claim on the partition: drop it and run assignment again."""

    code = "ownership.lost"


@dataclass(frozen=True, slots=True)
class Source:
    """Coordinates of one record, written ``topic[partition]@offset``.

    Example:
        >>> str(Source("headrace.press.telemetry.v1", 2, 8812))
        'headrace.press.telemetry.v1[2]@8812'
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class PoisonError(HeadraceError):
    """One record that can never succeed; it goes to the dead letter under `code`."""

    def __init__(self, code: str, *, source: Source, found: str) -> None:
        self.code = code
        self.source = source
        super().__init__(f"record {source} {found}; it is in the dead letter as {code!r}")


class PoisonRecordsError(HeadraceError):
    """Rows of one batch that can never succeed, by row number.

    Raised by a step that works on whole batches and knows which rows are at fault. A step that
    does not know raises any other error and is bisected by the runner.
    """

    code = "poison.records"

    def __init__(self, rows: dict[int, str]) -> None:
        self.rows = rows
        super().__init__(f"{len(rows)} rows of a batch cannot succeed")


class EventRefusedError(PoisonError):
    """An event that its pipeline would put into the dead letter; refused before it was sent."""

    def __init__(self, code: str, *, row: int, rows: int) -> None:
        self.code, self.row = code, row
        HeadraceError.__init__(
            self,
            f"event {row + 1} of {rows} would be dead as {code!r}, so nothing was sent; "
            f"correct it by the pipeline's [input]",
        )


class FatalError(HeadraceError):
    """Configuration, contract or code is wrong: the worker stops with a non-zero exit code."""

    code = "fatal"


class SettingsError(FatalError):
    """A setting is unknown, out of range or contradicts another."""

    code = "settings"


class PipelineFileError(FatalError):
    """The pipeline file cannot run as written."""

    code = "pipeline.file"


class MissingExtraError(FatalError):
    """An optional package is not installed."""

    code = "extra.missing"

    def __init__(self, *, package: str, extra: str, needed_for: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'headrace[{extra}]'"
        )


class BusRefusedError(FatalError):
    """The bus refused the connection: credentials, certificate or rights."""

    code = "bus.refused"


class StoreRefusedError(FatalError):
    """The store refused the connection: credentials, certificate or rights."""

    code = "store.refused"


class LocalServiceError(FatalError):
    """An embedded or local service could not start, or ended on its own."""

    code = "local.service"


class TopicError(FatalError):
    """A topic is missing, not ours to change, or has another partition count than its state."""

    code = "topic"


class StateError(FatalError):
    """Checkpoint, group offsets and log contradict each other and no safe reading exists."""

    code = "state"


class ModelError(FatalError):
    """The model cannot be served: file, signature, batch invariance or golden check."""

    code = "model"


class DeadLetterShareError(FatalError):
    """More of the input went to the dead letter than the pipeline allows."""

    code = "deadletter.share"
