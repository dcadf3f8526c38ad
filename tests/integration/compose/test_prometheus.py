"""Prometheus itself: its rule checker, its unit tests, and a server that scrapes a running `up`."""

from __future__ import annotations

import http
import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.ports import free_port
from integration.compose.fetched import COMPOSE, fetched
from integration.setup.command import Setup

from headrace.streams.client.deadletter_tally import clock

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FOLDER = COMPOSE / "prometheus"
WAIT_S = 60.0
METRICS = ("load", "ops_per_s", "bytes_per_s", "pressure", "memory")


def promtool(*words: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    """Run Prometheus's own checker."""
    return subprocess.run(
        [fetched("promtool"), *words], cwd=folder, capture_output=True, text=True, check=False
    )


class Prometheus:
    """A server with our configuration, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **words: str) -> dict[str, Any]:
        """One answer; an error is the answer, too."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/{path}?{urllib.parse.urlencode(words)}", timeout=10
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise ConnectionError("it still reads what it has") from error
            return json.load(error)

    def value(self, expr: str) -> list[float]:
        """What an expression is now."""
        return [float(one["value"][1]) for one in self.ask("query", query=expr)["data"]["result"]]

    def until(self, expr: str) -> None:
        """Wait until an expression holds for something."""
        give_up_s = time.monotonic() + WAIT_S
        while time.monotonic() < give_up_s:
            try:
                if self.value(expr):
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(0.1)
        raise AssertionError(f"{expr} holds for nothing: {self.ask('targets')}")


def events() -> Iterator[dict[str, object]]:
    """A second of one device."""
    now_ms = round(time.time() * 1000)  # noqa: TID251 - events of now
    for number in range(10):
        yield {
            "id": f"e-{number}",
            "device_id": "press-1",
            "time": clock(now_ms - 1000 + 100 * number),
            "kind": "core",
            "metrics": dict.fromkeys(METRICS, 0.1),
        }


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with the files of compose/, beside a running `up` that has predicted something.

    Only the address of the workers is another, and it looks more often.
    """
    program = fetched("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    setup = Setup.of_hosts(tmp_path_factory.mktemp("up"))
    health, port = (f"127.0.0.1:{free_port()}" for _ in range(2))
    setup.environ["HEADRACE_HEALTH"] = health
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["scrape_configs"] = [
        {**job, "static_configs": [{"targets": [health]}]}
        for job in config["scrape_configs"]
        if job["job_name"] == "headrace"
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    shutil.copy(FOLDER / "alerts.yml", folder)
    log = (folder / "log").open("w")
    words = [f"--web.listen-address={port}", f"--storage.tsdb.path={folder}/data"]
    with setup.start("up", str(setup.file), "--from", "earliest") as command:
        assert command.process.stdout is not None
        lines = iter(command.process.stdout.readline, "")
        exports = next(line for line in lines if line.startswith("export "))
        setup.environ |= dict(pair.split("=", 1) for pair in exports.split()[1:])
        file = setup.root / "events.ndjson"
        file.write_text("".join(json.dumps(event) + "\n" for event in events()), "utf-8")
        process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            prometheus = Prometheus(int(port.split(":")[1]))
            prometheus.until("headrace_health_ready == 1")
            sent = setup.run("produce", "file", str(file), "--pipeline", str(setup.file))
            assert sent.code == 0, sent.err
            prometheus.until('headrace_stream_events_total{stage="serve",outcome="out"} > 0')
            yield prometheus
        finally:
            process.terminate()
            process.wait(20)
            log.close()
        command.process.send_signal(signal.SIGTERM)
        assert command.end().code == 0
    assert setup.running() == {}


def test_the_configuration_is_valid() -> None:
    """`promtool check config`, and of the rules with every lint."""
    strict = ("--lint=all", "--lint-fatal")
    for words in (("config", "prometheus.yml"), ("rules", *strict, "alerts.yml")):
        done = promtool("check", *words)
        assert done.returncode == 0, done.stderr + done.stdout


def test_every_alert_fires_where_it_should() -> None:
    """`promtool test rules`."""
    done = promtool("test", "rules", "alerts_test.yml")

    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [("headrace_health_ready == 0", "headrace_health_ready == 2"), ("> 0.01", "> 0.001")],
    ids=["never", "too soon"],
)
def test_a_wrong_alert_is_found(tmp_path: Path, old: str, new: str) -> None:
    """One that never fires, and one that fires where all is well."""
    text = (FOLDER / "alerts.yml").read_text("utf-8")
    assert old in text
    (tmp_path / "alerts.yml").write_text(text.replace(old, new), "utf-8")
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)

    assert promtool("test", "rules", "alerts_test.yml", folder=tmp_path).returncode == 1


def test_a_running_up_is_scraped(scraped: Prometheus) -> None:
    """The workers' answer is read without an error, and what it says is there."""
    targets = scraped.ask("targets")["data"]["activeTargets"]

    assert [(t["health"], t["lastError"]) for t in targets] == [("up", "")]
    assert scraped.value("headrace_health_ready") == [1.0]
    scraped.until("sum(headrace_health_dependency) == 2")
    buckets = 'headrace_stream_latency_seconds_bucket{le="+Inf",hop="ingest_to_prediction"}'
    scraped.until(f"sum({buckets}) > 0")


def test_every_alert_is_evaluated(scraped: Prometheus) -> None:
    """No rule has an error, and a pipeline that works sets nothing off."""
    give_up_s = time.monotonic() + WAIT_S
    while True:
        groups = scraped.ask("rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if "unknown" not in {rule["health"] for rule in rules} or time.monotonic() > give_up_s:
            break
        time.sleep(0.1)

    assert [(r["name"], r.get("lastError")) for r in rules if r["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    assert len(rules) == (FOLDER / "alerts.yml").read_text("utf-8").count("- alert: ")


def test_every_panel_is_answered(scraped: Prometheus) -> None:
    """Prometheus answers each query of each dashboard; those of the flow with values."""
    counted = 'headrace_stream_events_total{stage="serve",outcome="out"}'
    scraped.until(f"rate({counted}[1m]) >= 0")  # a rate needs two looks
    found: dict[str, int] = {}
    for board in (COMPOSE / "grafana/dashboards").glob("*.json"):
        for panel in json.loads(board.read_text("utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$__rate_interval", "1m").replace("$pipeline", ".*")
                answer = scraped.ask("query", query=expr)
                assert answer["status"] == "success", (expr, answer)
                found[panel["title"]] = len(answer["data"]["result"])

    for title in ("Ready", "Events read", "Predictions", "stream lag events", "worker cpu seconds"):
        assert found[title], title
    assert scraped.ask("query", query="rate(up)")["status"] == "error"
