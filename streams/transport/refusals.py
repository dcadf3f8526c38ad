"""What went wrong on the bus, as one of Headrace's errors: where a stage differs from the rest."""

from __future__ import annotations

from aiokafka import errors as bus  # type: ignore[import-untyped]

from headrace.schemas.errors import (
    BusUnavailableError,
    FatalError,
    HeadraceError,
    OwnershipLostError,
)
from headrace.streams.bus.errors import explain


def translate(error: BaseException, *, tried: str) -> HeadraceError:
    """The error to raise for `error`, which came while `tried` was tried.

    Returns:
        BusRefusedError: Credentials, certificate or rights (fatal).
        OwnershipLostError: The group went on without us, or a partition is not ours any more
            (retryable).
        BusUnavailableError: No answer, or a broker that will answer later: one that restarts does
            not know its topics at first (retryable).
        FatalError: Anything else; the message names the class, never a payload.
    """
    if isinstance(error, HeadraceError):
        return error
    kind = type(error).__name__
    if isinstance(error, bus.IllegalStateError):
        return OwnershipLostError(f"{tried} came too late ({kind}); assignment runs again")
    if isinstance(error, bus.UnknownTopicOrPartitionError):
        return BusUnavailableError(f"{tried} found no such topic yet ({kind}); it is tried again")
    if isinstance(error, (OSError, bus.KafkaError, bus.ConsumerStoppedError)):
        return explain(error, tried)
    return FatalError(f"{tried} ended with {kind}, expected nothing of the kind; see the log")
