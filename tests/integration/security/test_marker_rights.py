"""Who may write the end of another's transaction, asked of a real Kafka that checks rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import CoordinationType
from fakes.services import running

from headrace.schemas.settings import BusSettings
from headrace.streams.bus.connection import started
from headrace.streams.bus.lost_markers import may_write_markers, open_in
from headrace.streams.bus.options import client_options
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.local_kafka import LocalKafka

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

PASSWORD = "right"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
PROPERTIES = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:admin",  # the broker itself, and an operator
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.client.plain.sasl.jaas.config": (
        f'{PLAIN} user_admin="{PASSWORD}" user_press="{PASSWORD}";'
    ),
}

OPTIONS = KafkaOptions(protocol="SASL_PLAINTEXT", properties=PROPERTIES)


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """Its user `admin` may do everything, `press` nothing."""
    yield from running(LocalKafka(options=OPTIONS))


@pytest.mark.parametrize(("user", "may"), [("admin", True), ("press", False)])
async def test_a_user_is_known_to_have_the_right_before_anything_is_done(
    kafka: str, user: str, may: bool
) -> None:
    """Who has none is refused, and does not take what he cannot see for all there is."""
    settings = BusSettings(url=kafka, username=user, password=PASSWORD, mechanism="PLAIN")
    options = client_options(settings)
    async with started(AIOKafkaAdminClient(**options), options, "asking") as admin:
        if may:
            await admin.create_topics([NewTopic("out", 1, 1)])
            producer = AIOKafkaProducer(**options, transactional_id="t")
            async with producer, producer.transaction():
                await producer.send_and_wait("out", b"a", partition=0)
                seen = await open_in(admin._client, ["out"], "group")
                assert [str(one) for one in seen.hanging] == ["out[0]@0"]
            # The bus makes its topic of offsets when a group is first looked for.
            await admin._client.coordinator_lookup(CoordinationType.GROUP, "group")
        assert await may_write_markers(admin._client) is may
        seen = await open_in(admin._client, ["out"], "group")
        assert seen.whole is may
