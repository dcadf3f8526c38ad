"""What the demo shows in a terminal: every number of the ledger, from before the first event on."""

from __future__ import annotations

import io

from rich.console import Console

from headrace.streams.cli.ledger import DeviceView, Ledger
from headrace.streams.cli.view import TOP, LiveView
from headrace.streams.workers.jobs import Status


def drawn(ledger: Ledger, *, sent: tuple[int, int] = (0, 0), note: str = "") -> str:
    """The view as text, 160 columns wide."""
    view = LiveView(ledger, "hosts on the embedded bus", lambda: sent, lambda: 10.0)
    view.note = note
    out = io.StringIO()
    Console(file=out, width=160, color_system=None).print(view.draw())
    return out.getvalue()


def test_everything_a_watcher_needs_is_shown() -> None:
    """Rates, percentiles, devices by anomaly, model, cache, and upstream bytes beside raw ones."""
    ledger = Ledger("anomaly", predictions=100, flagged=10, model="m v1")
    ledger.latencies_ms.extend(range(100))
    for number in range(TOP + 2):
        score = 0.9 if number == 3 else 0.1
        ledger.devices[f"core-{number}"] = DeviceView(score=score, highest=score)
    ledger.statuses["enrich"] = Status(stage="enrich", ready=True, events={"dead": 2, "late": 1})
    ledger.statuses["serve"] = Status(
        stage="serve", ready=True, cache=0.25, upstream_bytes=5_000, rss_mb=90.0
    )

    text = drawn(ledger, sent=(103, 1_000_000), note="burning CPU")

    for shown in (
        "hosts on the embedded bus", "events in 103 (10/s)", "predictions 100", "flagged 10",
        "dead 2  late 1", "p50 49.5", "p99 98", "p99.9 98.9", "model m v1", "cache 25% hits",
        "raw 1.0 MB stay here", "upstream 5.0 kB (0.50%)", "workers 90 MB", "burning CPU",
    ):  # fmt: skip
        assert shown in text, shown
    rows = [line.split() for line in text.splitlines() if "core-" in line]
    assert len(rows) == TOP
    assert rows[0][1:3] == ["core-3", "0.900"]


def test_nothing_is_known_before_the_first_event() -> None:
    """No number is made up: dots where there is none yet, and no share of no bytes."""
    text = drawn(Ledger("anomaly"))

    assert "events in 0 (0/s)" in text
    assert "p50 …" in text
    assert "model …" in text
    assert "cache off" in text
    assert "upstream 0 B (…)" in text
