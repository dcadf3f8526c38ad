"""What went wrong on the bus, as one of Headrace's errors."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka import errors as bus  # type: ignore[import-untyped]
from aiokafka.conn import collect_hosts, create_conn  # type: ignore[import-untyped]

from headrace.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    FatalError,
    HeadraceError,
    OwnershipLostError,
)

REFUSED: tuple[type[BaseException], ...] = (
    bus.AuthenticationFailedError,
    bus.AuthenticationMethodNotSupported,
    bus.SaslAuthenticationFailed,
    bus.UnsupportedSaslMechanismError,
    bus.IllegalSaslStateError,
    bus.TopicAuthorizationFailedError,
    bus.GroupAuthorizationFailedError,
    bus.ClusterAuthorizationFailedError,
    ssl.SSLCertVerificationError,
)
_LOST: tuple[type[BaseException], ...] = (
    bus.CommitFailedError,
    bus.IllegalGenerationError,
    bus.UnknownMemberIdError,
    bus.RebalanceInProgressError,
    bus.IllegalStateError,
)
# What the connection probe hands to aiokafka's `create_conn`.
_PROBE_OPTIONS = (
    "client_id",
    "request_timeout_ms",
    "ssl_context",
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_oauth_token_provider",
)


def translate(error: BaseException, *, tried: str) -> HeadraceError:
    """The error to raise for `error`, which came while `tried` was tried.

    Returns:
        BusRefusedError: Credentials, certificate or rights (fatal).
        OwnershipLostError: The group went on without us (retryable).
        BusUnavailableError: No answer, or a broker that will answer later (retryable).
        FatalError: Anything else; the message names the class, never a payload.
    """
    if isinstance(error, HeadraceError):
        return error
    kind = type(error).__name__
    if isinstance(error, REFUSED):
        return BusRefusedError(
            f"{tried} was refused by the bus ({kind}); check user, certificate and rights"
        )
    if isinstance(error, _LOST):
        return OwnershipLostError(
            f"{tried} was refused, the group has moved on ({kind}); run assignment again"
        )
    if isinstance(error, (OSError, TimeoutError)) or (
        isinstance(error, bus.KafkaError) and (error.retriable or _connection(error))
    ):
        return BusUnavailableError(
            f"{tried} got no answer from the bus ({kind}); it is tried again"
        )
    return FatalError(f"{tried} ended with {kind}, expected nothing of the kind; see the log")


def _connection(error: bus.KafkaError) -> bool:
    return isinstance(error, (bus.KafkaConnectionError, bus.KafkaTimeoutError))


async def why_unreachable(options: Mapping[str, Any], error: BaseException) -> BaseException:
    """The real reason behind a failed bootstrap, where one connection more can tell it.

    aiokafka logs a refused log-in during bootstrap and raises only that it could not connect.
    """
    if type(error) is not bus.KafkaConnectionError:
        return error
    probe = {name: options[name] for name in _PROBE_OPTIONS if name in options}
    for host, port, _ in collect_hosts(options["bootstrap_servers"]):
        try:
            connection = await create_conn(host, port, **probe)
        except REFUSED as refusal:
            return refusal
        except (OSError, TimeoutError, bus.KafkaError) as reason:
            if isinstance(reason.__cause__, REFUSED):
                return reason.__cause__
        else:
            connection.close()
    return error
