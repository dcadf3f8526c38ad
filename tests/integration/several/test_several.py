"""`headrace up A B`: one bus, one store, and what happens to one pipeline stays with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import pytest
from integration.health.probing import Site
from integration.several.conftest import Pair

from headrace.streams.workers import nursery

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="its processes are found in /proc"),
]

NOTICED_S = 20.0


def pipelines(site: Site) -> dict[str, dict]:
    """Facts of each pipeline, by name."""
    return {facts["pipeline"]: facts for facts in json.loads(site.get("/healthz")[1])["pipelines"]}


def restarts(site: Site, name: str) -> dict[str, int]:
    """How often each worker of a pipeline was started again."""
    return {one["worker"]: one["restarts"] for one in pipelines(site)[name]["workers"]}


def test_each_gets_its_own_and_a_crash_stays_where_it_is(pair: Pair) -> None:
    """Every event of both is predicted, by its own pipeline's model and under its own names.

    A killed worker of one is started again; the other's are not touched.
    """
    press, shops = pair.names["press"], pair.names["shops"]
    site = pair.up()
    site.until_ready()
    pair.send("press")
    os.kill(site.worker("enrich", str(pair.file("shops"))), signal.SIGKILL)
    pair.send("shops")

    strokes, checks = pair.predictions("press"), pair.predictions("shops")

    assert {row["device_id"].split("-")[0] for row in strokes} == {"press"}
    assert {row["device_id"].split("-")[0] for row in checks} == {"basket", "card"}
    assert {row["source"].split("[")[0] for row in strokes} == {f"headrace.{press}.telemetry.v1"}
    assert {row["source"].split("[")[0] for row in checks} == {f"headrace.{shops}.telemetry.v1"}
    assert restarts(site, press) == {f"{press}/enrich": 0, f"{press}/serve": 0}
    assert restarts(site, shops) == {f"{shops}/enrich": 1, f"{shops}/serve": 0}
    said = pair.end()
    assert said.code == 0, said


def test_a_poison_deploy_ends_its_own_pipeline_only(pair: Pair) -> None:
    """Nothing but rubbish for one: it stops with a line; the other serves, and `up` ends with 2."""
    press, shops = pair.names["press"], pair.names["shops"]
    pair.edit("shops", "[delivery]", "[delivery]\ndead_letter_min = 50")
    site = pair.up()
    site.until_ready()
    rubbish = pair.setup.folder / "rubbish.ndjson"
    rubbish.write_text('{"id": "1"}\n' * 400)
    file = str(pair.file("shops"))
    assert pair.setup.run("produce", "file", str(rubbish), "--pipeline", file).code == 0

    line = site.until(f"/readyz/{shops}", lambda status, body: "ended" in body, NOTICED_S).strip()
    pair.send("press")
    assert len(pair.predictions("press")) == pair.sizes["press"]

    assert line.startswith(f"pipeline {shops} ended: worker {shops}/enrich: ")
    assert (pair.dead("press"), pair.dead("shops") >= 50) == (0, True)
    assert site.get(f"/readyz/{press}") == (200, "ok\n")
    assert site.get("/livez") == (200, "ok\n")
    assert site.get("/readyz") == (503, f"{line}\n")
    running = pair.setup.running().values()
    assert not [words for words in running if nursery.WORKER in words and file in words]
    said = pair.end()
    assert said.code == 2
    assert said.err.splitlines()[-1] == f"headrace: {line.split('ended: ', 1)[1]}"


def test_a_model_that_is_not_there_keeps_no_other_from_starting(pair: Pair) -> None:
    """The pipeline that cannot start is unready by name; the other one serves."""
    (pair.file("shops").parent / "model.onnx").unlink()
    site = pair.up()
    site.until_ready(pair.names["press"])
    pair.send("press")
    assert len(pair.predictions("press")) == pair.sizes["press"]

    body = site.until(f"/readyz/{pair.names['shops']}", lambda _, body: "ended" in body, NOTICED_S)
    assert "model.onnx" in body
    assert pair.end().code == 2


def test_a_model_that_hangs_holds_up_nobody_else(pair: Pair) -> None:
    """One pipeline's SERVE stands still; the other's events are all served meanwhile.

    When it goes on, nothing of its own is missing either.
    """
    site = pair.up()
    site.until_ready()
    victim = site.worker("serve", str(pair.file("shops")))
    os.kill(victim, signal.SIGSTOP)
    try:
        pair.send("shops")
        pair.send("press")
        assert len(pair.predictions("press")) == pair.sizes["press"]
        name = pair.names["press"]
        assert site.get(f"/livez/{name}") == (200, "ok\n")
    finally:
        os.kill(victim, signal.SIGCONT)
    assert len(pair.predictions("shops")) == pair.sizes["shops"]
    assert pair.end().code == 0


def test_a_name_used_twice_is_refused_before_anything_starts(pair: Pair) -> None:
    """One line that names both files, and nothing runs."""
    twin = pair.setup.folder / "twin"
    shutil.copytree(pair.file("press").parent, twin)

    said = pair.setup.run("up", str(pair.file("press")), str(twin / "pipeline.toml"))

    assert said.code == 2
    assert said.is_one_line()
    assert str(twin / "pipeline.toml") in said.err
    assert said.out == ""
