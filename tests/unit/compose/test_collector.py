"""The collector's file is whole, and takes what our workers send."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from headrace.schemas.settings import load_settings

COMPOSE = Path(__file__).parents[3] / "compose"
CONFIG = yaml.safe_load((COMPOSE / "otel/collector.yaml").read_text("utf-8"))
SERVICES = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))["services"]
KINDS = ("receivers", "processors", "exporters")


def parts(kind: str) -> set[str]:
    """What the pipelines name of one kind."""
    return {name for one in CONFIG["service"]["pipelines"].values() for name in one.get(kind, ())}


def test_every_part_is_there_and_used() -> None:
    """A pipeline names what the file describes, and nothing is described in vain."""
    for kind in KINDS:
        assert parts(kind) == set(CONFIG[kind])
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])


def test_it_takes_what_workers_send() -> None:
    """Each signal of ours has a pipeline, at the address that the workers are told."""
    door = (COMPOSE.parent / "streams/telemetry.py").read_text("utf-8")
    signals = set(re.findall(r"/v1/(\w+)", door))
    port = CONFIG["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    settings = [load_settings(None, SERVICES[name]["environment"]) for name in ("enrich", "serve")]

    assert set(CONFIG["service"]["pipelines"]) == signals == {"traces", "logs", "metrics"}
    assert {s.otlp.url for s in settings} == {f"http://collector:{port}"}


def test_it_is_measured_where_prometheus_asks() -> None:
    """Its own metrics are served at the target of the job `collector`."""
    [reader] = CONFIG["service"]["telemetry"]["metrics"]["readers"]
    scraped = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text("utf-8"))
    [job] = [j for j in scraped["scrape_configs"] if j["job_name"] == "collector"]

    port = reader["pull"]["exporter"]["prometheus"]["port"]
    assert job["static_configs"] == [{"targets": [f"collector:{port}"]}]
    assert list(SERVICES["collector"]["volumes"]) == ["./otel:/etc/otelcol:ro"]
    assert SERVICES["collector"]["command"] == ["--config", "/etc/otelcol/collector.yaml"]
