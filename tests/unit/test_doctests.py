"""The examples in docstrings say what the code does."""

import doctest
import importlib
import pkgutil
import types

import pytest

LAYERS = ("schemas", "feature_store", "serving", "enrichers", "streams")


def modules(layer: str) -> list[str]:
    """Names of every module of a layer, by the installed names."""
    package = importlib.import_module(f"headrace.{layer}")
    return [m.name for m in pkgutil.walk_packages(package.__path__, f"headrace.{layer}.")]


def run(module: types.ModuleType) -> doctest.TestResults:
    """Run a module's examples."""
    return doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)


@pytest.mark.parametrize("name", [name for layer in LAYERS for name in modules(layer)])
def test_examples_of_module(name):
    """Every example of every module prints what its docstring shows."""
    assert run(importlib.import_module(name)).failed == 0


def test_a_wrong_example_fails(capsys):
    """An example whose output differs is reported."""
    module = types.ModuleType("wrong", ">>> 1 + 1\n3\n")

    result = run(module)

    assert (result.failed, result.attempted) == (1, 1)
    assert "Expected:" in capsys.readouterr().out


def test_some_examples_are_run():
    """The walk finds the modules that hold examples."""
    names = modules("schemas")

    assert "headrace.schemas.errors" in names
    assert run(importlib.import_module("headrace.schemas.errors")).attempted >= 1
