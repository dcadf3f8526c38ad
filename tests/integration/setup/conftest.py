"""Services that refuse: a Kafka and a store that want a password nobody gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fakes.services import running

from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.local_kafka import LocalKafka

PLAIN_LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_press="right";'


@pytest.fixture(scope="session")
def guarded_kafka_url() -> Iterator[str]:
    """A Kafka that wants SASL PLAIN of the user ``press``."""
    properties = {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": PLAIN_LOGIN,
    }
    yield from running(
        LocalKafka(options=KafkaOptions(protocol="SASL_PLAINTEXT", properties=properties))
    )


@pytest.fixture(scope="session")
def guarded_store() -> Iterator[EmbeddedStore]:
    """A store that wants the user ``press``; its service can be asked whether it runs."""
    store = EmbeddedStore(acl=("press on >right ~* +@all",))
    asyncio.run(store.start())
    yield store
    asyncio.run(store.stop())
