"""The console in a real browser: a cold visitor, the keyboard, a phone, the dark."""

from __future__ import annotations

from typing import Any

import pytest
from integration.console.conftest import ODD

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def first_device(page: Any) -> str:
    """The device on top, once the upset one has come up."""
    page.wait_for_function(
        "name => document.querySelector('#devices button')?.textContent === name", arg=ODD
    )
    return str(page.locator("#devices button").first.inner_text())


def test_a_cold_visitor_finds_the_odd_device_and_why(page: Any) -> None:
    """One click on the name on top: its score, and load among the reasons; names are text."""
    assert first_device(page) == ODD
    page.locator("#devices button").first.click()
    dialog = page.get_by_role("dialog", name=ODD)
    dialog.locator(".why").wait_for()

    assert "load" in dialog.locator(".why").inner_text()
    table = dialog.get_by_role("table", name="Features, those that stand out first")
    rows = table.get_by_role("row").all()
    apart = [abs(float(row.get_by_role("cell").nth(4).inner_text().replace("–", "0")))
             for row in rows[1:]]  # fmt: skip
    assert apart[0] > 3
    assert apart == sorted(apart, reverse=True)
    assert dialog.get_by_role("table", name="Last predictions, newest first").is_visible()
    assert page.locator("b").count() == 0


def test_by_keyboard_alone(page: Any) -> None:
    """Tab to the first device, Enter opens, Escape closes, and the focus is where it was."""
    first_device(page)
    page.get_by_role("searchbox", name="Find").focus()
    page.keyboard.press("Tab")  # the list, which scrolls
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name=ODD).locator(".why").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.textContent") == ODD


def test_what_a_screen_reader_finds(page: Any) -> None:
    """Landmarks, headings, a live state, a name for every chart; the flow in words."""
    for role in ("main", "banner"):
        assert page.get_by_role(role).count() == 1
    assert page.get_by_role("status").inner_text() == "ready"
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert headings == [
        "Flow", "Devices by anomaly", "Latency, device to prediction", "Model", "Objectives",
        "Drift", "Dead letters", "Sites and egress",
    ]  # fmt: skip
    assert page.locator("svg:not([aria-label])").count() == 0
    assert page.locator("input:not(label input), select:not(label select)").count() == 0


def test_numbers_are_those_of_the_pipeline(page: Any) -> None:
    """Eight devices; the newest events are predicted, none died."""
    assert page.locator("#known").inner_text() == "8 devices"
    assert "hosts-change v1" in page.locator("#model").inner_text()
    assert page.locator("#letters").inner_text() == "None seen."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(page: Any, scheme: str) -> None:
    """Nothing is wider than the screen; text stands out from its ground (WCAG AA)."""
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground, *inks = page.evaluate(
        """() => {
          const of = (name) => {
            const probe = document.createElement("p");
            probe.style.color = `var(${name})`;
            document.body.append(probe);
            const found = getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number);
            probe.remove();
            return found;
          };
          return ["--card", "--ink", "--soft", "--accent", "--alarm", "--good"].map(of);
        }"""
    )
    for ink in inks:
        assert contrast(ink, ground) >= 4.5


def contrast(one: list[float], two: list[float]) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2)."""
    bright, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: list[float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    parts = [c / 255 for c in colour[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
