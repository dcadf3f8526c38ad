"""A worker whose supervisor is gone ends, also while it still waits for bus and store."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.cli.context import pipeline_file
from headrace.streams.workers.jobs import Endpoints

ENDS_S = 20.0


def test_a_worker_that_waits_for_its_services_ends_with_its_supervisor() -> None:
    nobody = Endpoints(
        bus=BusSettings(url="kafka://127.0.0.1:1"),
        store=StoreSettings(url="redis://127.0.0.1:1/0"),
        embedded=False,
    )
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "headrace.streams.workers.worker",
            "serve",
            str(pipeline_file("hosts")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stderr is not None
    try:
        worker.stdin.write(msgspec.json.encode(nobody) + b"\n")
        worker.stdin.flush()
        assert b"bus" in worker.stderr.readline()  # it tries, and says so
        worker.stdin.close()
        assert worker.wait(ENDS_S) == 0
    finally:
        worker.kill()
        worker.wait()
        worker.stderr.close()
