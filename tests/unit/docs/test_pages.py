"""What the documents say about files, fields and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import headrace.streams
from headrace.enrichers.verdicts import CODES
from headrace.schemas.metrics import CATALOGUE
from headrace.schemas.metrics_page import page as metrics_page
from headrace.schemas.reference import page
from headrace.streams.agents.isolate import FAILED
from headrace.streams.cli.main import COMMANDS

ROOT = Path(headrace.streams.__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])

if not (ROOT / "docs").exists():
    pytest.skip("documents are not part of the wheel", allow_module_level=True)


def test_the_pipeline_page_is_the_structs() -> None:
    """`python -m headrace.schemas.reference > docs/pipeline-file.md` would change nothing."""
    assert (ROOT / "docs/pipeline-file.md").read_text("utf-8") == page()


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    """Every relative link names a file that is there."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text("utf-8"))

    assert [link for link in links if not (file.parent / link).exists()] == []


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_commands_exist(file: Path) -> None:
    """Every `headrace x` in a document is a command."""
    said = set(re.findall(r"(?:^|`)headrace ([a-z]+)", file.read_text("utf-8"), re.MULTILINE))

    assert said - COMMANDS.keys() == set()


def test_the_metrics_page_is_the_catalogue() -> None:
    """`python -m headrace.schemas.metrics_page > docs/metrics.md` would change nothing."""
    text = (ROOT / "docs/metrics.md").read_text("utf-8")

    assert text == metrics_page()
    assert [name for name in CATALOGUE if f"`{name}`" not in text] == []


def test_the_checks_can_fail(tmp_path: Path) -> None:
    """A dead link and an unknown command are found."""
    file = tmp_path / "x.md"
    file.write_text("[a](nowhere.md) `headrace fly`", "utf-8")

    with pytest.raises(AssertionError):
        test_links_lead_somewhere(file)
    with pytest.raises(AssertionError):
        test_commands_exist(file)


def test_every_dead_letter_code_is_described_for_producers() -> None:
    """The producer's page has every code an event can die of."""
    text = (ROOT / "docs/producer.md").read_text("utf-8")

    assert [code for code in (*CODES, FAILED) if f"`{code}`" not in text] == []


def test_lines_that_operators_look_up_are_printed_so() -> None:
    """Every line of the operator's table of trouble is made of words that the code has."""
    page = (ROOT / "docs/operator.md").read_text("utf-8")
    table = page.partition("## When something is wrong")[2]
    first = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    shown = re.findall(r"`([^`]*…[^`]*)`", first)
    pieces = {piece.strip() for line in shown for piece in line.split("…")} - {""}
    files = [*ROOT.glob("streams/**/*.py"), *ROOT.glob("schemas/*.py")]
    # Texts that go on in the next line of the code, as one.
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(file.read_text("utf-8") for file in files))

    assert len(shown) >= 5
    assert [piece for piece in pieces if len(piece) > 3 and piece not in code] == []
