"""The past written into another topic: the same records, partition by partition, at a pace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes.replay_runs import a_topic, headrace
from fakes.services import without

from headrace.streams.bus.lone_reader import lone_reader

try:
    import pyarrow as _  # noqa: F401
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")


def source_of(file: Path) -> str:
    return file.read_text("utf-8").split('telemetry = "')[1].split('"')[0]


async def content(logs: Any, topic: str) -> list[list[tuple[Any, ...]]]:
    found = []
    async with lone_reader(logs.options, topic) as reader:
        for partition, (begin, end) in sorted((await reader.edges()).items()):
            batches = [b async for b in reader.read(partition, begin, end)]
            found.append([
                (b.keys[i], b.values[i], tuple(b.headers[i]) if b.headers else ())
                for b in batches
                for i in range(len(b))
            ])  # fmt: skip
    return found


async def test_records_are_written_as_they_were(tansu_logs: Any, tmp_path: Path) -> None:
    """Keys, values and headers, each in its partition and in order; times decide only the pace."""
    file = await a_topic(tansu_logs, tmp_path, 300)
    source = source_of(file)
    target = await tansu_logs.topic(2)
    code, said, err = await headrace(
        tansu_logs, "replay", "telemetry", "-p", file, "--into", target, "--speed", "2x"
    )

    assert (err, code) == ("", 0)
    assert said.startswith(f"300 records of {source} written into {target}")
    assert await content(tansu_logs, target) == await content(tansu_logs, source)


async def test_a_topic_is_not_written_into_itself(tansu_logs: Any, tmp_path: Path) -> None:
    """Nor into one with fewer partitions."""
    file = await a_topic(tansu_logs, tmp_path, 4)
    source = source_of(file)
    code, _, err = await headrace(tansu_logs, "replay", "telemetry", "-p", file, "--into", source)
    assert (code, "into itself" in err) == (2, True)
    small = await tansu_logs.topic(1)
    code, _, err = await headrace(tansu_logs, "replay", "telemetry", "-p", file, "--into", small)
    assert (code, "has 1 partitions, fewer than" in err) == (2, True)
