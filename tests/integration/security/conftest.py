"""Listeners that want more than an address: a Kafka with TLS and SASL, a store with ACL users."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.local_kafka import LocalKafka

sys.path.insert(0, str(Path(__file__).parent))
from pki import Pki, make_pki

USER, PASSWORD = "press", "right"


@pytest.fixture(autouse=True)
async def _connections_end() -> AsyncIterator[None]:
    """Connections that a server refuses in TLS close late: wait, and collect what the client left.

    Otherwise the collector meets them in the middle of another test.
    """
    yield
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 2.0
    while len(loop._selector.get_map()) > 1 and loop.time() < deadline:  # 1: the loop's own
        await asyncio.sleep(0.01)
    gc.collect()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The authority that the listeners' certificates come from."""
    return make_pki(tmp_path_factory.mktemp("pki"), "server", "client")


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Another authority, which nobody trusts."""
    return make_pki(tmp_path_factory.mktemp("strangers"), "client")


def tls_properties(pki: Pki) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(pki.both("server")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(pki.ca),
    }


def run(service: LocalKafka | EmbeddedStore) -> Iterator[LocalKafka | EmbeddedStore]:
    asyncio.run(service.start())
    yield service
    asyncio.run(service.stop())


@pytest.fixture(scope="session")
def secure_kafka_url(pki: Pki) -> Iterator[str]:
    """A Kafka that wants TLS and SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    if not LocalKafka.installed():
        pytest.skip("Apache Kafka is not installed; run `headrace kafka`")
    jaas = "listener.name.client.{}.sasl.jaas.config"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    plain = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_{USER}="{PASSWORD}";'
    )
    properties = {
        **tls_properties(pki),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        jaas.format("plain"): plain,
        jaas.format("scram-sha-256"): scram,
        jaas.format("scram-sha-512"): scram,
    }
    options = KafkaOptions(protocol="SASL_SSL", properties=properties, scram={USER: PASSWORD})
    for broker in run(LocalKafka(options=options)):
        yield broker.url


@pytest.fixture(scope="session")
def mutual_kafka_url(pki: Pki) -> Iterator[str]:
    """A Kafka that wants TLS and a client certificate of its own authority."""
    if not LocalKafka.installed():
        pytest.skip("Apache Kafka is not installed; run `headrace kafka`")
    properties = {**tls_properties(pki), "ssl.client.auth": "required"}
    for broker in run(LocalKafka(options=KafkaOptions(protocol="SSL", properties=properties))):
        yield broker.url


@pytest.fixture(scope="session")
def secure_store() -> Iterator[EmbeddedStore]:
    """A store that wants the user of `USER`, who may touch only keys of ``press:*``."""
    acl = (f"{USER} on >{PASSWORD} ~press:* +@all -@dangerous",)
    yield from run(EmbeddedStore(acl=acl))
