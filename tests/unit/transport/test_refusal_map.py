"""Which of Headrace's errors each trouble of the bus becomes."""

from __future__ import annotations

import ssl

import pytest
from aiokafka import errors as bus

from headrace.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    FatalError,
    OwnershipLostError,
    SettingsError,
    TopicError,
)
from headrace.streams.transport.refusals import translate
from headrace.streams.transport.stage import StageTransport


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (bus.SaslAuthenticationFailed("x"), BusRefusedError),
        (bus.GroupAuthorizationFailedError("g"), BusRefusedError),
        (bus.TopicAuthorizationFailedError("t"), BusRefusedError),
        (ssl.SSLCertVerificationError("x"), BusRefusedError),
        (bus.CommitFailedError("x"), OwnershipLostError),
        (bus.IllegalGenerationError(), OwnershipLostError),
        (bus.UnknownMemberIdError(), OwnershipLostError),
        (bus.IllegalStateError("x"), OwnershipLostError),
        (bus.KafkaConnectionError("x"), BusUnavailableError),
        (bus.RequestTimedOutError(), BusUnavailableError),
        (bus.NodeNotReadyError("x"), BusUnavailableError),
        (bus.UnknownTopicOrPartitionError("t"), BusUnavailableError),
        (bus.NotLeaderForPartitionError(), BusUnavailableError),
        (bus.ConsumerStoppedError(), BusUnavailableError),
        (ConnectionRefusedError(), BusUnavailableError),
        (TimeoutError(), BusUnavailableError),
        (KeyError("payload"), FatalError),
        (bus.InvalidSessionTimeoutError(), FatalError),
    ],
)
def test_error_map(error: BaseException, expected: type[Exception]) -> None:
    """The class says what to do; the message says what was tried, and holds no payload."""
    found = translate(error, tried="reading")
    assert type(found) is expected
    assert str(found).startswith("reading ")
    assert "payload" not in str(found)
    assert "\n" not in str(found)


def test_own_errors_pass_through() -> None:
    """An error that is already one of ours stays itself."""
    own = TopicError("absent")
    assert translate(own, tried="anything") is own


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_rows": 0},
        {"max_in_flight": 0},
        {"commit_interval_s": 0.0},
        {"shutdown_s": -1.0},
        {"topics": []},
        {"client_options": {}},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    """A bound below one, a time of nothing or a missing address is a SettingsError at once."""
    good: dict[str, object] = {
        "group": "g",
        "topics": ["t"],
        "client_options": {"bootstrap_servers": "127.0.0.1:1"},
        "embedded": False,
        "handler": object(),
    }
    StageTransport(**good)  # type: ignore[arg-type]
    with pytest.raises(SettingsError):
        StageTransport(**{**good, **wrong})  # type: ignore[arg-type]


def test_properties_before_the_start() -> None:
    """A transport that has not run yet reports nothing, rather than failing the metrics."""
    stage = StageTransport(
        group="g",
        topics=["t"],
        client_options={"bootstrap_servers": "127.0.0.1:1"},
        embedded=False,
        handler=object(),  # type: ignore[arg-type]
    )
    assert stage.assignment == frozenset()
    assert (stage.lag, stage.in_flight, stage.expired) == ({}, {}, {})
    assert (stage.generation, stage.last_commit_age_s) == (0, None)
    assert not stage.ready
    assert not stage.columnar
