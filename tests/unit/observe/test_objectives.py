"""Objectives: budgets are what a plain count says, alerts come and go, incidents are recorded."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import PipelineFileError, SettingsError
from headrace.schemas.objectives import Objective, Objectives
from headrace.schemas.observed import Incident, Percentiles
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import load_settings
from headrace.streams.client.latency import BINS, bins_of
from headrace.streams.observe.causes import cause_of
from headrace.streams.observe.error_budget import SLOTS, ErrorBudget
from headrace.streams.observe.objectives import ObjectiveBook
from headrace.streams.observe.samples import Samples
from headrace.streams.observe.webhook import TRIES, Webhook

SLOT_S = 10.0
DAY = Objective(kind="success", target=0.99, window_h=24.0)


def budget(objective: Objective = DAY) -> ErrorBudget:
    return ErrorBudget("site", "answers", objective)


looks = st.lists(
    st.tuples(st.integers(0, 3 * SLOTS), st.integers(0, 50), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(looks)
def test_a_budget_is_what_a_plain_count_of_the_window_says(
    looked: list[tuple[int, int, int]],
) -> None:
    """Whatever the pauses between looks, also of longer than the window."""
    found, slots = budget(), deque[tuple[int, int, int]]()
    slot = good = bad = 0
    for step, more_good, more_bad in looked:
        slot, good, bad = slot + step, good + more_good, bad + more_bad
        found.observe(slot * SLOT_S, good=good, bad=bad)
        slots.append((slot, more_good, more_bad))
    kept = [(g, b) for at, g, b in slots if at > slot - SLOTS]

    state = found.state()
    assert (state.good, state.bad) == (sum(g for g, _ in kept), sum(b for _, b in kept))
    if state.good + state.bad:
        allowed = 0.01 * (state.good + state.bad)
        assert state.left == pytest.approx(1 - state.bad / allowed)
        assert state.spent == (state.left <= 0)


def run(found: ErrorBudget, start: int, slots: int, *, bad_share: float, good: int, bad: int):
    """So many slots with 100 events each; totals after them."""
    for slot in range(start, start + slots):
        bad += round(100 * bad_share)
        good += 100 - round(100 * bad_share)
        found.observe(slot * SLOT_S, good=good, bad=bad)
    return good, bad


def test_a_page_comes_soon_and_goes_soon() -> None:
    """All bad: paged within two minutes of a day's window; good again: over within one."""
    found = budget()
    good, bad = run(found, 0, SLOTS // 2, bad_share=0.0, good=0, bad=0)
    assert found.state().alert is None
    good, bad = run(found, SLOTS // 2, 12, bad_share=1.0, good=good, bad=bad)
    assert found.state().alert == "page"
    assert found.state().burn == pytest.approx(100.0)
    run(found, SLOTS // 2 + 12, 6, bad_share=0.0, good=good, bad=bad)
    assert found.state().alert != "page"


def test_a_slow_burn_is_a_ticket_and_what_the_target_allows_is_none() -> None:
    """Twice what is allowed, for a tenth of the window; just what is allowed never alerts."""
    slow, right = budget(), budget(Objective(kind="success", target=0.9, window_h=24.0))
    run(slow, 0, SLOTS // 5, bad_share=0.02, good=0, bad=0)
    run(right, 0, SLOTS // 5, bad_share=0.09, good=0, bad=0)

    assert slow.state().alert == "ticket"
    assert right.state().alert is None


def test_few_events_alert_nobody() -> None:
    """One bad event of three is no trend."""
    found = budget()
    found.observe(0.0, good=0, bad=0)
    found.observe(SLOT_S, good=2, bad=1)
    assert found.state().alert is None


def samples(out: int, dead: int) -> Samples:
    name = "headrace_stream_events_total"
    return {
        (name, ("press", "serve", "out")): float(out),
        (name, ("press", "serve", "dead")): 0.0,
        (name, ("press", "enrich", "dead")): float(dead),
    }


def test_an_incident_has_start_end_and_cause() -> None:
    """It begins with the alert, grows while it goes on, and is closed when it is over."""
    book = ObjectiveBook("press", Objectives(site={"answers": DAY}), lambda: "store.away")
    now_s, out, dead, changes = 0.0, 0, 0, []
    for slot in range(200):
        now_s, bad = slot * SLOT_S, 50 < slot <= 70
        out, dead = out + (0 if bad else 100), dead + (100 if bad else 0)
        changed = book.observe(now_s, slot * 10_000, samples(out, dead), {})
        changes += [(slot, incident.end_ms) for incident in changed]
    (incident,) = book.incidents

    assert incident.cause == "store.away"
    assert 50 * 10_000 < incident.start_ms < 60 * 10_000
    assert incident.end_ms is not None
    assert incident.end_ms > 70 * 10_000
    assert next(end for _, end in changes) is None
    assert [end for _, end in changes][-1] == incident.end_ms
    assert incident.bad > 1500


def test_two_sets_are_judged_apart() -> None:
    """The site's latency is kept while the core's is not."""
    quick = Objective(kind="latency", within_ms=500, target=0.9, window_h=24, least_events=1)
    strict = Objective(kind="latency", within_ms=10, target=0.9, window_h=24, least_events=1)
    book = ObjectiveBook("p", Objectives(site={"fast": quick}, core={"fast": strict}), str)
    for slot in range(20):
        counts = np.bincount(bins_of(np.full(slot * 100, 100.0)), minlength=BINS)
        book.observe(slot * SLOT_S, 0, {}, {("device_to_prediction", "all"): counts})

    site, core = book.states()
    assert (site.left, site.alert, core.alert) == (1.0, None, "page")
    assert [incident.which for incident in book.incidents] == ["core"]


def test_what_is_not_measured_here_is_not_judged() -> None:
    """Where only ENRICH runs, success is somebody else's to judge."""
    book = ObjectiveBook("press", Objectives(site={"answers": DAY}), str)
    only = {k: v for k, v in samples(0, 1000).items() if k[1][1] == "enrich"}
    book.observe(0.0, 0, only, {})
    assert (book.states()[0].bad, book.states()[0].left) == (0, 1.0)


def test_the_cause_is_the_nearest_trouble() -> None:
    """A dependency before a worker, a worker before a hop."""
    slow = [Percentiles("enrich_to_features", "all", 9, 1.0, 2.0, 900.0, 1000.0)]
    stuck = {"running": True, "verdict": "stuck", "stage": "serve"}
    gone = {**stuck, "running": False}

    assert cause_of({"bus": "is away", "workers": [stuck]}, slow) == "bus.away"
    assert cause_of({"workers": [stuck]}, slow) == "serve.stuck"
    assert cause_of({"workers": [gone]}, slow) == "serve.restarting"
    assert cause_of({"workers": []}, slow) == "hop.enrich_to_features"
    assert cause_of({}, []) == "unknown"


def incident() -> Incident:
    return Incident(
        pipeline="p", which="site", objective="o", severity="page", start_ms=1, cause="x", burn=20.0
    )


async def test_a_webhook_gets_the_incident_and_is_tried_again() -> None:
    """JSON with status and incident; the first refusal is not the last word."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(bodies) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert await Webhook(
            f"http://127.0.0.1:{server.server_address[1]}/hook", pause_s=0.01
        ).send(incident())
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()

    told = json.loads(bodies[-1])
    assert len(bodies) == 2
    assert (told["status"], told["incident"]["cause"]) == ("firing", "x")


@pytest.mark.parametrize("url", ["http://[::1/x", "http://127.0.0.1:9/é", "http://a..b/"])
async def test_an_address_that_is_none_is_not_delivered_to(url: str) -> None:
    """Given up like any other that cannot be reached; it ended every pipeline of `up`."""
    assert not await Webhook(url, pause_s=0.0).send(incident())


async def test_being_sent_on_to_nowhere_is_not_delivered() -> None:
    """An answer may name any address as the next; it is tried again, and given up."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", "http://[")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        assert not await Webhook(url, pause_s=0.0).send(incident())
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
    assert asked == ["/hook"] * TRIES


@pytest.mark.parametrize(
    "url",
    ["http://host/é", "http://[::1/x", "http://", "https:///x", "http://h:99999/", "http://h:x/",
     "http://h/a b", "http://ho\tst/"],
)  # fmt: skip
def test_a_webhook_without_a_host_is_refused_with_the_settings(url: str) -> None:
    """In one line that does not tell the URL, which may hold a secret."""
    with pytest.raises(SettingsError, match=r"alerts\.url") as refused:
        load_settings(None, {"HEADRACE_ALERTS": url})
    assert url not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://[::1]:8080/x", "https://u:p@alerts.example/h?k=%C3%A9"])
def test_a_webhook_with_a_host_is_taken(url: str) -> None:
    """By number or name, with a port or who we are."""
    assert load_settings(None, {"HEADRACE_ALERTS": url}).alerts.url == url


def test_an_objective_that_says_nothing_is_refused(tmp_path: Path) -> None:
    """Latency without a limit, and a webhook that is none, are one line each."""
    example = Path(__file__).parents[3] / "examples" / "press" / "pipeline.toml"
    file = tmp_path / "press.toml"
    file.write_text(example.read_text("utf-8") + '\n[slo.site.fast]\nkind = "latency"\n', "utf-8")

    with pytest.raises(PipelineFileError, match=r"slo\.site\.fast is of kind 'latency'"):
        load_pipeline(file)
    with pytest.raises(SettingsError, match="alerts"):
        load_settings(None, {"HEADRACE_ALERTS": "file:///etc/passwd"})
