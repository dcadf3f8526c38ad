"""The environments of the sides: Headrace's own, and one for each other, made when needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("build/bench/envs")
PINS = Path(__file__).parent / "envs"
OWN = "own"
CLIENTS = "clients"
"""Of the sender and the receiver of the latency runs."""
SHARED = ("numpy", "onnxruntime", "msgspec", "orjson", "redis", "hiredis", "aiokafka")
OF_AIOKAFKA = frozenset({"faust", "handwritten"})
TOOLS = frozenset({CLIENTS, "plots", "profile"})
"""Environments that run no side of the comparison, so need nothing that the sides share."""


def python_of(env: str) -> str:
    """The interpreter of an environment; ``own`` is the one that runs this."""
    return sys.executable if env == OWN else str((FOLDER / env / "bin" / "python").absolute())


def prepare(envs: Iterable[str]) -> None:
    """Make the environments that are missing or whose pins changed.

    What all sides use, `SHARED`, gets Headrace's own versions.
    """
    for env in sorted(set(envs) - {OWN}):
        pins = (PINS / f"{env}.txt").read_text("utf-8") + _shared_pins(env)
        done = FOLDER / env / "pins.txt"
        if done.is_file() and done.read_text("utf-8") == pins:
            continue
        print(f"making the environment of {env}", flush=True)
        uv = [sys.executable, "-m", "uv", "--quiet"]
        folder = str(FOLDER / env)
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, folder], check=True)
        wanted = FOLDER / f"{env}.txt"
        wanted.write_text(pins, "utf-8")
        install = ["pip", "install", "--compile-bytecode", "--python", python_of(env)]
        subprocess.run([*uv, *install, "-r", str(wanted)], check=True)
        done.write_text(pins, "utf-8")


def versions(env: str) -> dict[str, str]:
    """What is installed in an environment."""
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    found = subprocess.run([python_of(env), "-I", "-c", code], check=True, capture_output=True)
    every: dict[str, str] = json.loads(found.stdout)
    return every


def _shared_pins(env: str) -> str:
    if env in TOOLS:
        return ""
    names = SHARED if env in OF_AIOKAFKA else SHARED[:-1]
    return "".join(f"{name}=={version(name)}\n" for name in names)
