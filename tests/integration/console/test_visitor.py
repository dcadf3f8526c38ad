"""The console in a real browser: a cold visitor, the keyboard, a phone, the dark."""

from __future__ import annotations

from typing import Any

import pytest
from integration.console.conftest import DEAD, KINDS, ODD

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
    assert page.locator("svg:not([aria-label], [aria-hidden])").count() == 0
    assert page.locator("input:not(label input), select:not(label select)").count() == 0


def test_numbers_are_those_of_the_pipeline(page: Any) -> None:
    """Eight devices; the newest events are predicted, and the dead are counted."""
    assert page.locator("#known").inner_text() == "8 devices"
    assert "hosts-change v1" in page.locator("#model").inner_text()
    by_code = page.get_by_role("table", name="Dead letters by code")
    by_code.wait_for()
    # What was put back may have died again.
    assert int(by_code.locator("tbody td.number").inner_text()) >= DEAD


CHOSEN = """async ([first, second]) => {
  const { latency } = await import("/latency.js");
  const choice = document.getElementById("latency-class");
  latency({ all: [[10, 7, 9], [0, 3, 4]], [first]: [[10, 7, 9], [0, 1, 2]],
            [second]: [[10, null, null]] }, [], 1.8e12);
  return ["all", first, second].map((name) => {
    choice.value = name;
    choice.dispatchEvent(new Event("change"));
    const rows = [...document.querySelectorAll("#latency-rows tr")];
    return [document.getElementById("latency-chart").getAttribute("aria-label"),
            rows.map((row) => [...row.cells].slice(1).map((cell) => cell.textContent))];
  });
}"""


def test_latency_of_one_class(page: Any) -> None:
    """Each can be chosen, and is told in words and as a table; one without events has gaps."""
    choice = page.get_by_role("combobox", name="Device class")
    choice.wait_for()
    first, *others = choice.locator("option").all_inner_texts()
    assert (first, sorted(others)) == ("all", sorted(KINDS))
    told = page.evaluate(CHOSEN, list(KINDS))
    assert [label.partition("newest ")[2] for label, _ in told] == [
        "p50 3.0 ms, p99 4.0 ms", "p50 1.0 ms, p99 2.0 ms", "",
    ]  # fmt: skip
    assert told[2][0] == "No latency yet"
    assert [rows for _, rows in told] == [
        [["3.0", "4.0"], ["7.0", "9.0"]], [["1.0", "2.0"], ["7.0", "9.0"]], [["–", "–"]],
    ]  # fmt: skip


@pytest.mark.parametrize("drawn_by", ["the library", "nobody else"])
def test_latency_is_drawn(page: Any, console: str, drawn_by: str) -> None:
    """By the library of the package, whose makers are named then; without it by the page itself."""
    if drawn_by == "nobody else":
        page.route("**/chart-library.js", lambda route: route.fulfill(
            body="// none", content_type="text/javascript"))  # fmt: skip
        page.goto(console)
    with_library = drawn_by == "the library"
    page.get_by_role("img", name="Latency of the last").wait_for()
    page.locator(f"#latency-chart {'canvas' if with_library else 'svg'}").first.wait_for()
    assert page.locator("#latency-chart svg").count() == (not with_library)
    assert page.get_by_role("link", name="TradingView Lightweight Charts™").count() == with_library


def test_dead_letters_are_put_back(page: Any) -> None:
    """Told before it is done, done once, shown as done; another order is asked about anew."""
    page.get_by_role("button", name="Put back…").click()
    dialog = page.get_by_role("dialog", name="Put dead letters back")
    do, said = dialog.locator("#redrive-do"), dialog.get_by_role("status")
    assert do.is_disabled()
    dialog.get_by_label("At most").fill("2")
    dialog.get_by_role("button", name="What would happen?").click()
    said.get_by_text("2 dead letters would be redriven").wait_for()
    assert do.inner_text() == "Put back 2"

    dialog.get_by_label("At most").fill("1")
    assert do.is_disabled()
    assert said.inner_text() == ""
    dialog.get_by_role("button", name="What would happen?").click()
    said.get_by_text("1 dead letters would be redriven").wait_for()
    do.click()
    said.get_by_text("1 dead letters redriven to").wait_for()
    assert do.is_disabled()
    dialog.get_by_role("button", name="Close").click()
    newest = page.get_by_role("table", name="Newest dead letters")
    newest.get_by_role("cell", name="yes", exact=True).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(page: Any, scheme: str, width: int) -> None:
    """The rules of WCAG 2 A and AA that a program can judge, on the page and in both dialogs."""
    first_device(page)
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Put back…").wait_for()
    for unfold in page.locator("summary").all():
        unfold.click()
    assert violations(page) == []
    page.locator("#devices button").first.click()
    page.locator("#device .why").wait_for()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Put back…").click()
    page.get_by_role("button", name="What would happen?").click()
    page.get_by_text("would be redriven").wait_for()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong: the rule, and where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no browser extra")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


def test_axe_can_find_something(page: Any) -> None:
    """A field without a name is found."""
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert [line.partition(":")[0] for line in violations(page)] == ["label"]


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
