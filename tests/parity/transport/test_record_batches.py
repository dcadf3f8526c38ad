"""Records handed to the encoder below the client's builder are what the client makes of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.protocols import Output
from headrace.streams.transport import publish
from headrace.streams.transport.publish import (
    filled_directly,
    filled_publicly,
    has_encoder,
    record_batches,
)

NOW_NS = 1_795_255_200_123_456_789
TEXT = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9)), max_size=2)
RECORDS = st.lists(st.tuples(TEXT, TEXT | st.just(b"long" * 90), HEADERS), max_size=40)


class Limited:
    """A producer whose record batches hold so many bytes."""

    def __init__(self, limit: int, *, transactional: bool = False) -> None:
        self._limit, self._transactional = limit, transactional

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._limit, 0, is_transactional=int(self._transactional))


def built(batches: Any) -> list[tuple[int, bool, bytes]]:
    """Records, whether it takes more, and bytes of each record batch."""
    return [(b.record_count(), b.closed(), bytes(b._build())) for b in batches]


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways at one moment."""
    monkeypatch.setattr(publish, "time", SimpleNamespace(time_ns=lambda: NOW_NS))


@given(records=RECORDS, limit=st.integers(70, 4000), transactional=st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_bytes_are_the_clients(records: Any, limit: int, transactional: bool) -> None:
    """For any records and limit: the same batches, cut at the same records."""
    producer: Any = Limited(limit, transactional=transactional)
    assert built(filled_directly(producer, records)) == built(filled_publicly(producer, records))


def test_the_installed_client_has_the_encoder() -> None:
    """Or the fast way would be lost without a word."""
    assert has_encoder(Limited(1000).create_batch())
    assert not has_encoder(object())  # type: ignore[arg-type]


def test_a_client_without_it_is_used_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output is published all the same, to the same bytes."""
    output = Output("topic", 0, None, [b"value"] * 30)
    producer: Any = Limited(300)
    direct = built(record_batches(producer, output))
    monkeypatch.setattr(publish, "has_encoder", lambda builder: False)
    assert built(record_batches(producer, output)) == direct
    assert len(direct) > 1
    assert sum(count for count, _, _ in direct) == 30
