"""Every error of redis-py, its parser and its sockets becomes one of ours."""

from __future__ import annotations

import inspect
import ssl

import hiredis
import pytest
from redis import exceptions as rx
from redis._parsers.base import BaseParser

from headrace.feature_store.redis_store import store_error
from headrace.schemas.errors import (
    FatalError,
    HeadraceError,
    StoreRefusedError,
    StoreUnavailableError,
)

# What each error of redis-py means for a worker; the test fails on one that is not listed.
MEANING: dict[str, type[HeadraceError]] = {
    "AskError": StoreUnavailableError,
    "AuthenticationError": StoreRefusedError,
    "AuthenticationWrongNumberOfArgsError": StoreRefusedError,
    "AuthorizationError": StoreRefusedError,
    "BusyLoadingError": StoreUnavailableError,
    "ChildDeadlockedError": FatalError,
    "ClusterCrossSlotError": FatalError,
    "ClusterDownError": StoreUnavailableError,
    "ClusterError": StoreUnavailableError,
    "ConnectionError": StoreUnavailableError,
    "CrossSlotTransactionError": FatalError,
    "DataError": FatalError,
    "ExecAbortError": FatalError,
    "ExternalAuthProviderError": StoreRefusedError,
    "IncorrectPolicyType": FatalError,
    "InvalidPipelineStack": FatalError,
    "InvalidResponse": StoreUnavailableError,
    "LockError": FatalError,
    "LockNotOwnedError": FatalError,
    "MasterDownError": StoreUnavailableError,
    "MaxConnectionsError": StoreUnavailableError,
    "ModuleError": FatalError,
    "MovedError": StoreUnavailableError,
    "NoPermissionError": StoreRefusedError,
    "NoScriptError": FatalError,
    "NoSuchFieldsetError": FatalError,
    "OutOfMemoryError": StoreUnavailableError,
    "PubSubError": FatalError,
    "ReadOnlyError": StoreUnavailableError,
    "RedisClusterException": FatalError,
    "RedisError": FatalError,
    "ResponseError": FatalError,
    "SlotNotCoveredError": StoreUnavailableError,
    "TimeoutError": StoreUnavailableError,
    "TryAgainError": StoreUnavailableError,
    "WatchError": FatalError,
}

ALL = {
    name: kind
    for name, kind in inspect.getmembers(rx, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == rx.__name__
}


def test_every_error_of_the_library_is_listed() -> None:
    """A new exception of redis-py fails here until somebody says what it means."""
    assert set(ALL) == set(MEANING)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_error_of_the_library_is_mapped(name: str) -> None:
    """Each becomes exactly the error its meaning asks for, in one line."""
    text = "12182 127.0.0.1:7001" if name in ("AskError", "MovedError") else "some\nreason"
    ours = store_error("redis://h:1", ALL[name](text))
    assert type(ours) is MEANING[name]
    assert "\n" not in str(ours)
    assert "redis://h:1" in str(ours)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("LOADING the dataset in memory", StoreUnavailableError),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailableError),
        ("READONLY You can't write against a read only replica.", StoreUnavailableError),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailableError),
        ("BUSY Redis is busy running a script.", StoreUnavailableError),
        ("MISCONF Redis is configured to save RDB snapshots", StoreUnavailableError),
        ("CLUSTERDOWN The cluster is down", StoreUnavailableError),
        ("TRYAGAIN Multiple keys request during rehashing", StoreUnavailableError),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailableError),
        ("ERR max number of clients reached", StoreUnavailableError),
        ("ERR Error running script (call to f_1): @user_script:9: -OOM no", StoreUnavailableError),
        ("NOAUTH Authentication required.", StoreRefusedError),
        ("WRONGPASS invalid username-password pair", StoreRefusedError),
        ("NOPERM this user has no permissions to run the 'evalsha' command", StoreRefusedError),
        ("ERR AUTH <password> called without any password configured", StoreRefusedError),
        ("DENIED Redis is running in protected mode", StoreRefusedError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", FatalError),
        ("ERR unknown command 'X'", FatalError),
    ],
)
def test_answers_of_the_server_are_mapped(answer: str, expected: type[HeadraceError]) -> None:
    """What a server can answer is mapped by its code, also inside a script's error."""
    assert type(store_error("s", BaseParser.parse_error(answer))) is expected


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ssl.SSLCertVerificationError("unable to get local issuer certificate"), StoreRefusedError),
        (ssl.SSLError("WRONG_VERSION_NUMBER"), StoreRefusedError),
        (ssl.SSLEOFError("EOF occurred in violation of protocol"), StoreUnavailableError),
        (ConnectionRefusedError("refused"), StoreUnavailableError),
    ],
)
def test_the_cause_below_a_broken_connection_counts(
    cause: Exception, expected: type[HeadraceError]
) -> None:
    """A certificate that is not trusted is refused for good; a cut connection is not."""
    wrapped = rx.ConnectionError("Error connecting")
    wrapped.__cause__ = cause
    assert type(store_error("s", wrapped)) is expected
    assert type(store_error("s", cause)) is expected


def test_errors_of_the_parser_and_the_clock_are_mapped() -> None:
    """A broken answer and a missing one are both worth another try."""
    assert type(store_error("s", hiredis.ProtocolError("x"))) is StoreUnavailableError
    assert type(store_error("s", TimeoutError())) is StoreUnavailableError


def test_our_own_bugs_are_not_blamed_on_the_store() -> None:
    """An error that is not of the store's making is left as it is."""
    assert store_error("s", KeyError("x")) is None


def test_messages_hold_no_arguments() -> None:
    """What a server repeats of a command's arguments does not reach the message."""
    answer = "ERR unknown command 'HSETEX', with args beginning with: 'press-07' '71.2' "
    message = str(store_error("s", BaseParser.parse_error(answer)))
    assert "press-07" not in message
    assert "71.2" not in message
