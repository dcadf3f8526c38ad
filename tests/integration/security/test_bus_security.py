"""TLS and log-in on a real Kafka: the right ones work, the wrong ones end in one line, soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer
from pki import Pki

from headrace.schemas.errors import BusRefusedError, BusUnavailableError, FatalError
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus import admin, connection, groups, reads
from headrace.streams.bus.options import client_options

# aiokafka leaves the transports of refused connections to the collector.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.kafka,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SOON_S = 8.0
USER, PASSWORD = "press", "right"
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def login(url: str, pki: Pki, **changes: object) -> BusSettings:
    """Settings that are right, but for the changes."""
    fields = {
        "url": url,
        "ca": str(pki.ca),
        "username": USER,
        "password": PASSWORD,
        "request_timeout_ms": 5000,
        **changes,
    }
    return BusSettings(**{name: value for name, value in fields.items() if value is not None})


async def works(settings: BusSettings, topic: str) -> None:
    """Topics, producing and reading all go through the same options."""
    options = client_options(settings)
    await admin.ensure_topics(
        options, [TopicSpec(topic, "telemetry", 1, 3_600_000, "raw", ours=True)]
    )
    async with AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait(topic, b"value", partition=0)
    batches = [batch async for batch in reads.read_range(options, topic, 0, 0, 1)]
    assert batches[0].values == [b"value"]
    assert await groups.first_positions(options, "readers", [topic], "earliest") == {(topic, 0): 0}
    assert (await connection.check_bus(options)).state == "answers"


async def fails(settings: BusSettings, state: str, error: type[Exception], words: str = "") -> None:
    """Checking and using the bus both end soon, with one line that holds no password."""
    options = client_options(settings)
    began = time.monotonic()
    found = await connection.check_bus(options)
    assert found.state == state, found.line
    assert words in found.line
    with pytest.raises(error) as caught:
        await reads.log_ranges(options, "any")
    assert time.monotonic() - began < SOON_S
    for line in (found.line, str(caught.value)):
        assert "\n" not in line
        assert PASSWORD not in line.replace("rights", "").replace("copyright", "")
        assert "wrong" not in line


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_the_right_log_in_works(
    secure_kafka_url: str, pki: Pki, unique: Callable[[str], str], mechanism: str
) -> None:
    """Each mechanism over TLS creates topics, writes, reads and commits."""
    settings = login(secure_kafka_url, pki, mechanism=mechanism)
    await works(settings, unique(mechanism.lower()))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"username": "nobody"}])
async def test_a_wrong_log_in_is_refused(
    secure_kafka_url: str, pki: Pki, mechanism: str, changes: dict[str, str]
) -> None:
    """Wrong user or password is a refusal for good, not an outage to wait for."""
    settings = login(secure_kafka_url, pki, mechanism=mechanism, **changes)
    await fails(settings, "refused", BusRefusedError, "check user, password")


async def test_a_certificate_of_strangers_is_not_trusted(
    secure_kafka_url: str, pki: Pki, strangers: Pki
) -> None:
    """A server of another authority is refused, and the line names the setting."""
    settings = login(secure_kafka_url, pki, ca=str(strangers.ca))
    await fails(settings, "refused", BusRefusedError, "bus.ca")


async def test_another_host_name_is_not_trusted(secure_kafka_url: str, pki: Pki) -> None:
    """A certificate is for its names: the same server under another address is refused."""
    url = secure_kafka_url.replace("127.0.0.1", "127.0.0.2")
    found = await connection.check_bus(client_options(login(url, pki)))
    assert found.state in ("refused", "unreachable")


async def test_plain_to_a_tls_port_ends(secure_kafka_url: str, pki: Pki) -> None:
    """Speaking plainly to a TLS port is an outage in one line, not a hang."""
    url = secure_kafka_url.replace("kafkas://", "kafka://")
    settings = login(url, pki, ca=None, username=None, password=None)
    await fails(settings, "unreachable", BusUnavailableError)


async def test_tls_to_a_plain_port_ends(kafka_url: str, pki: Pki) -> None:
    """Speaking TLS to a plain port ends soon in one line, too."""
    settings = login(kafka_url.replace("kafka://", "kafkas://"), pki, username=None, password=None)
    found = await connection.check_bus(client_options(settings))
    assert found.state in ("refused", "unreachable")
    assert "\n" not in found.line


async def test_no_log_in_where_one_is_wanted_ends(secure_kafka_url: str, pki: Pki) -> None:
    """TLS without the log-in that the listener wants ends soon."""
    settings = login(secure_kafka_url, pki, username=None, password=None)
    await fails(settings, "unreachable", BusUnavailableError)


async def test_a_client_certificate_opens_the_door(
    mutual_kafka_url: str, pki: Pki, unique: Callable[[str], str]
) -> None:
    """Where the bus wants a certificate, ours from `bus.cert` and `bus.key` works."""
    settings = login(
        mutual_kafka_url,
        pki,
        username=None,
        password=None,
        cert=str(pki.cert("client")),
        key=str(pki.key("client")),
    )
    await works(settings, unique("mutual"))


@pytest.mark.parametrize("whose", ["nobody", "strangers"])
async def test_without_the_right_client_certificate_it_stays_shut(
    mutual_kafka_url: str, pki: Pki, strangers: Pki, whose: str
) -> None:
    """No certificate, or one of another authority, is refused or cut off, soon."""
    own = (
        {"cert": str(strangers.cert("client")), "key": str(strangers.key("client"))}
        if whose == "strangers"
        else {}
    )
    settings = login(mutual_kafka_url, pki, username=None, password=None, **own)
    began = time.monotonic()
    with pytest.raises((BusRefusedError, BusUnavailableError)):
        await reads.log_ranges(client_options(settings), "any")
    assert time.monotonic() - began < SOON_S


async def test_nobody_there_is_unreachable() -> None:
    """A port without a listener is an outage that names where was looked."""
    settings = BusSettings(url="kafka://127.0.0.1:1", request_timeout_ms=2000)
    found = await connection.check_bus(client_options(settings))
    assert found.state == "unreachable"
    assert "127.0.0.1:1" in found.line


async def test_a_listener_that_never_answers_is_left_in_time() -> None:
    """A port that accepts and stays silent costs the request timeout, no more."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = BusSettings(url=f"kafka://127.0.0.1:{port}", request_timeout_ms=1000)
    began = time.monotonic()
    found = await connection.check_bus(client_options(settings))
    assert (found.state, time.monotonic() - began < SOON_S) == ("unreachable", True)
    for writer in held:
        writer.close()
    server.close()
    await server.wait_closed()


def test_refusals_are_fatal() -> None:
    """A worker stops on a refusal instead of trying a wrong password for ever."""
    assert issubclass(BusRefusedError, FatalError)
