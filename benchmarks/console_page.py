"""The console in Chromium beside a thousand devices: how soon, how smooth, whether it grows.

``python benchmarks/console_page.py --minutes 60`` looks on for an hour; ``--images docs/images``
takes the pictures of the documents anew. It runs `press` with a fleet of its own, and needs
Chromium and what ``.ci/requirements-browser.txt`` names. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
PRESS = Path(__file__).parents[1] / "examples" / "press"
WATCHED = """
[observe]
class_by = "line"
[slo.site.decision]
kind = "latency"
target = 0.99
within_ms = 250.0
[slo.site.answered]
kind = "success"
target = 0.99
"""
"""Added to the example's file: without them two parts of the page have nothing to show."""

DEVICE = "#devices button"
DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 375, "height": 800}
SETTLE_S = 45.0
"""Until presses have a past to differ from, and latencies a line."""

OPENINGS = 5
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
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to look on")
    parser.add_argument("--devices", type=int, default=1000, help="in the fleet")
    parser.add_argument("--rate", type=float, default=200.0, help="events per second")
    parser.add_argument("--images", type=Path, help="folder to put the pictures in")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("looking for chromium found none; install the system's package chromium")
    seconds = asked.minutes * 60 + 2 * SETTLE_S + SMOOTH_S + 60
    with fed(asked.devices, asked.rate, seconds) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print(json.dumps(judged(browser, url, asked)))
        browser.close()


def judged(browser: Browser, url: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured, and the pictures where they are asked for."""
    found: dict[str, Any] = {"devices": asked.devices, "rate_per_s": asked.rate}
    page = browser.new_page(viewport=DESKTOP)
    page.add_init_script(OBSERVED)
    found["first_visit_ms"] = usable_ms(page, url)
    time.sleep(SETTLE_S)
    again = [usable_ms(page, url) for _ in range(OPENINGS)]
    found["usable_ms"] = {"median": statistics.median(again), "most": max(again)}
    found["clicks_to_why"], found["why"] = explained(page)
    found["smooth"] = smooth(page)
    found["known"] = page.locator("#known").inner_text()
    if asked.images is not None:
        take(browser, url, asked.images)
    found["minutes"] = list(growth(page, asked.minutes))
    return found


@contextmanager
def fed(devices: int, rate: float, seconds: float) -> Iterator[str]:
    """`up`, and a fleet that feeds it; the URL of its console."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "press"
        shutil.copytree(PRESS, folder)
        file = folder / "pipeline.toml"
        file.write_text(file.read_text("utf-8") + WATCHED, "utf-8")
        environ = {**os.environ, "HEADRACE_WORKER_DATA_DIR": str(Path(name) / "data")}
        with running(environ, "up", str(file)) as up:
            said = lines(up, "export ", "console: ", "ready")
            exports = dict(pair.split("=", 1) for pair in said["export "].split()[1:])
            fleet = ["produce", "fleet", "--pipeline", str(file), "--devices", str(devices)]
            sizes = ["--rate", str(rate), "--seconds", str(seconds), "--future", "0.0005"]
            with running(environ | exports, *fleet, *sizes):
                yield said["console: "].split()[1]


@contextmanager
def running(environ: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of `headrace`, ended with the block."""
    with subprocess.Popen(
        [*HEADRACE, *words], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def lines(process: subprocess.Popen[str], *begins: str) -> dict[str, str]:
    """The first line that begins with each of these."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        found |= {begin: line for begin in begins if line.startswith(begin)}
        if len(found) == len(begins):
            return found
    sys.exit(f"starting the pipeline ended before it said {set(begins) - found.keys()}")


def usable_ms(page: Page, url: str) -> float:
    """Milliseconds from the navigation until a device can be clicked, by the browser's clock."""
    page.goto(url)
    page.wait_for_selector(DEVICE)
    return round(page.evaluate("window.usableMs"))


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


def take(browser: Browser, url: str, folder: Path) -> None:
    """The page in the light and in the dark, a device, dead letters put back, and a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        with shown(browser, url, DESKTOP, scheme) as page:
            page.screenshot(path=folder / f"console-{scheme}.png", full_page=True)
            if scheme == "dark":
                continue
            page.locator(DEVICE).first.click()
            page.wait_for_selector("#device .why")
            page.screenshot(path=folder / "console-device.png")
            page.keyboard.press("Escape")
            page.get_by_role("button", name="Put back…").click()
            page.get_by_role("button", name="What would happen?").click()
            page.get_by_text("would be redriven").wait_for()
            page.screenshot(path=folder / "console-redrive.png")
    with shown(browser, url, PHONE, "dark") as page:
        page.screenshot(path=folder / "console-phone.png")


@contextmanager
def shown(browser: Browser, url: str, size: Any, scheme: Any) -> Iterator[Page]:
    """The page with its devices, in a context of its own."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(DEVICE)
    page.get_by_role("button", name="Put back…").wait_for(timeout=60_000)
    time.sleep(2.0)
    yield page
    context.close()


if __name__ == "__main__":
    main()
