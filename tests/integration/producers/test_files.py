"""A file of NDJSON as a source."""

from pathlib import Path

import pytest

from headrace.schemas.errors import SettingsError
from headrace.streams.producers.files import FileSource
from headrace.streams.producers.produce import Record


def records(file: Path, **options: object) -> list[Record]:
    found: list[Record] = []
    with FileSource(file, **options) as source:  # type: ignore[arg-type]
        while (taken := source.take()) is not None:
            found += taken
    return found


def test_lines_arrive_unchanged_in_order_and_keyed(tmp_path: Path) -> None:
    """The value is the line's own bytes; the key is its entity."""
    file = tmp_path / "events.ndjson"
    lines = [b'{"device_id": "press-%d",  "metrics":{"t":1e2}}' % n for n in range(2500)]
    file.write_bytes(b"\n".join(lines))
    found = records(file)
    assert [record.value for record in found] == lines
    assert [record.key for record in found] == [b"press-%d" % n for n in range(2500)]


def test_blank_lines_and_line_ends_are_no_records(tmp_path: Path) -> None:
    """Blank lines, Windows line ends and a missing last newline change nothing."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(b'\n{"device_id":"a"}\r\n\r\n   \n{"device_id":"b"}')
    assert records(file) == [
        Record(b"a", b'{"device_id":"a"}'),
        Record(b"b", b'{"device_id":"b"}'),
    ]


@pytest.mark.parametrize(
    "line",
    [b"no json", b"[1]", b'{"device_id":7}', b'{"other":"a"}', b"\xff\xfe", b"[" * 20_000],
)
def test_a_bad_line_is_sent_without_a_key(tmp_path: Path, line: bytes) -> None:
    """The pipeline judges a bad line; the source hands it on and goes on."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(line + b'\n{"device_id":"a"}\n')
    assert records(file) == [Record(None, line), Record(b"a", b'{"device_id":"a"}')]


def test_the_entity_may_be_nested(tmp_path: Path) -> None:
    """A path with dots finds the key inside an object."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(b'{"machine":{"name":"m1"}}\n')
    assert records(file, entity="machine.name")[0].key == b"m1"


def test_a_take_gives_no_more_than_asked(tmp_path: Path) -> None:
    """The file is read as it goes."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"{}\n" * 25)
    with FileSource(file, rows=10) as source:
        assert [len(source.take() or []) for _ in range(4)] == [10, 10, 5, 0]
        assert source.take() is None


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """The error names the file and what to do."""
    with pytest.raises(SettingsError, match=r"opening '.*none.ndjson' failed: No such file"):
        FileSource(tmp_path / "none.ndjson")
