"""ONNX Runtime's Linux wheels send telemetry of their own unless they are told not to."""

import os
import subprocess
import sys
from pathlib import Path

from fakes import onnx_models

RUN = """
import sys
from headrace.serving.session import Session
Session(open(sys.argv[1], "rb").read(), model="m")
"""


def left_in_home(home: Path, code: str, model: Path) -> list[str]:
    """Files that a process leaves in its home folder."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    command = [sys.executable, "-c", code, str(model)]
    subprocess.run(command, env=environ | {"HOME": str(home)}, check=True, cwd=home)
    return [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()]


def test_a_session_names_no_machine_and_keeps_no_events(tmp_path: Path) -> None:
    """No name of this machine and no events to send are left where it ran.

    Until this it had both in the home folder of whoever served a model, from the first import on.
    """
    model, home = tmp_path / "m.onnx", tmp_path / "home"
    model.write_bytes(onnx_models.mlp())
    home.mkdir()

    assert left_in_home(home, RUN, model) == []
