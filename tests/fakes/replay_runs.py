"""Topics to replay, and runs of the command against a bus."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

PIPELINE = """
name = "{name}"
[input]
time_unit = "ms"
max_skew_s = 1e9
[input.metrics]
a = {{}}
[views.v]
features = [{{ op = "raw", metrics = ["*"] }}]
[model]
file = "m.onnx"
[topics]
partitions = 2
telemetry = "{topic}"
"""

HEADRACE = (sys.executable, "-c", "from headrace.streams.cli.main import main; main()")


def events(count: int) -> list[bytes]:
    return [
        json.dumps(
            {"id": f"e{i}", "device_id": f"d{i % 7}", "time": i, "metrics": {"a": i / 8}}
        ).encode()
        for i in range(count)
    ]


async def a_topic(logs: Any, tmp_path: Path, count: int) -> Path:
    """A topic of two partitions, half of the events in each; the file of its pipeline."""
    topic = await logs.topic(2)
    rows = events(count)
    for partition in (0, 1):
        await logs.write(topic, partition, rows[partition::2], batch=5000)
    file = tmp_path / "p.toml"
    file.write_text(PIPELINE.format(name=topic, topic=topic))
    return file


async def headrace(logs: Any, *args: object) -> tuple[int, str, str]:
    """One run of the command: exit code, output, errors."""
    process = await start(logs, *args)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def start(logs: Any, *args: object) -> asyncio.subprocess.Process:
    own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    return await asyncio.create_subprocess_exec(
        *HEADRACE,
        *map(str, args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=own | {"HEADRACE_BUS": logs.settings.url},
    )


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}
