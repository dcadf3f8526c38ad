"""Local services: they answer, tell why they do not, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.schemas.errors import LocalServiceError, MissingExtraError
from headrace.schemas.settings import BusSettings, Settings, StoreSettings, WorkerSettings
from headrace.streams.local import embedded_bus, programs
from headrace.streams.local.embedded_bus import EmbeddedBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.folders import temporary_folder
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.local.service import Service, free_ports, on_free_port
from headrace.streams.local.services import open_bus, open_store

pytestmark = pytest.mark.integration

STARTER = Path(__file__).with_name("starter.py")
GONE_S = 3.0
KINDS = ["bus", "store", pytest.param("kafka", marks=pytest.mark.kafka)]


def make(kind: str, base: Path) -> EmbeddedBus | EmbeddedStore | LocalKafka:
    if kind == "kafka":
        if not LocalKafka.installed():
            pytest.skip("Apache Kafka is not installed; run `headrace kafka`")
        return LocalKafka(base=base)
    return EmbeddedBus(base) if kind == "bus" else EmbeddedStore(base)


def alive(pid: int) -> bool:
    """The process runs: it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(claim: Callable[[], bool], within_s: float = GONE_S) -> bool:
    deadline = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def runs_left(base: Path) -> list[str]:
    return sorted(path.name for path in (base / "run").iterdir() if path.is_dir())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stopped_service_leaves_nothing(kind: str, tmp_path: Path) -> None:
    """After stop the process, its port and its temporary folder are gone; stop may be repeated."""
    service = make(kind, tmp_path)
    await service.start()
    pid, port = service.service.pid, service.port
    assert listens(port)
    assert service.service.resident_bytes() > 1 << 20
    service.check()
    await service.stop()
    await service.stop()
    assert not alive(pid)
    assert not listens(port)
    assert runs_left(tmp_path) == []
    with pytest.raises(LocalServiceError, match=r"ended by signal|ended with code"):
        service.check()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crashed_service_starts_again_on_its_port(kind: str, tmp_path: Path) -> None:
    """A service that was killed says so, and starts again where its clients look for it."""
    service = make(kind, tmp_path)
    url = await service.start()
    try:
        service.service.kill()
        with pytest.raises(LocalServiceError, match="ended by signal 9"):
            service.check()
        assert await service.start() == url
        service.check()
    finally:
        await service.stop()
    assert runs_left(tmp_path) == []


@pytest.fixture
def started(
    tmp_path: Path,
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, list]]]]:
    """Runs the starter in a process of its own; it is killed in the end."""
    parents: list[subprocess.Popen[str]] = []

    def start(how: str, *kinds: str) -> tuple[subprocess.Popen[str], dict[str, list]]:
        command = [sys.executable, str(STARTER), str(tmp_path), how, *kinds]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        parents.append(parent)
        assert parent.stdout is not None
        return parent, json.loads(parent.stdout.readline())

    yield start
    for parent in parents:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["main", "thread"])
@pytest.mark.parametrize(
    "kinds", [["bus", "store"], pytest.param(["kafka"], marks=pytest.mark.kafka)]
)
def test_services_die_with_a_killed_parent(
    started, tmp_path: Path, how: str, kinds: list[str]
) -> None:
    """SIGKILL of the starting process ends its services at once; the next start tidies up."""
    if "kafka" in kinds and not LocalKafka.installed():
        pytest.skip("Apache Kafka is not installed; run `headrace kafka`")
    parent, told = started(how, *kinds)
    ports = [int(url.split(":")[2].split("/")[0]) for url in told["urls"]]
    assert all(map(alive, told["pids"]))
    assert all(map(listens, ports))
    assert len(runs_left(tmp_path)) == len(kinds)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert until(lambda: not any(map(alive, told["pids"])))
    assert until(lambda: not any(map(listens, ports)))

    def tidied() -> bool:
        # A thread of a dying service may hold its folder when the first one is gone already.
        temporary_folder(tmp_path, "next").release()
        return not runs_left(tmp_path)

    assert until(tidied)


@pytest.mark.chaos
def test_folders_of_the_living_are_kept(started, tmp_path: Path) -> None:
    """The next start removes only what has no owner."""
    _, told = started("main", "store")
    temporary_folder(tmp_path, "next").release()
    assert len(runs_left(tmp_path)) == 1
    assert alive(told["pids"][0])


def test_a_program_whose_parent_is_dead_already_is_not_run() -> None:
    """The launcher notices a parent that died before it could ask for the death signal."""
    launch = Path(embedded_bus.__file__).with_name("launch.py")
    command = [sys.executable, "-ISE", str(launch), "exec", "1", "/bin/echo", "it ran"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (125, b"")


async def test_a_taken_port_is_left_to_its_owner(tmp_path: Path) -> None:
    """A service whose port is taken between choice and use starts on another one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        tried = []

        async def start(at: int) -> None:
            tried.append(at)
            if at == port:
                raise LocalServiceError("the last line is: bind: Address already in use")

        assert await on_free_port(port, start) == tried[-1] != port
        store = EmbeddedStore(tmp_path)
        store.port = port
        await store.start()
        assert store.port != port
        await store.stop()


async def test_a_port_lost_in_the_race_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the free port is taken before the real service binds it, the next try succeeds."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        real = free_ports
        lost = [taken.getsockname()[1]]
        monkeypatch.setattr(
            "headrace.streams.local.service.free_ports", lambda n: [lost.pop()] if lost else real(n)
        )
        for service in (EmbeddedStore(tmp_path), EmbeddedBus(tmp_path)):
            lost[:] = [taken.getsockname()[1]]
            await service.start()
            assert service.port != taken.getsockname()[1]
            await service.stop()


async def test_a_program_that_ends_tells_its_last_line(tmp_path: Path) -> None:
    """The error of a service that ended holds its exit code and the last telling log line."""
    service = Service("test service", tmp_path)
    shout = "echo begin; echo 'the disk is on fire'; echo '\tat java.lang.Thread'; exit 3"
    service.spawn(["/bin/sh", "-c", shout])

    async def never() -> bool:
        return False

    with pytest.raises(LocalServiceError, match=r"test service ended with code 3.*disk is on fire"):
        await service.ready(never, within_s=5)


async def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """An executable that is missing at the start is named."""
    service = Service("test service", tmp_path)
    service.spawn(["/nowhere/at/all"])

    async def never() -> bool:
        return False

    with pytest.raises(LocalServiceError, match="/nowhere/at/all: No such file"):
        await service.ready(never, within_s=5)


async def test_a_service_that_never_answers_is_ended(tmp_path: Path) -> None:
    """Past its deadline a silent service is killed and reported."""
    service = Service("test service", tmp_path)
    service.spawn(["/bin/sleep", "60"])

    async def never() -> bool:
        return False

    with pytest.raises(LocalServiceError, match="did not answer within"):
        await service.ready(never, within_s=0.2)
    assert not service.running


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    """Cancelling a start ends the process and removes its folder."""
    store = EmbeddedStore(tmp_path)
    starting = asyncio.create_task(store.start())
    async with asyncio.timeout(60):
        while not (tmp_path / "run").exists() or store._service is None:
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not store.service.running
    assert runs_left(tmp_path) == []


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the message says which extra brings it."""
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: None)
    for program in (programs.bus_program, programs.store_program):
        with pytest.raises(MissingExtraError, match=r"pip install 'headrace\[local\]'"):
            program()


@pytest.mark.parametrize("kind", ["bus", "store"])
async def test_a_folder_that_cannot_be_written_is_named(kind: str) -> None:
    """A read-only place is one line with the setting; /proc refuses even root."""
    service = make(kind, Path("/proc/headrace"))
    with pytest.raises(LocalServiceError, match=r"cannot write to '/proc/headrace.*data_dir"):
        await service.start()


async def test_a_kept_store_keeps_and_is_shared(tmp_path: Path) -> None:
    """A second user of a kept folder gets the running server; its stop leaves it running."""
    first = EmbeddedStore(folder=tmp_path / "store")
    url = await first.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", first.port)
    writer.write(b"SET kept yes\r\n")
    assert await reader.readline() == b"+OK\r\n"
    writer.close()
    second = EmbeddedStore(folder=tmp_path / "store")
    assert (await second.start(), second.shared) == (url, True)
    await second.stop()
    first.check()
    await first.stop()
    with pytest.raises(LocalServiceError, match=r"shared store on port .* ended"):
        second.check()

    again = EmbeddedStore(folder=tmp_path / "store")
    try:
        assert await again.start() == url
        reader, writer = await asyncio.open_connection("127.0.0.1", again.port)
        writer.write(b"GET kept\r\n")
        assert await reader.readline() == b"$3\r\n"
        writer.close()
    finally:
        await again.stop()
    assert (tmp_path / "store" / "valkey.conf").stat().st_mode & 0o077 == 0


async def test_a_folder_whose_owner_does_not_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept folder owned by a process without a service is an error, not a second server."""
    monkeypatch.setattr("headrace.streams.local.shared.PATIENCE_S", 0.2)
    first = EmbeddedStore(folder=tmp_path / "store")
    await first.start()
    try:
        (tmp_path / "store" / "service.json").unlink()
        with pytest.raises(LocalServiceError, match="its store does not answer"):
            await EmbeddedStore(folder=tmp_path / "store").start()
    finally:
        await first.stop()


async def test_the_embedded_bus_ends_at_its_memory_limit(tmp_path: Path) -> None:
    """Above its limit the embedded bus is an error that names Apache Kafka as the remedy."""
    bus = EmbeddedBus(tmp_path, memory_limit_bytes=1 << 20)
    await bus.start()
    try:
        with pytest.raises(LocalServiceError, match=r"its limit is 1 MiB.*headrace kafka"):
            bus.check()
    finally:
        await bus.stop()


async def test_settings_choose_the_services(tmp_path: Path) -> None:
    """Local settings start services at once; the answer holds settings that need no start."""
    settings = Settings(
        bus=BusSettings(kind="embedded"), worker=WorkerSettings(data_dir=str(tmp_path))
    )
    bus, store = await asyncio.gather(open_bus(settings), open_store(settings))
    try:
        assert (bus.kind, store.kind) == ("embedded", "embedded")
        assert bus.settings.url == bus.url
        assert bus.options["bootstrap_servers"] == [bus.url.removeprefix("kafka://")]
        assert store.settings.url.startswith("redis://127.0.0.1:")
        watched = asyncio.gather(bus.watch(), store.watch())
        await asyncio.sleep(0)
        os.kill(next(iter_pids(tmp_path)), signal.SIGKILL)
        with pytest.raises(LocalServiceError, match="ended by signal 9"):
            await asyncio.wait_for(watched, 60)
    finally:
        await asyncio.gather(bus.stop(), store.stop())
    assert runs_left(tmp_path) == []


def iter_pids(base: Path) -> Iterator[int]:
    """Processes whose working folder is one of the run folders of `base`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if Path(os.readlink(entry / "cwd")).is_relative_to(base):
                    yield int(entry.name)
            except OSError:
                continue


async def test_remote_services_are_taken_as_they_are() -> None:
    """URLs are passed on; nothing starts, and stop leaves what is not ours."""
    settings = Settings(bus=BusSettings(url="kafka://a:1"), store=StoreSettings(url="redis://a:1"))
    bus, store = await open_bus(settings), await open_store(settings)
    assert (bus.kind, store.kind) == ("remote", "remote")
    assert (bus.url, store.url) == ("kafka://a:1", "redis://a:1")
    await bus.stop()
    await store.stop()


async def test_an_embedded_bus_of_another_command_is_known_as_one() -> None:
    """By its kind, which `up` exports beside the address: else groups would wait for ever."""
    bus = await open_bus(Settings(bus=BusSettings(url="kafka://a:1", kind="embedded")))
    assert (bus.kind, bus.url) == ("embedded", "kafka://a:1")
    await bus.stop()  # it is not ours


async def test_a_store_says_whether_it_is_empty(tmp_path: Path) -> None:
    """Its own process and one that shares it; of one that is gone nothing is known."""
    first = EmbeddedStore(tmp_path, folder=tmp_path / "kept")
    second = EmbeddedStore(tmp_path, folder=tmp_path / "kept")
    assert not await first.empty()  # not started
    await first.start()
    try:
        await second.start()
        assert (second.shared, await first.empty(), await second.empty()) == (True, True, True)
        reader, writer = await asyncio.open_connection("127.0.0.1", first.port)
        writer.write(b"SET key value\r\n")
        assert await reader.readline() == b"+OK\r\n"
        writer.close()
        assert (await first.empty(), await second.empty()) == (False, False)
        await second.stop()
    finally:
        await first.stop()
    assert not await first.empty()
