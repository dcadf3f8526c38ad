"""The compose file agrees with the code, and opens nothing to a network."""

import fnmatch
import re
from pathlib import Path

import pytest
import yaml

from headrace.schemas.settings import load_settings
from headrace.schemas.topics import EVENT_LIMIT_BYTES
from headrace.streams.workers.supervisor import KILL_AFTER_S, KILLED_S

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
WORKERS = sorted(name for name, service in SERVICES.items() if "build" in service)
BROKER = dict(
    line.split("=", 1)
    for line in (ROOT / "compose" / "kafka" / "server.properties").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)
DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text("utf-8")


def open_ports(services: dict) -> list[str]:
    """Published ports that other machines could reach."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    return [port for port in ports if not port.startswith("127.0.0.1:")]


def unpinned(services: dict) -> list[str]:
    """Images whose content changes under the same name."""
    images = [service["image"] for service in services.values()]
    return [i for i in images if not re.search(r":(v?\d+\.\d+.*|local)$", i)]


def copied(dockerfile: str) -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def test_ports_are_published_to_this_machine_only():
    """Neither bus nor store has a password here, so neither listens beyond loopback."""
    assert open_ports(SERVICES) == []
    assert open_ports({"a": {"ports": ["9092:9092"]}}) == ["9092:9092"]


def test_images_are_pinned():
    """No image changes under its name."""
    assert unpinned(SERVICES) == []
    assert unpinned({"a": {"image": "redis:latest"}, "b": {"image": "redis"}}) == [
        "redis:latest",
        "redis",
    ]


@pytest.mark.parametrize("name", WORKERS)
def test_worker_settings_are_settings(name):
    """The worker accepts its environment, which names the services of this file."""
    settings = load_settings(None, SERVICES[name]["environment"])
    hosts = [
        url.partition("://")[2].partition(":")[0] for url in (settings.bus.url, settings.store.url)
    ]

    assert set(hosts) == set(SERVICES[name]["depends_on"]) == {"kafka", "redis"}
    inside = f"INSIDE://{settings.bus.url.partition('://')[2]}"
    assert inside in BROKER["advertised.listeners"].split(",")


@pytest.mark.parametrize("name", WORKERS)
def test_workers_are_asked_where_they_answer(name):
    """The health check asks the address that the worker is told to answer on, for a path it has."""
    service = SERVICES[name]
    url = re.search(r"http://([^/]+)(/\w+)", service["healthcheck"]["test"][-1])
    server = (ROOT / "streams" / "health" / "server.py").read_text("utf-8")

    assert url is not None
    place = load_settings(None, service["environment"]).health.place()
    assert place == ("0.0.0.0", 8080)  # Prometheus asks from beside it
    assert url[1] == f"127.0.0.1:{place[1]}"
    assert f'"{url[2][1:]}"' in server
    assert "ports" not in service


def test_each_stage_has_a_worker():
    """The services are the stages of the path, each on a pipeline file that the image holds."""
    from headrace.streams.workers.jobs import STAGES

    commands = [SERVICES[name]["command"] for name in WORKERS]

    assert sorted(c[c.index("--stages") + 1] for c in commands) == sorted(STAGES)
    for command in commands:
        assert (ROOT / command[1].removeprefix("/opt/headrace/")).is_file()


def test_broker_takes_the_largest_record():
    """The broker's limit is that of our topics, and topics are made by us alone."""
    assert int(BROKER["message.max.bytes"]) == EVENT_LIMIT_BYTES
    assert BROKER["auto.create.topics.enable"] == "false"


def test_workers_have_time_to_finish():
    """The engine kills a worker only after we have ended the worker ourselves."""
    for name in WORKERS:
        grace_s = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > KILL_AFTER_S + KILLED_S


def test_volumes_are_declared():
    """Every named volume that a service mounts exists, and so does every folder of ours."""
    sources = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    folders = {source for source in sources if source.startswith("./")}

    assert sources - folders == set(COMPOSE["volumes"])
    assert [f for f in folders if not (ROOT / "compose" / f).is_dir()] == []


def test_image_is_built_from_files_that_exist():
    """What the Dockerfile copies is in the checkout, and its ignore file lets it through."""
    ignore = (ROOT / "compose" / "Dockerfile.dockerignore").read_text("utf-8").split()
    let_through = [line[1:] for line in ignore if line.startswith("!")]
    for name in copied(DOCKERFILE):
        assert (ROOT / name).exists()
        assert name == "." or any(fnmatch.fnmatch(name, pattern) for pattern in let_through)
    for name in let_through:
        assert (ROOT / name).exists()
