"""A full disk is full for root, too, and nobody else sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import errno, pathlib, sys
from headrace.streams.drill.small_disk import SmallDisk, own_mounts
try:
    own_mounts()
except OSError as error:
    print(error.strerror)
    raise SystemExit(77)
disk = SmallDisk(pathlib.Path(sys.argv[1]), 2)
disk.mount()
file = disk.folder / "x"
file.write_bytes(bytes(1000))
disk.fill()
try:
    (disk.folder / "y").write_bytes(bytes(8192))
    raise SystemExit("there was space")
except OSError as error:
    assert error.errno == errno.ENOSPC
disk.free()
file.write_bytes(bytes(1 << 20))
disk.unmount()
assert list(disk.folder.iterdir()) == []
"""


def test_it_fills_and_frees(tmp_path: Path) -> None:
    """Where mount namespaces are permitted: written until full, refused, freed, gone."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "disk")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"a mount namespace of its own was refused: {done.stdout.strip()}")

    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "disk").iterdir()) == []
