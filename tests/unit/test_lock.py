"""Dependencies: declared where imported, locked with hashes, from no server in particular."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LAYERS = ("schemas", "feature_store", "serving", "enrichers", "streams")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INPUTS = {
    "requirements.txt": [
        *PROJECT["dependencies"],
        *(
            r
            for extra in ("local", "host", "ui", "console", "otlp", "snapshots", "dev")
            for r in EXTRAS[extra]
        ),
    ],
    "requirements-worker.txt": [
        *PROJECT["dependencies"],
        *EXTRAS["host"],
        *EXTRAS["otlp"],
        *EXTRAS["snapshots"],
        "setuptools",
    ],
    "requirements-train.txt": [*PROJECT["dependencies"], *EXTRAS["train"]],
    "requirements-tables.txt": [*PROJECT["dependencies"], *EXTRAS["tables"]],
    "requirements-sql.txt": [*PROJECT["dependencies"], *EXTRAS["sql"]],
    "requirements-plots.txt": [*PROJECT["dependencies"], *EXTRAS["plots"]],
    "requirements-browser.txt": [*PROJECT["dependencies"], *EXTRAS["browser"]],
    "requirements-deploy.txt": [*PROJECT["dependencies"], *EXTRAS["deploy"]],
    "requirements-uv.txt": ["uv"],
    "requirements-s3.txt": ["moto[server]>=5.1"],
}

APART = ("requirements-uv.txt", "requirements-s3.txt")
"""In environments of their own."""

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


def imported(source: str) -> set[str]:
    """Top-level names a module imports that are neither standard nor ours."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"headrace"}


def undeclared(names: set[str], requirements: list[str]) -> list[str]:
    """Imported names that no requirement brings by itself."""
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    # An extra is asked for by name: redis[hiredis] brings hiredis.
    declared |= {canonicalize_name(e) for text in requirements for e in Requirement(text).extras}
    brings = packages_distributions()
    return sorted(
        name
        for name in names
        if not declared.intersection(map(canonicalize_name, brings.get(name, [name])))
    )


def test_every_import_is_declared():
    """What the layers import is asked for by name, not left to what others happen to bring."""
    asked = [*PROJECT["dependencies"], *(r for e in EXTRAS if e != "dev" for r in EXTRAS[e])]
    files = [f for layer in LAYERS for f in (ROOT / layer).rglob("*.py")]
    names = {name for file in files for name in imported(file.read_text("utf-8"))}

    assert undeclared(names, asked) == []


def test_undeclared_import_is_found():
    """An import that only comes with another package is named."""
    names = imported("def f():\n    import yarl, os\nfrom redis.asyncio import Redis\n")

    assert undeclared(names, ["redis[hiredis]>=8"]) == ["yarl"]
    assert undeclared({"hiredis"}, ["redis[hiredis]>=8"]) == []


@pytest.mark.parametrize("name", INPUTS)
def test_lock_meets_what_is_asked_for(name):
    """A dependency added to pyproject.toml without `make lock` is found here."""
    assert unmet(INPUTS[name], versions(read(name))) == []


@pytest.mark.parametrize("name", INPUTS)
def test_lock_is_hashed_and_names_no_server(name):
    """Every package is known by its content, wherever it is fetched from."""
    assert faults(read(name)) == []


@pytest.mark.parametrize(
    "name", [name for name in INPUTS if name not in ("requirements.txt", *APART)]
)
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
