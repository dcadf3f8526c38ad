"""A forked worker is, to whoever starts it, the worker of an interpreter of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.cli.context import pipeline_file
from headrace.streams.workers import nursery, spawning
from headrace.streams.workers.spawning import WORKER, Child, Forked, Spawner

pytestmark = pytest.mark.skipif(not spawning.FORKS, reason="workers are forked on Linux only")

HERE = Path(__file__).parent
HOSTS = str(pipeline_file("hosts"))
ENDS_S = 20.0

spoken = st.binary(max_size=30).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
variables = st.dictionaries(st.from_regex("HR_[A-Z]{1,8}", fullmatch=True), spoken, max_size=4)


@pytest.fixture
def crib(monkeypatch) -> Iterator[Spawner]:
    """Workers that only say what they find, of a nursery that imports nothing."""
    command = [sys.executable, str(HERE / "crib.py")]
    monkeypatch.setattr(
        nursery, "command", lambda channel: [*command, str(channel), " " * nursery.PADDING]
    )
    made = Spawner()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    made = Spawner()
    yield made
    made.stop()


Told = tuple[int, str, str]


def ended(
    start: Callable[[int, int], Child], heard: bytes, act: Callable[[Child], object] | None = None
) -> Told:
    """A process's exit code, output and errors, after it was told something and left alone."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = start(output.fileno(), errors.fileno())
        assert child.stdin is not None
        child.stdin.write(heard)
        if act is None:
            child.stdin.close()
        else:
            act(child)
        code = child.wait()
        child.stdin.close()
        for file in (output, errors):
            file.seek(0)
        return code, output.read().decode(), errors.read().decode()


def interpreter(command: list[str], environ: dict[str, str]) -> Callable[[int, int], Child]:
    """Start a command in an interpreter of its own."""
    return lambda stdout, stderr: subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=environ,
        start_new_session=True,
    )


def forked(spawner: Spawner, args: list[str], environ: dict[str, str]) -> Callable[..., Child]:
    """Have it forked."""

    def start(stdout: int, stderr: int) -> Child:
        child = spawner.spawn(
            [*WORKER, *args], stdout=stdout, stderr=stderr, environ=environ, new_session=True
        )
        assert isinstance(child, Forked)
        return child

    return start


@pytest.fixture(params=["default_int_handler", "SIG_IGN"])
def interrupt(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the foreground, and as a shell's background, where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, getattr(signal, request.param))
    yield
    signal.signal(signal.SIGINT, before)


def test_it_finds_what_an_interpreter_of_its_own_would(interrupt, crib) -> None:
    """Arguments, environment, files, signals, session: the same, whatever they are."""

    @settings(max_examples=20, deadline=None)
    @given(code=st.integers(0, 255), args=st.lists(spoken, max_size=3), environ=variables)
    def same(code: int, args: list[str], environ: dict[str, str]) -> None:
        words, environ = [str(code), *args], {"LC_ALL": "C.UTF-8", **environ}
        fresh = interpreter([sys.executable, str(HERE / "facts.py"), *words], environ)

        found = ended(forked(crib, words, environ), b"where to go\n")

        assert found == ended(fresh, b"where to go\n")
        assert found[0] == code

    same()


def test_one_worker_has_nothing_of_another(crib) -> None:
    """Twenty at once: no file or variable of one is seen by the next, and each says its own end."""
    environ = {f"HR_{number}": "x" for number in range(20)}
    outputs = [tempfile.TemporaryFile() for _ in environ]  # noqa: SIM115 - closed below
    children = [
        forked(crib, [str(number)], {name: "x"})(output.fileno(), output.fileno())
        for number, (name, output) in enumerate(zip(environ, outputs, strict=True))
    ]
    for child in children:
        child.stdin.close()

    codes = [child.wait() for child in children]

    assert codes == list(range(20))
    for name, output in zip(environ, outputs, strict=True):
        output.seek(0)
        said = json.loads(output.readline())
        assert said["environ"] == {name: "x"}
        assert len(said["files"]) == 4  # three, and that of the look itself
        output.close()


ENDS: dict[str, tuple[list[str], Callable[[Child], object] | None]] = {
    "input ends": (["serve", HOSTS], None),
    "no such file": (["enrich", "nowhere.toml"], None),
    "no such stage": (["nonsense", HOSTS], None),
    "terminated": (["enrich", HOSTS], lambda child: child.send_signal(signal.SIGTERM)),
    "killed": (["serve", HOSTS], lambda child: child.kill()),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ENDS)
def test_a_worker_ends_as_one_of_an_interpreter_of_its_own(case, spawner) -> None:
    """The same code, the same last words."""
    args, act = ENDS[case]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}

    found = ended(forked(spawner, args, environ), b"", act)

    assert found == ended(interpreter([*WORKER, *args], environ), b"", act)


def a_worker(spawner: Spawner) -> Forked:
    """A worker that waits to be told where to go."""
    with open(os.devnull, "wb") as nothing:
        child = spawner.spawn(
            [*WORKER, "enrich", HOSTS],
            stdout=nothing.fileno(),
            stderr=nothing.fileno(),
            environ=os.environ,
            new_session=True,
        )
    assert isinstance(child, Forked)
    return child


def test_it_is_known_by_its_own_command_line(spawner) -> None:
    """`ps` tells stages apart."""
    worker = a_worker(spawner)
    try:
        words = [word for word in psutil.Process(worker.pid).cmdline() if word]
        session = os.getsid(worker.pid)
    finally:
        worker.stdin.close()

    assert words == [*WORKER, "enrich", HOSTS]
    assert session == worker.pid
    assert worker.wait() == 0


def test_it_is_forked_by_one_thread_that_no_signal_of_a_service_manager_ends(spawner) -> None:
    """SIGTERM for every process of a unit is the workers' to hear; they end before the nursery."""
    worker = a_worker(spawner)
    parent = psutil.Process(worker.pid).parent()
    assert parent is not None
    assert parent.num_threads() == 1

    for number in (signal.SIGTERM, signal.SIGINT):
        parent.send_signal(number)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == -signal.SIGTERM

    worker.stdin.close()
    again = a_worker(spawner)
    assert psutil.Process(again.pid).ppid() == parent.pid
    again.stdin.close()
    assert again.wait() == 0


@pytest.mark.slow
def test_a_nursery_that_is_killed_takes_its_workers_along_and_another_is_started() -> None:
    """No worker runs that nobody can tell the end of."""
    spawner = Spawner()
    try:
        worker = a_worker(spawner)
        first = psutil.Process(worker.pid).parent()
        assert first is not None
        first.kill()

        assert worker.wait() == -signal.SIGKILL
        worker.stdin.close()
        other = a_worker(spawner)
        assert psutil.Process(other.pid).ppid() != first.pid
        other.stdin.close()
        assert other.wait() == 0
    finally:
        spawner.stop()


STARTER = """
import sys, time
from headrace.streams.workers.spawning import WORKER, Spawner
spawner = Spawner()
workers = [
    spawner.spawn([*WORKER, stage, sys.argv[1]], stdout=1, stderr=2, environ={}, new_session=True)
    for stage in ("enrich", "serve")
]
print(*(worker.pid for worker in workers), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_nothing_is_left_of_a_starter_that_is_killed() -> None:
    """Its workers end at the end of their input, and the nursery after them."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER, HOSTS], stdout=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
        parent = workers[0].parent()
        assert parent is not None
    finally:
        starter.kill()
        starter.communicate()

    _, left = psutil.wait_procs([*workers, parent], timeout=ENDS_S)
    assert left == []


def test_an_environment_too_large_to_hand_over_is_an_interpreters(crib) -> None:
    """Rare, and no reason to fail: that worker is not forked."""
    environ = {**os.environ, **{f"HR_{number}": "x" * 100_000 for number in range(4)}}
    with open(os.devnull, "wb") as nothing:
        child = crib.spawn(
            [*WORKER, "nonsense", HOSTS],
            stdout=nothing.fileno(),
            stderr=nothing.fileno(),
            environ=environ,
        )

    assert not isinstance(child, Forked)
    child.kill()
    assert child.wait() in (-signal.SIGKILL, 2)
    child.stdin.close()


def test_where_nothing_is_forked_no_nursery_is_started(crib, monkeypatch) -> None:
    """Other systems start an interpreter for each worker."""
    monkeypatch.setattr(spawning, "FORKS", False)
    with open(os.devnull, "wb") as nothing:
        child = crib.spawn(
            [*WORKER, "nonsense", HOSTS], stdout=nothing.fileno(), stderr=nothing.fileno(),
            environ=os.environ,
        )  # fmt: skip

    assert crib._nursery is None
    assert psutil.Process(child.pid).ppid() == os.getpid()
    child.kill()
    child.wait()
    child.stdin.close()


def test_a_signal_for_one_that_has_ended_hits_nobody(crib, monkeypatch) -> None:
    """Its process id may be another's by then."""
    with open(os.devnull, "wb") as nothing:
        child = forked(crib, ["0"], {})(nothing.fileno(), nothing.fileno())
    child.stdin.close()
    child.wait()
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))

    child.send_signal(signal.SIGTERM)
    child.kill()

    assert sent == []
    assert child.pid > 0


def test_its_end_is_seen_without_waiting_for_it(crib) -> None:
    with open(os.devnull, "wb") as nothing:
        child = forked(crib, ["3"], {})(nothing.fileno(), nothing.fileno())
    assert child.poll() is None
    child.stdin.close()
    give_up = time.monotonic() + ENDS_S
    while child.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.005)

    assert child.poll() == child.wait() == 3
