"""The reference benchmark's modules, which are scripts beside one another and no package."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"


@pytest.fixture
def reference(monkeypatch):
    """A way to import the benchmark's modules, which are forgotten again afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield lambda name: __import__(name)
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and str(FOLDER) in sys.modules[name].__file__
        ):
            del sys.modules[name]
