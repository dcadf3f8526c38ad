"""`headrace sql`: topics are read when they are named, exports are tables, errors are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fakes.services import without

try:
    import duckdb as _  # noqa: F401
    import pyarrow.parquet as pq
except ImportError:
    without("duckdb or pyarrow is not installed; install the extra `sql`")

from fakes.replay_runs import a_topic, headrace


async def test_a_topic_and_an_export_in_one_query(tansu_logs: Any, tmp_path: Path) -> None:
    """A live topic joined with an export of part of it; then the same rows as a file."""
    file = await a_topic(tansu_logs, tmp_path, 60)
    part = tmp_path / "part"
    replay = ("replay", "telemetry", "-p", file, "--device", "d3", "--full-speed", "-o", part)
    assert (await headrace(tansu_logs, *replay))[0] == 0
    query = (
        "select count(*) as n, sum(t.a) as a, min(t.event_time) as first from telemetry t "
        'join part using (partition, "offset")'
    )
    common = ("-p", file, "--export", f"part={part}", "--full-speed")
    code, said, err = await headrace(tansu_logs, "sql", query, *common, "--json")

    assert (err, code) == ("", 0)
    ids = range(3, 60, 7)
    first = "1970-01-01T00:00:00.003Z"
    assert json.loads(said) == {"n": len(ids), "a": sum(ids) / 8, "first": first}

    out = tmp_path / "rows.parquet"
    some = "from telemetry where event_id = 'e5'"
    code, _, _ = await headrace(tansu_logs, "sql", some, *common, "-o", out)
    assert code == 0
    assert pq.read_table(out)["a"].to_pylist() == [5 / 8]


async def test_what_a_query_lacks_is_said(tansu_logs: Any, tmp_path: Path) -> None:
    """A query that is wrong, and a range that is not whole, each in a line."""
    file = await a_topic(tansu_logs, tmp_path, 10)
    code, _, err = await headrace(tansu_logs, "sql", "select nothing from telemetry", "-p", file)
    assert (code, err.count("\n"), "the query failed: Binder Error" in err) == (2, 1, True)
    far = ("--to", "2999-01-01T00:00:00Z", "--full-speed")
    code, said, err = await headrace(
        tansu_logs, "sql", "select count(*) as n from telemetry", "-p", file, *far
    )
    assert code == 3
    assert said.split() == ["n", "10"]
    assert err.startswith("missing (future)")
