"""What the documents say about files, fields and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import headrace.streams
from headrace.enrichers.verdicts import CODES
from headrace.schemas.metrics import CATALOGUE
from headrace.schemas.metrics_page import page as metrics_page
from headrace.schemas.reference import page
from headrace.streams.agents.isolate import FAILED
from headrace.streams.cli.main import COMMANDS, main

ROOT = Path(headrace.streams.__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])

if not (ROOT / "docs").exists():
    pytest.skip("documents are not part of the wheel", allow_module_level=True)


def test_the_pipeline_page_is_the_structs() -> None:
    """`python -m headrace.schemas.reference > docs/pipeline-file.md` would change nothing."""
    assert (ROOT / "docs/pipeline-file.md").read_text("utf-8") == page()


def test_a_decision_s_number_is_its_own() -> None:
    """No two decisions share one, and each is headed by the number in its name."""
    files = sorted((ROOT / "docs/adr").glob("*-*.md"))[1:]  # the first is the form of one
    numbers = [file.name[:4] for file in files]

    assert len(set(numbers)) == len(numbers) > 0
    heads = [file.read_text("utf-8")[:8] for file in files]
    assert heads == [f"# {number}: " for number in numbers]


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


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_options_exist(file: Path) -> None:
    """Every option that a document gives to a `headrace x` is one of that command."""
    text = file.read_text("utf-8").replace("\\\n", " ")
    said = re.findall(r"(?:^|`)headrace ([a-z]+[^`\n|#]*)", text, re.MULTILINE)
    unknown = []
    for words in map(str.split, said):
        given = {re.split(r"[=,.;:)]", word)[0] for word in words if re.match(r"--?[a-z]", word)}
        unknown += [(words[0], option) for option in given - _options(words)]

    assert unknown == []


def _options(words: list[str]) -> set[str]:
    """Options of the command that `words` begin with, and of the groups it is in."""
    command, options = main, {"-h", "--help"}
    while isinstance(command, click.Group) and words:
        # As the command line does it: `replay` takes a topic where others take a command.
        _, command, words = command.resolve_command(click.Context(command), words)
        options |= {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    return options


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_sections_and_places_exist(file: Path) -> None:
    """Every link into a page names a heading of it; `make x` is a target; a path is there."""
    text = file.read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text)
    places = re.findall(r"`((?:tests|benchmarks|streams|examples|serving)/[\w/.-]+)`", text)

    gone = [to for page, to in links if to not in _headings(file.parent / page if page else file)]
    assert gone == []
    assert set(re.findall(r"`make ([a-z-]+)", text)) - set(targets) == set()
    assert [place for place in places if not (ROOT / place).exists()] == []


def _headings(page: Path) -> set[str]:
    """As they are written in links."""
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_the_metrics_page_is_the_catalogue() -> None:
    """`python -m headrace.schemas.metrics_page > docs/metrics.md` would change nothing."""
    text = (ROOT / "docs/metrics.md").read_text("utf-8")

    assert text == metrics_page()
    assert [name for name in CATALOGUE if f"`{name}`" not in text] == []


def test_the_checks_can_fail(tmp_path: Path) -> None:
    """A dead link, an unknown command, option, section, target and place are found."""
    file, checks = tmp_path / "x.md", {
        "[a](nowhere.md)": test_links_lead_somewhere,
        "`headrace fly`": test_commands_exist,
        "`headrace topics plan --fly`": test_options_exist,
        "[a](#nowhere)": test_sections_and_places_exist,
        "`make fly`": test_sections_and_places_exist,
        "`tests/fly`": test_sections_and_places_exist,
    }  # fmt: skip
    for text, check in checks.items():
        file.write_text(text, "utf-8")
        with pytest.raises(AssertionError):
            check(file)


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
