"""`headrace replay` on real buses: nothing live is touched, and a killed export goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from fakes.services import without

try:
    import pyarrow.parquet as pq
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")

from fakes.replay_runs import a_topic, files, headrace, start

from headrace.streams.replay import Wanted, open_replay


async def groups_and_topics(logs: Any) -> tuple[list[Any], list[str]]:
    admin = AIOKafkaAdminClient(**logs.options)
    await admin.start()
    try:
        return sorted(await admin.list_consumer_groups()), sorted(await admin.list_topics())
    finally:
        await admin.close()


async def test_nothing_live_is_touched(kafka_logs: Any, tmp_path: Path) -> None:
    """A replay leaves groups, committed offsets and topics as they were; its rows are the log's."""
    file = await a_topic(kafka_logs, tmp_path, 400)
    before = await groups_and_topics(kafka_logs)
    out = tmp_path / "out"
    code, said, _ = await headrace(
        kafka_logs, "replay", "telemetry", "-p", file, "-o", out, "--from", "1970-01-01T00:00:00Z",
        "--to", "1970-01-01T00:00:00.100Z", "--json",
    )  # fmt: skip

    assert code == 0
    assert json.loads(said)["rows"] == 100
    rows = [row for f in sorted(out.rglob("*.parquet")) for row in pq.read_table(f).to_pylist()]
    assert sorted(row["event_id"] for row in rows) == sorted(f"e{i}" for i in range(100))
    assert await groups_and_topics(kafka_logs) == before


async def test_killed_and_resumed_gives_the_same_bytes(kafka_logs: Any, tmp_path: Path) -> None:
    """SIGKILL at any moment, then the same command again: the files of an undisturbed export."""
    file = await a_topic(kafka_logs, tmp_path, 20_000)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    common = ("replay", "telemetry", "-p", file, "--offsets", "0,1:5-9990")
    code, _, _ = await headrace(kafka_logs, *common, "-o", whole, "--full-speed", "--workers", "2")
    assert code == 0

    killed = await start(kafka_logs, *common, "-o", torn, "--rate", "8000")
    while not list(torn.glob("p*/.*")):  # a part is being written
        await asyncio.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    assert not (torn / "_report.json").exists()
    code, said, _ = await headrace(kafka_logs, *common, "-o", torn, "--full-speed", "--json")

    assert (code, json.loads(said)["rows"]) == (0, 10_000 + 9_985)
    assert files(torn) == files(whole)


async def test_what_is_missing_ends_with_3(tansu_logs: Any, tmp_path: Path) -> None:
    """Offsets that are not written yet are named on standard error and in the report."""
    file = await a_topic(tansu_logs, tmp_path, 20)
    out = tmp_path / "out"
    code, said, err = await headrace(
        tansu_logs, "replay", "telemetry", "-p", file, "-o", out, "--offsets", "0:5-30", "--json"
    )

    assert code == 3
    assert "not written yet, the log ends at 10" in err
    assert [m["why"] for m in json.loads(said)["missing"]] == ["future"]
    assert json.loads(said)["rows"] == 5
    code, _, err = await headrace(
        tansu_logs, "replay", "telemetry", "-p", file, "--offsets", "0:9-3"
    )
    assert (code, "reversed" in err) == (2, True)


async def test_rows_for_notebooks(tansu_logs: Any, tmp_path: Path) -> None:
    """`open_replay` gives the same rows as Arrow, in the order of the log, without a file."""
    file = await a_topic(tansu_logs, tmp_path, 50)

    def read() -> tuple[list[str], list[str], list[Any]]:
        wanted = Wanted(devices=("d3",))
        with open_replay(tansu_logs.settings, "telemetry", pipeline=file, wanted=wanted) as replay:
            table = replay.table()
        with open_replay(tansu_logs.settings, "telemetry", pipeline=file) as replay:
            batches = [batch.num_rows for batch in replay]
            return table["event_id"].to_pylist(), batches, replay.missing

    ids, batches, missing = await asyncio.to_thread(read)
    assert ids == ["e10", "e24", "e38", "e3", "e17", "e31", "e45"]
    assert (sum(batches), missing) == (50, [])
