"""Every error of the bus's client library has a meaning for the worker."""

from __future__ import annotations

import asyncio
import inspect
import ssl

import pytest
from aiokafka import errors as library

from headrace.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    FatalError,
    OwnershipLostError,
    RetryableError,
    SettingsError,
    TopicError,
)
from headrace.streams.bus.connection import mapped_errors
from headrace.streams.bus.errors import MEANING, as_ours, meaning

CLASSES = {
    name: kind
    for name, kind in vars(library).items()
    if inspect.isclass(kind) and issubclass(kind, Exception)
}


def unmapped(table: dict[str, type]) -> set[str]:
    return {kind.__name__ for kind in CLASSES.values()} - set(table)


def test_every_class_of_the_library_is_mapped() -> None:
    """A class that a new version of the library brings is found here, not in production."""
    assert unmapped(MEANING) == set()
    assert set(MEANING) <= {kind.__name__ for kind in CLASSES.values()}


def test_the_walk_finds_an_unmapped_class() -> None:
    """The test above can fail: one entry less is one finding."""
    less = {name: ours for name, ours in MEANING.items() if name != "ProducerFenced"}
    assert unmapped(less) == {"ProducerFenced"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_the_library_retries_is_never_fatal(name: str) -> None:
    """An error that the library calls retriable is retryable for us, but for a missing topic."""
    kind = CLASSES[name]
    if getattr(kind, "retriable", False) and name != "UnknownTopicOrPartitionError":
        assert issubclass(meaning(kind), RetryableError)


def test_an_unknown_class_takes_its_ancestors_meaning() -> None:
    """A class below a known one means the same; one of nobody is fatal."""

    class NewerAuthenticationError(library.AuthenticationFailedError):
        pass

    assert meaning(NewerAuthenticationError) is BusRefusedError
    assert meaning(ZeroDivisionError) is FatalError


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (library.KafkaConnectionError("10.0.0.1"), BusUnavailableError),
        (library.SaslAuthenticationFailed("wrong"), BusRefusedError),
        (library.MessageSizeTooLargeError(), TopicError),
        (library.ProducerFenced("x"), OwnershipLostError),
        (library.ConsumerStoppedError(), BusUnavailableError),
        (library.IllegalOperation(), FatalError),
        (ConnectionRefusedError(111, "Connection refused"), BusUnavailableError),
        (TimeoutError(), BusUnavailableError),
        (ssl.SSLCertVerificationError("certificate verify failed"), BusRefusedError),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), BusRefusedError),
    ],
)
def test_errors_are_raised_as_ours(raised: Exception, expected: type[Exception]) -> None:
    """Library and network errors leave the door as exactly one of ours, on one line."""
    with pytest.raises(expected) as caught, mapped_errors("reading a[0]@7"):
        raise raised
    assert type(caught.value) is expected
    assert str(caught.value).startswith("reading a[0]@7 ")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is raised


def test_a_tls_failure_behind_a_lost_connection_is_a_refusal() -> None:
    """Trying again does not mend a certificate, so its cause decides."""
    lost = library.KafkaConnectionError("lost")
    lost.__cause__ = ssl.SSLCertVerificationError("certificate verify failed")
    with pytest.raises(BusRefusedError, match=r"not trusted.*bus\.ca"), mapped_errors("connecting"):
        raise lost


@pytest.mark.parametrize(
    "passing", [asyncio.CancelledError(), SettingsError("ours"), KeyError("a bug")]
)
def test_the_rest_passes_unchanged(passing: BaseException) -> None:
    """Cancellation, errors of ours and bugs are not renamed."""
    with pytest.raises(type(passing)) as caught, mapped_errors("anything"):
        raise passing
    assert caught.value is passing


def test_the_librarys_text_stays_out() -> None:
    """A broker's message can hold a key or a value: ours holds the class name only."""
    error = library.InvalidTopicError("secret-device-17")
    assert "secret-device-17" not in str(as_ours(type(error), "publishing"))
