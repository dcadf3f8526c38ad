"""Setting up: which Python is taken, what is said where there is none, and where it is said."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("sh", "cat", "dirname", "rm", "mkdir", "cp")

# A Python that writes down how it is called, and does what setting up asks of it. As a module of
# `FAIL` it fails.
FAKE = """#!/bin/sh
echo "$0 $*" >>"$CALLS"
case "$*" in
  "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-V") echo Python 3.12.0 ;;
esac
case "$*" in *"-m ${FAIL:-nothing} "*) exit 1 ;; esac
exit 0
"""
BROKEN = "#!/bin/sh\nexit 127\n"


class Machine:
    """A checkout in a folder with a space, and a PATH that holds only what is put there."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "a checkout"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.bin.mkdir()
        (self.checkout / ".ci").mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "setup", self.checkout / ".ci" / "setup")
        for program in NEEDED:
            (self.bin / program).symlink_to(shutil.which(program) or program)

    def install(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(
            [str(self.bin / "sh"), ".ci/setup"],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "CALLS": str(self.calls), **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def called(self, what: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if what in line]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_no_python_is_one_line(machine):
    """Without a Python there is one line that says what to install, and nothing is built."""
    done = machine.setup()

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "3.11" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_a_python_that_does_not_run_is_passed_over(machine):
    """A shim that exists and fails does not hide the Python behind it."""
    machine.install("python3.11", BROKEN)
    machine.install("python3.12", FAKE)

    done = machine.setup()

    assert done.returncode == 0
    assert done.stdout == ""
    assert [line.split()[0] for line in machine.called("-m venv")] == [
        str(machine.bin / "python3.12")
    ]
    assert (machine.checkout / ".venv" / ".ready").read_text() == f"{machine.checkout}\n"


def test_named_python_is_taken_or_refused(machine):
    """PYTHON=… is never silently replaced by another one."""
    machine.install("python3.11", FAKE)
    machine.install("other", BROKEN)

    refused = machine.setup(PYTHON=str(machine.bin / "other"))
    machine.install("other", FAKE)
    taken = machine.setup(PYTHON=str(machine.bin / "other"))

    assert refused.returncode == 1
    assert f"PYTHON={machine.bin / 'other'} is no Python" in refused.stderr
    assert taken.returncode == 0
    assert str(machine.bin / "other") in taken.stderr


def test_every_package_is_installed_by_hash(machine):
    """Nothing is installed whose content is not known, or that is fetched to build ourselves."""
    machine.install("python3.11", FAKE)
    machine.setup()
    installs = machine.called(" install ")

    assert len(installs) == 3
    for call in installs:
        assert "--require-hashes" in call or "--no-deps --no-build-isolation --editable ." in call


def test_pip_stands_in_for_uv(machine):
    """Where uv cannot install, pip installs the same locked packages."""
    machine.install("python3.11", FAKE)

    done = machine.setup(FAIL="uv")

    assert done.returncode == 0
    assert machine.called("-m pip install --quiet --require-hashes -r .ci/requirements.txt")


def test_a_failed_install_is_not_ready(machine):
    """After a failure the next run tries again: no stamp is left, not even an old one."""
    machine.install("python3.11", FAKE)
    machine.setup()

    done = machine.setup(FAIL="pip")

    assert done.returncode != 0
    assert not (machine.checkout / ".venv" / ".ready").exists()


def test_moved_checkout_is_built_anew(machine):
    """Scripts in an environment name its old place, so a moved one is not kept."""
    machine.install("python3.11", FAKE)
    machine.setup()
    kept = machine.setup()
    moved = machine.checkout.rename(machine.checkout.with_name("moved"))
    machine.checkout = moved
    anew = machine.setup()

    assert "building .venv" not in kept.stderr
    assert "building .venv" in anew.stderr


def test_every_target_is_described():
    """`make help` lists what can be made, and the README names nothing else."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))

    assert described == set(phony[1].split()) - {"FORCE"}
    readme = (ROOT / "README.md").read_text("utf-8")
    assert set(re.findall(r"\bmake ([a-z-]+)", readme)) - described <= {"it", "sure"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_help_needs_no_environment(tmp_path):
    """`make help` answers before anything is set up."""
    shutil.copy(ROOT / "Makefile", tmp_path / "Makefile")
    done = subprocess.run(
        ["make"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert "  demo " in done.stdout
    assert not (tmp_path / ".venv").exists()
