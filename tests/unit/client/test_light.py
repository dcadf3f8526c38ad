"""What importing the client costs other people's services."""

from __future__ import annotations

import subprocess
import sys


def test_client_loads_nothing_heavy():
    """A fresh interpreter with the client has neither Faust, mode, onnxruntime nor redis."""
    code = "import headrace.streams.client, sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    heavy = {"faust", "mode", "onnxruntime", "redis", "opentelemetry", "click", "psutil"}
    assert not heavy & set(done.stdout.split())


def test_client_with_its_bus_loads_nothing_heavy():
    """Neither does the real bus."""
    code = "import headrace.streams.client.kafka_bus, sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "aiokafka" in done.stdout.split()
    heavy = {"faust", "mode", "onnxruntime", "redis", "opentelemetry", "click", "psutil"}
    assert not heavy & set(done.stdout.split())
