"""Record batches with header names that are no UTF-8, read as Kafka's own clients read them."""

from __future__ import annotations

from itertools import chain

import pytest
from aiokafka.consumer import fetcher
from fakes.input_forms import Record
from fakes.raw_producer import RawName, record_batch

from headrace.streams.bus import header_names
from headrace.streams.bus.repairs import repair_aiokafka

PLAIN = [Record(b"k", b"v0", (("né", b"1"),)), Record(None, b"v1")]
ODD = [Record(b"k", b"v2"), Record(b"k", b"v3", ((RawName("a\xff"), b"2"), ("more", None)))]


def read(raw: bytes) -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    """Every record of a fetch response, as every consumer of this process reads it."""
    repair_aiokafka()
    records = fetcher.MemoryRecords(raw)
    batches = iter(records.next_batch, None)
    return [(row.key, row.value, list(row.headers)) for row in chain.from_iterable(batches)]


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_names_are_read_once_expected(monkeypatch, compression: int) -> None:
    """The library raises; once such a name is expected, every record is read, that one too."""
    monkeypatch.setattr(header_names._Records, "expecting", False)
    raw = b"".join(bytes(record_batch(rows, compression).build()) for rows in (PLAIN, ODD, PLAIN))
    with pytest.raises(UnicodeDecodeError):
        read(raw)

    header_names.expect_any()

    plain = [(r.key, r.value, list(r.headers)) for r in PLAIN]
    odd = [(b"k", b"v2", []), (b"k", b"v3", [("a\ufffd", b"2"), ("more", None)])]
    assert read(raw) == [*plain, *odd, *plain]


def test_checksums_are_still_checked(monkeypatch) -> None:
    """A broken record batch is seen as broken, whoever reads it."""
    monkeypatch.setattr(header_names._Records, "expecting", True)
    raw = bytearray(record_batch(ODD).build())
    assert fetcher.MemoryRecords(bytes(raw)).next_batch().validate_crc()
    raw[-3] ^= 1
    assert not fetcher.MemoryRecords(bytes(raw)).next_batch().validate_crc()
