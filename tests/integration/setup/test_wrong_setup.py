"""A wrong set-up ends `up` and `demo` with one clear line, and nothing is left running."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest
from fakes.onnx_models import model_bytes, tensor
from integration.setup.command import Setup
from onnx import helper

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="what is left running is seen in /proc"),
]

SET_UP, TRY_AGAIN = 2, 75


@pytest.fixture
def setup(tmp_path) -> Setup:
    """A sound set-up on embedded services; each test breaks one thing of it."""
    return Setup.of_hosts(tmp_path)


@pytest.fixture
def unheard() -> Iterator[str]:
    """An address where nobody listens."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def fails(setup) -> Callable[..., None]:
    """Run `up` and `demo`: one line that has these words, this exit code, in time, nothing left."""

    def check(words: str, code: int = SET_UP) -> None:
        for said in setup.run_all([("up", str(setup.file)), ("demo", str(setup.file))]):
            assert said.is_one_line(), said
            assert re.search(words, said.err), said
            assert said.code == code, said
        assert setup.running() == {}

    return check


def test_no_pipeline_file(setup, fails):
    """The file is named."""
    setup.file.unlink()
    fails(r"hosts\.toml.*No such file")


def test_unknown_pipeline_key(setup, fails):
    """The nearest known key is named."""
    setup.edit("[input]", '[input]\nentty = "device"')
    fails(r"entty.*entity")


def test_no_toml(setup, fails):
    """The place is named."""
    setup.file.write_text("name = \n", "utf-8")
    fails(r"hosts\.toml.*line 1")


def test_unknown_metric_in_a_view(setup, fails):
    """The metric and those that exist are named."""
    setup.edit('metrics = ["load"], window_s', 'metrics = ["laod"], window_s')
    fails(r"'laod'.*load, ops_per_s")


def test_exactly_once_on_the_embedded_bus(setup, fails):
    """Setting, reason and remedy are named before anything starts."""
    setup.edit("[views.now]", '[delivery]\nmode = "exactly-once"\n\n[views.now]')
    fails(r"delivery\.mode 'exactly-once'.*no transactions.*kafka --install")


def test_unknown_setting_in_the_environment(setup, fails):
    """The nearest known setting is named."""
    setup.environ["HEADRACE_BUS_USRNAME"] = "press"
    fails(r"HEADRACE_BUS_USRNAME.*username")


def test_unknown_setting_in_the_file(setup, fails):
    """The nearest known setting is named."""
    (setup.folder / "headrace.toml").write_text("[store]\ntimeout = 3\n", "utf-8")
    fails(r"timeout.*timeout_s")


def test_no_model(setup, fails):
    """The file is named."""
    (setup.folder / "model.onnx").unlink()
    fails(r"model\.onnx")


def test_a_model_that_is_none(setup, fails):
    """A file that is no ONNX model: the model and what to export are named."""
    (setup.folder / "model.onnx").write_bytes(b"not a model at all")
    fails(r"loading model 'hosts-change' failed.*one ONNX file")


def test_a_model_of_another_width(setup, fails):
    """Both widths are named."""
    nodes = [helper.make_node("ReduceSum", ["rows", "axes"], ["score"], keepdims=1)]
    model = model_bytes(
        nodes,
        [tensor("rows", ["N", 5])],
        [tensor("score", ["N", 1])],
        [("axes", np.array([1], np.int64))],
    )
    (setup.folder / "model.onnx").write_bytes(model)
    fails(r"\b5\b.*\b16\b|\b16\b.*\b5\b")


def test_golden_pairs_that_fail(setup, fails):
    """A model that does not give its golden scores is not served."""
    path = setup.folder / "golden.json"
    path.write_text(path.read_text("utf-8").replace('"scores": [', '"scores": [0.5, ', 1), "utf-8")
    fails(r"golden")


def test_no_device_registry(setup, fails):
    """The file is named."""
    setup.edit("[views.now]", '[devices]\nfile = "halls.csv"\ncolumns = ["hall"]\n\n[views.now]')
    fails(r"halls\.csv")


def test_nobody_at_the_bus(setup, fails, unheard):
    """The address is named; it may come back, so the exit code says: try again."""
    setup.environ["HEADRACE_BUS"] = f"kafka://{unheard}"
    fails(re.escape(unheard), TRY_AGAIN)


def test_nobody_at_the_store(setup, fails, unheard):
    """The address is named."""
    setup.environ["HEADRACE_STORE"] = f"redis://{unheard}/0"
    fails(re.escape(unheard), TRY_AGAIN)


def test_a_bus_that_refuses_the_password(setup, fails, guarded_kafka_url):
    """The refusal is told from an outage."""
    setup.environ |= {
        "HEADRACE_BUS": guarded_kafka_url,
        "HEADRACE_BUS_USERNAME": "press",
        "HEADRACE_BUS_PASSWORD": "wr0ng-secret",
    }
    fails(r"^(?!.*wr0ng-secret).*(log-in|refus|SASL|password)")


def test_a_store_that_refuses_the_password(setup, fails, guarded_store):
    """The refusal is told from an outage."""
    setup.environ |= {
        "HEADRACE_STORE": guarded_store.url,
        "HEADRACE_STORE_USERNAME": "press",
        "HEADRACE_STORE_PASSWORD": "wr0ng-secret",
    }
    fails(r"^(?!.*wr0ng-secret).*(log-in|refus|password)")


def test_a_store_that_wants_a_password(setup, fails, guarded_store):
    """The setting that is missing is named."""
    setup.environ["HEADRACE_STORE"] = guarded_store.url
    fails(r"username|password")


def test_a_password_file_that_is_not_there(setup, fails, guarded_store):
    """The file is named."""
    setup.environ |= {
        "HEADRACE_STORE": guarded_store.url,
        "HEADRACE_STORE_PASSWORD_FILE": str(setup.folder / "nowhere"),
    }
    fails(r"nowhere")


def test_a_bus_url_that_is_none(setup, fails):
    """The schemes that there are, are named."""
    setup.environ["HEADRACE_BUS"] = "http://127.0.0.1:9092"
    fails(r"kafka://")


def test_a_store_url_that_is_none(setup, fails):
    """The schemes that there are, are named."""
    setup.environ["HEADRACE_STORE"] = "http://127.0.0.1:6379"
    fails(r"redis://")


def test_a_topic_of_another_partition_count(setup, fails, bus_url, unique):
    """Both counts are named: state belongs to partitions."""
    setup.environ["HEADRACE_BUS"] = bus_url
    setup.edit('name = "hosts"', f'name = "{unique("hosts")}"')
    made = setup.run("topics", "apply", str(setup.file))
    assert made.code == 0, made
    setup.edit("partitions = 4", "partitions = 2")
    fails(r"4 partitions.*\b2\b")


def test_a_data_folder_that_cannot_be_made(setup, fails):
    """The folder and its setting are named."""
    setup.environ["HEADRACE_WORKER_DATA_DIR"] = "/proc/headrace"
    fails(r"/proc/headrace.*data_dir")


def test_a_data_folder_on_a_read_only_disk(setup, fails):
    """A disk that is read-only for root too: the folder and its setting are named."""
    disk = setup.folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o ro none \'{disk}\' && exec "$0" "$@"'
    setup.before = ["unshare", "-rm", "sh", "-c", mount]
    if subprocess.run([*setup.before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    setup.environ["HEADRACE_WORKER_DATA_DIR"] = str(disk / "data")
    fails(r"disk.*data_dir")


def test_an_unknown_stage(setup):
    """The stages that there are, are named."""
    said = setup.run("up", str(setup.file), "--stages", "enrich,srve")
    assert (said.is_one_line(), said.code, setup.running()) == (True, SET_UP, {}), said
    assert "enrich, serve" in said.err


def test_a_port_that_is_taken(setup, kafka_url):
    """`headrace kafka --port` on a port in use: the port is named."""
    port = kafka_url.rpartition(":")[2]
    said = setup.run("kafka", "--port", port)
    assert (said.is_one_line(), said.code, setup.running()) == (True, SET_UP, {}), said
    assert port in said.err


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_local_store_that_dies(setup, command):
    """The store ends under the command: it says so and ends, rather than wait for ever."""
    words = [command, str(setup.file), *(["--seconds", "60"] if command == "demo" else [])]
    with setup.start(*words) as running:
        running.await_line("ready: " if command == "up" else "  ")
        os.kill(setup.child("valkey-server"), signal.SIGKILL)
        said = running.end()

    assert "the embedded store ended by signal 9" in said.err.splitlines()[-1], said
    assert (said.code, setup.running()) == (SET_UP, {}), said


def test_a_local_bus_that_dies(setup):
    """The same of the bus, whose records are gone with it."""
    with setup.start("up", str(setup.file)) as running:
        running.await_line("ready: ")
        os.kill(setup.child(" broker "), signal.SIGKILL)
        said = running.end(within_s=60)  # workers wait for the bus to leave their group

    assert re.search("embedded bus ended by signal 9.*records are gone", said.err), said
    assert (said.code, setup.running()) == (SET_UP, {}), said


def test_what_is_left_running_is_seen(setup):
    """The check itself: a process that works in the set-up's folder is found while it runs."""
    with subprocess.Popen(["sleep", "60"], cwd=setup.folder) as left:
        try:
            give_up = time.monotonic() + 10
            while not setup.running().get(left.pid):  # forked, and not yet another program
                assert time.monotonic() < give_up
                time.sleep(0.01)
            assert setup.running() == {left.pid: "sleep 60 "}
        finally:
            left.kill()
    assert setup.running() == {}
