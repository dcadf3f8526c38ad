"""What a burst needed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from pathlib import Path
from headrace.streams.freed_memory import give_back

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

burst = [bytes(600 + n % 3000) for n in range(60_000)]
kept = burst[::50]
del burst
before = resident_mb()
assert give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps it")
def test_freed_memory_between_what_is_kept_is_given_back() -> None:
    """60,000 pieces of 126 MB in all, of which every fiftieth stays."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 20
