"""The console in Chromium beside a thousand devices: how soon, how smooth, whether it grows.

``python benchmarks/console --minutes 60`` looks on for an hour; ``--images docs/images`` takes the
pictures of the documents anew instead. It runs `press` on services of its own, and needs Chromium
and what ``.ci/requirements-browser.txt`` names. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pictures import take
from playwright.sync_api import Browser, CDPSession, Page, ViewportSize, sync_playwright
from press_site import site

DEVICE = "#devices button"
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
SETTLE_S = 45.0
"""Until presses have a past to differ from, and latencies a line."""

OPENINGS = 5
PREDICTED = 200
"""Events predicted before the first visit: there is something to show."""

LATER_S = 8.0
"""Until what a start leaves for later is done, too."""

PARTS = """() => {
  const ends = (names) => Math.max(...performance.getEntriesByType("resource")
    .filter((one) => names.some((name) => one.name.endsWith(name)))
    .map((one) => one.responseEnd));
  const page = performance.getEntriesByType("navigation")[0];
  return { page_ms: page.responseEnd, scripts_ms: ends([".js"]), names_ms: ends(["/pipelines"]) };
}"""
"""When the page, its scripts and the pipelines' names were there."""

SMOOTH_S = 20.0
OBSERVED = """
  window.longTasks = [];
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longTasks.push(task.duration);
  }).observe({ type: "longtask", buffered: true });
  new MutationObserver((_, observer) => {
    if (!document.querySelector("#devices button")) return;
    window.usableMs = performance.now();
    observer.disconnect();
  }).observe(document, { childList: true, subtree: true });
"""


def main() -> None:
    """Print one JSON object, or take pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="how long to look on; 0: not at all"
    )
    parser.add_argument("--first-visits", type=int, default=3, help="each of a pipeline of its own")
    parser.add_argument("--devices", type=int, default=1000, help="in the fleet")
    parser.add_argument("--rate", type=float, default=200.0, help="events per second")
    parser.add_argument("--images", type=Path, help="only take pictures, into this folder")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("looking for chromium found none; install the system's package chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if asked.images is not None:
            take(browser, asked.images)
            return
        seconds = asked.minutes * 60 + 2 * SETTLE_S + SMOOTH_S + 60
        sizes = ["--devices", str(asked.devices), "--rate", str(asked.rate)]
        fleet = ["produce", "fleet", *sizes, "--seconds", str(seconds)]
        report: dict[str, Any] = {
            f"first_visits_{when}": [
                first_visit(browser, fleet, wait_s) for _ in range(asked.first_visits)
            ]
            for when, wait_s in (("as_it_starts", 0.0), ("later", LATER_S))
        }
        if asked.minutes:
            with site() as found, found.fed(*fleet):
                report |= judged(browser, found.url, asked)
        print(json.dumps(report))


def first_visit(browser: Browser, fleet: Sequence[str], wait_s: float) -> dict[str, float]:
    """Of a pipeline just started, whose console nobody has asked for yet: milliseconds.

    The browser is open, and the pipeline predicts, for so many seconds already; counted from the
    navigation, by the browser.
    """
    page = browser.new_page(viewport=DESKTOP)
    page.add_init_script(OBSERVED)
    with site() as found, found.fed(*fleet):
        found.await_predictions(PREDICTED)
        time.sleep(wait_s)
        usable = usable_ms(page, found.url)
        parts: dict[str, float] = page.evaluate(PARTS)
    page.close()
    return {"usable_ms": usable, **{name: round(ms) for name, ms in parts.items()}}


def judged(browser: Browser, url: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured."""
    found: dict[str, Any] = {"devices": asked.devices, "rate_per_s": asked.rate}
    page = browser.new_page(viewport=DESKTOP)
    page.add_init_script(OBSERVED)
    time.sleep(SETTLE_S)
    again = [usable_ms(page, url) for _ in range(OPENINGS)]
    found["usable_ms"] = {"median": statistics.median(again), "most": max(again)}
    found["clicks_to_why"], found["why"] = explained(page)
    found["smooth"] = smooth(page)
    found["known"] = page.locator("#known").inner_text()
    found["minutes"] = list(growth(page, asked.minutes))
    return found


def usable_ms(page: Page, url: str) -> float:
    """Milliseconds from the navigation until a device can be clicked, by the browser's clock."""
    page.goto(url)
    page.wait_for_selector(DEVICE)
    return round(float(page.evaluate("window.usableMs")))


def explained(page: Page) -> tuple[int, str]:
    """How many clicks it took to the device on top and why it is there; and what was said."""
    page.locator(DEVICE).first.click()
    page.wait_for_selector("#device .why")
    why = page.locator("#device .why").inner_text()
    page.keyboard.press("Escape")
    return 1, why


def smooth(page: Page) -> dict[str, float]:
    """Tasks of the page over 50 ms while somebody types, scrolls and looks."""
    page.evaluate("window.longTasks = []")
    until = time.monotonic() + SMOOTH_S
    while time.monotonic() < until:
        page.get_by_role("searchbox").press_sequentially("press", delay=80)
        page.get_by_role("searchbox").fill("")
        page.mouse.wheel(0, 400)
        page.mouse.wheel(0, -400)
        time.sleep(0.5)
    tasks = page.evaluate("window.longTasks")
    return {"seconds": SMOOTH_S, "long_tasks": len(tasks), "longest_ms": max(tasks, default=0)}


def growth(page: Page, minutes: float) -> Iterator[dict[str, float]]:
    """What the page holds after a collection, now and once a minute; long tasks since the start."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.evaluate("window.longTasks = []")
    began = time.monotonic()
    yield held(page, session, 0.0)
    while (left := minutes * 60 - (time.monotonic() - began)) > 0:
        time.sleep(min(60.0, left))
        yield held(page, session, (time.monotonic() - began) / 60)


def held(page: Page, session: CDPSession, minute: float) -> dict[str, float]:
    """Memory of the page's scripts, its nodes and its listeners, after a collection."""
    session.send("HeapProfiler.collectGarbage")
    told = session.send("Performance.getMetrics")["metrics"]
    metrics = {metric["name"]: metric["value"] for metric in told}
    return {
        "minute": round(minute, 1),
        "heap_mb": round(metrics["JSHeapUsedSize"] / 1e6, 2),
        "nodes": metrics["Nodes"],
        "listeners": metrics["JSEventListeners"],
        "long_tasks": page.evaluate("window.longTasks.length"),
    }


if __name__ == "__main__":
    main()
