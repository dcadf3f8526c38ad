"""Whether a user may write ends of transactions is what the bus answers, and no answer is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors

from headrace.streams.bus.lost_markers import may_write_markers


class Client:
    """One broker that answers with a code, or not at all."""

    def __init__(self, answer: int | Exception) -> None:
        self._answer = answer

    async def fetch_all_metadata(self) -> Any:
        return SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=1)])

    async def send(self, node: int, request: object) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        parts = [(0, self._answer, {})]
        return SimpleNamespace(markers=[(0, [("__consumer_offsets", parts, {})], {})])


@pytest.mark.parametrize(
    ("answer", "may"),
    [
        (errors.UnknownTopicOrPartitionError.errno, True),
        (errors.NotCoordinatorForGroupError.errno, True),
        (errors.ClusterAuthorizationFailedError.errno, False),
        (errors.IncompatibleBrokerVersion("too old"), False),
    ],
)
async def test_the_right_is_what_the_bus_answers(answer: int | Exception, may: bool) -> None:
    """There is no such partition: whoever gets as far as to hear that has the right."""
    assert await may_write_markers(Client(answer)) is may


@pytest.mark.parametrize("kind", [errors.KafkaConnectionError, errors.RequestTimedOutError])
async def test_a_bus_that_does_not_answer_gives_no_right(kind: type[Exception]) -> None:
    """It is asked again, before an id is opened and what was decided is forgotten."""
    with pytest.raises(kind):
        await may_write_markers(Client(kind()))
