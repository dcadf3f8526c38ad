"""What each error of the bus's client library means for Headrace, by class name."""

from __future__ import annotations

import ssl

from headrace.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    FatalError,
    HeadraceError,
    OwnershipLostError,
    StateError,
    TopicError,
)

_UNAVAILABLE = """
    NoBrokersAvailable NodeNotReadyError KafkaProtocolError CorrelationIdError Cancelled
    TooManyInFlightRequests StaleMetadata MetadataEmptyBrokerList KafkaUnavailableError
    KafkaTimeoutError KafkaConnectionError QuotaViolationError ConsumerStoppedError
    CorruptRecordException LeaderNotAvailableError NotLeaderForPartitionError
    RequestTimedOutError BrokerNotAvailableError ReplicaNotAvailableError
    StaleControllerEpochError StaleLeaderEpochCodeError GroupLoadInProgressError
    GroupCoordinatorNotAvailableError NotCoordinatorForGroupError
    NotEnoughReplicasError NotEnoughReplicasAfterAppendError NotControllerError
    ConcurrentTransactions
    OperationNotAttempted KafkaStorageError LogDirNotFound ReassignmentInProgress
    FetchSessionIdNotFound InvalidFetchSessionEpoch ListenerNotFound ProducerClosed
    OutOfOrderSequenceNumber DuplicateSequenceNumber UnknownProducerId UnknownError
    TransactionCoordinatorFenced InvalidProducerIdMapping KafkaError BrokerResponseError
"""
_LOST = """
    CommitFailedError IllegalGenerationError UnknownMemberIdError RebalanceInProgressError
    MemberIdRequired ProducerFenced InvalidProducerEpoch NonEmptyGroup
"""
_REFUSED = """
    AuthenticationMethodNotSupported AuthenticationFailedError TopicAuthorizationFailedError
    GroupAuthorizationFailedError ClusterAuthorizationFailedError UnsupportedSaslMechanismError
    IllegalSaslStateError TransactionalIdAuthorizationFailed SecurityDisabled
    SaslAuthenticationFailed DelegationTokenAuthDisabled DelegationTokenNotFound
    DelegationTokenOwnerMismatch DelegationTokenRequestNotAllowed
    DelegationTokenAuthorizationFailed DelegationTokenExpired InvalidPrincipalType
"""
_TOPIC = """
    UnknownTopicOrPartitionError InvalidTopicError RecordTooLargeError MessageSizeTooLargeError
    RecordListTooLargeError TopicAlreadyExistsError InvalidPartitionsError
    InvalidReplicationFactorError InvalidReplicationAssignmentError InvalidConfigurationError
    PolicyViolationError InvalidTimestampError UnsupportedForMessageFormatError
"""
_STATE = "OffsetOutOfRangeError NoOffsetForPartitionError GroupIdNotFound InvalidTxnState"
_FATAL = """
    IllegalStateError IllegalArgumentError IllegalOperation UnrecognizedBrokerVersion
    IncompatibleBrokerVersion UnsupportedCodecError KafkaConfigurationError NoError
    InvalidFetchRequestError OffsetMetadataTooLargeError InvalidRequiredAcksError
    InconsistentGroupProtocolError InvalidGroupIdError InvalidSessionTimeoutError
    InvalidCommitOffsetSizeError UnsupportedVersionError InvalidRequestError
    InvalidTransactionTimeout
"""

MEANING: dict[str, type[HeadraceError]] = {
    name: ours
    for names, ours in (
        (_UNAVAILABLE, BusUnavailableError),
        (_LOST, OwnershipLostError),
        (_REFUSED, BusRefusedError),
        (_TOPIC, TopicError),
        (_STATE, StateError),
        (_FATAL, FatalError),
    )
    for name in names.split()
}
"""Class name in ``aiokafka.errors`` to ours. A test walks that module."""

_FOUND_AND_REMEDY: dict[type[HeadraceError], str] = {
    BusUnavailableError: "got no usable answer from the bus ({kind}); it is tried again",
    OwnershipLostError: "was refused, another member goes on ({kind}); assignment runs again",
    BusRefusedError: "was refused by the bus ({kind}); check user, password and rights",
    TopicError: "failed on the topic ({kind}); check its name, sizes and settings on the bus",
    StateError: "named an offset that the bus does not have ({kind}); check where to start",
    FatalError: "is not possible on this bus ({kind}); check its version and the client's",
}


def meaning(kind: type[BaseException]) -> type[HeadraceError]:
    """Our class for one of the library's; of an unknown one, that of its nearest known ancestor."""
    for ancestor in kind.__mro__:
        if ancestor.__name__ in MEANING:
            return MEANING[ancestor.__name__]
    return FatalError


def as_ours(kind: type[BaseException], tried: str) -> HeadraceError:
    """One of our errors about what was tried; the library's text is left out, it may hold values.

    Example:
        >>> as_ours(PermissionError, "reading a[0]").code
        'fatal'
    """
    ours = meaning(kind)
    return ours(f"{tried} {_FOUND_AND_REMEDY[ours].format(kind=kind.__name__)}")


def explain(error: BaseException, tried: str) -> HeadraceError:
    """The error to raise for one of the library or the network.

    A failed TLS handshake is looked for in what caused the error, too.

    Example:
        >>> str(explain(TimeoutError(), "reading a[0]@7"))
        'reading a[0]@7 got no usable answer from the bus (no answer in time); it is tried again'
    """
    for found in (error, error.__cause__, error.__context__):
        if isinstance(found, ssl.SSLCertVerificationError):
            return BusRefusedError(
                f"{tried} failed, the bus's certificate is not trusted ({_reason(found)}); "
                f"name its authority in bus.ca"
            )
        if isinstance(found, ssl.SSLError) and not isinstance(found, ssl.SSLEOFError):
            return BusRefusedError(
                f"{tried} failed in the TLS handshake ({_reason(found)}); "
                f"check that the port speaks TLS, and bus.cert and bus.key"
            )
    if isinstance(error, OSError):  # TimeoutError is one
        reason = error.strerror or ("no answer in time" if isinstance(error, TimeoutError) else "")
        return BusUnavailableError(
            f"{tried} {_FOUND_AND_REMEDY[BusUnavailableError].format(kind=reason or 'lost')}"
        )
    return as_ours(type(error), tried)


def _reason(error: ssl.SSLError) -> str:
    """Why a handshake failed, in the library's words: they name no secret."""
    told = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(told or type(error).__name__)
