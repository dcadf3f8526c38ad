"""Pictures of the console for the documents: twelve simulated presses, one of which is breaking."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from press_site import EXAMPLES, site

DESKTOP, PHONE = {"width": 1200, "height": 860}, {"width": 375, "height": 800}
DEVICE = "#devices button"
SIMULATED = ["press", "--count", "12", "--minutes", "3", "--seed", "3"]
MOMENT_S = 104.0
"""After the first stroke: with this seed the die of one press cracked, and another has debris."""

HOT = range(480, 484)
"""Events whose thermometer says what no press can be: they die, so that there is a dead letter."""


def take(browser: Browser, folder: Path) -> None:
    """The page in the light, in the dark and on a phone, and a device."""
    folder.mkdir(parents=True, exist_ok=True)
    with site() as found:
        events = found.file.parent / "events.ndjson"
        events.write_text("".join(simulated()), "utf-8")
        with (
            found.fed("produce", "file", str(events), "--speed", "1x", "--shift-to-now"),
            shown(browser, found.url, DESKTOP, "light") as light,
            shown(browser, found.url, DESKTOP, "dark") as dark,
            shown(browser, found.url, PHONE, "dark") as phone,
        ):
            time.sleep(MOMENT_S)
            light.screenshot(path=folder / "console-light.png")
            dark.screenshot(path=folder / "console-dark.png")
            phone.screenshot(path=folder / "console-phone.png")
            light.locator(DEVICE).first.click()
            light.wait_for_selector("#device .why")
            light.locator("#device").screenshot(path=folder / "console-device.png")


def simulated() -> Iterator[str]:
    """Lines of events, some of them too hot to be true."""
    said = subprocess.run(
        [sys.executable, str(EXAMPLES / "training"), "events", *SIMULATED],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    for number, line in enumerate(said.stdout.splitlines()):
        event = json.loads(line)
        if number in HOT:
            event["metrics"]["temperature_c"] = 999.0
        yield json.dumps(event) + "\n"


@contextmanager
def shown(browser: Browser, url: str, size: Any, scheme: Any) -> Iterator[Page]:
    """The page, in a context of its own."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()
