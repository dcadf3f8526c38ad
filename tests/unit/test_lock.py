"""The lock files are those of pyproject.toml, agree with one another, and name no server."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INPUTS = {
    "requirements.txt": [
        *PROJECT["dependencies"],
        *(r for extra in ("local", "host", "ui", "dev") for r in EXTRAS[extra]),
    ],
    "requirements-worker.txt": [*PROJECT["dependencies"], *EXTRAS["host"], "setuptools"],
    "requirements-train.txt": [*PROJECT["dependencies"], *EXTRAS["train"]],
    "requirements-uv.txt": ["uv"],
}

Versions = dict[str, set[str]]


def read(name: str) -> str:
    return (ROOT / ".ci" / name).read_text("utf-8")


def versions(lock: str) -> Versions:
    """Locked versions by package: more than one where they differ between Pythons."""
    found: Versions = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;]+)", lock, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def unmet(requirements: list[str], locked: Versions) -> list[str]:
    """Requirements that no locked version meets."""
    missing = []
    for text in requirements:
        wanted = Requirement(text)
        chosen = locked.get(canonicalize_name(wanted.name), set())
        if not chosen or not all(wanted.specifier.contains(v) for v in chosen):
            missing.append(f"{text}: locked is {sorted(chosen) or 'nothing'}; run: make lock")
    return missing


def faults(lock: str) -> list[str]:
    """Packages without a hash, and lines that name a server."""
    entries = re.split(r"^(?=[\w.-]+(?:\[.*\])?==)", lock, flags=re.MULTILINE)
    bare = [e.split()[0] for e in entries if "==" in e and "--hash=sha256:" not in e]
    named = [
        n for n in lock.splitlines() if "://" in n or n.startswith(("-i", "--index", "--find"))
    ]
    return bare + named


@pytest.mark.parametrize("name", INPUTS)
def test_lock_meets_what_is_asked_for(name):
    """A dependency added to pyproject.toml without `make lock` is found here."""
    assert unmet(INPUTS[name], versions(read(name))) == []


@pytest.mark.parametrize("name", INPUTS)
def test_lock_is_hashed_and_names_no_server(name):
    """Every package is known by its content, wherever it is fetched from."""
    assert faults(read(name)) == []


@pytest.mark.parametrize("name", ["requirements-worker.txt", "requirements-train.txt"])
def test_locks_agree(name):
    """Training and the worker's image run the very versions that the tests ran."""
    tested = versions(read("requirements.txt"))
    other = versions(read(name))

    assert {n: v for n, v in other.items() if n in tested and v != tested[n]} == {}
    assert len(other.keys() & tested.keys()) > 30


def test_missing_and_outdated_are_found():
    """A package that is absent, or locked below what is asked for, is named."""
    locked = versions("numpy==2.4.6 \\\n    --hash=sha256:0\nredis[hiredis]==8.1.0 \\\n")

    assert unmet(["numpy>=2.1", "Redis[hiredis]>=8.1,<9"], locked) == []
    assert len(unmet(["numpy>=3", "orjson>=3"], locked)) == 2


def test_bare_and_named_are_found():
    """A package without a hash, and a line with an address, are named."""
    lock = "--index-url https://mirror.example/simple\na==1\nb==2 \\\n    --hash=sha256:0\n"

    assert faults(lock) == ["a==1", "--index-url https://mirror.example/simple"]
