"""What an installed Headrace adds to the names of a Python: `headrace.*`, and nothing else."""

import json
import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points

import pytest

LAYERS = ("schemas", "feature_store", "serving", "enrichers", "streams")

PROBE = """
import importlib, importlib.resources, importlib.util, json, sys
layers = sys.argv[1].split(",")
found = {f"headrace.{n}": importlib.util.find_spec(f"headrace.{n}") is not None for n in layers}
for name in [*layers, "tests", "compose"]:
    found[name] = importlib.util.find_spec(name) is not None
found["py.typed"] = (importlib.resources.files("headrace.schemas") / "py.typed").is_file()
one = importlib.import_module("headrace.schemas.errors").HeadraceError
two = importlib.import_module("headrace.schemas.settings").SettingsError
found["identity"] = one in two.__mro__ and "schemas" not in sys.modules
print(json.dumps(found))
"""


def probe(folder: str) -> dict[str, bool]:
    """Which names a fresh, isolated interpreter finds when it starts in `folder`."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, ",".join(LAYERS)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout))


@cache
def found(folder: str) -> dict[str, bool]:
    return probe(folder)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    return str(tmp_path_factory.mktemp("elsewhere"))


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_is_importable_under_the_namespace(layer, elsewhere):
    """Folder F is the import package headrace.F, from any folder."""
    assert found(elsewhere)[f"headrace.{layer}"]


@pytest.mark.parametrize("name", [*LAYERS, "tests", "compose"])
def test_generic_name_does_not_leak(name, elsewhere):
    """Installing Headrace claims no generic top-level name."""
    assert not found(elsewhere)[name]


def test_data_file_is_installed(elsewhere):
    """Files that are no Python travel with their layer."""
    assert found(elsewhere)["py.typed"]


def test_a_class_has_one_identity(elsewhere):
    """Modules of one layer see one another's classes, never a second copy of them."""
    assert found(elsewhere)["identity"]


def test_console_script_resolves():
    """The `headrace` command points at a callable."""
    (script,) = entry_points(group="console_scripts", name="headrace")

    assert callable(script.load())


def test_probe_reports_a_leaked_name(tmp_path):
    """The probe sees a generic name that an installation did leak."""
    (tmp_path / "compose.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROBE}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, ",".join(LAYERS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert json.loads(done.stdout)["compose"]
