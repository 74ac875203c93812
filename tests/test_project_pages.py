"""What the pages for contributors say can be checked, and is."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from fluxburst.ledger.entries import TRANSITIONS
from fluxburst.model.burst import BurstState

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "fluxburst"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
RECORDS = ROOT / "docs" / "decisions"

FILES = dict(re.findall(r"^\[(\w+)\]: (\S+)$", ARCHITECTURE, re.MULTILINE))
"""The files that ARCHITECTURE.md links to, by the name of the link."""


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a text's tables, without their heads."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    heads = {i - 1 for i, row in enumerate(cells) if set(row[0]) == {"-"}}
    return [row for i, row in enumerate(cells) if i not in heads and i - 1 not in heads]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# --- ARCHITECTURE.md -----------------------------------------------------------------------


def test_each_file_that_the_architecture_links_to_is_there_and_each_link_has_a_file() -> None:
    used = set(re.findall(r"\]\[(\w+)\]", ARCHITECTURE))
    assert used == FILES.keys()
    for name, path in FILES.items():
        assert (ROOT / path).is_file(), name


@pytest.mark.parametrize(
    ("name", "file"), sorted(set(re.findall(r"\[`([\w.]+)`\]\[(\w+)\]", ARCHITECTURE)))
)
def test_what_the_architecture_names_is_defined_in_the_file_that_it_links_to(
    name: str, file: str
) -> None:
    source = (ROOT / FILES[file]).read_text()
    for part in name.split("."):
        defined = rf"^ *(async )?(def|class) {part}\b|^{part}\b.*="
        assert re.search(defined, source, re.MULTILINE), f"{name} in {FILES[file]}"


def test_transitions_of_the_architecture_are_allowed_and_reach_every_state() -> None:
    reached = set()
    for before, after, *_ in rows(section(ARCHITECTURE, "The states of a burst")):
        for state in map(BurstState, code(after)):
            reached.add(state)
            for previous in map(BurstState, code(before)):
                assert state in TRANSITIONS[previous], f"{previous.value} to {state.value}"
    assert reached == set(BurstState)


def test_the_picture_shows_each_state_once_and_in_order() -> None:
    picture = section(ARCHITECTURE, "The states of a burst").split("```")[1]
    shown = re.findall(r"│ +(\w+) +│", picture)
    assert [*shown, "failed"] == [state.value for state in BurstState]


def test_the_map_of_rooms_has_the_order_that_import_linter_holds() -> None:
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    layers = [layer.removeprefix("fluxburst.") for layer in reversed(contract["layers"])]
    rooms = [code(row[0])[0] for row in rows(section(ARCHITECTURE, "The map of rooms"))]
    named = [room.removesuffix(".py") for room in rooms]
    assert [room for room in named if room != "testing"] == [
        layer for layer in layers if layer != "hookspecs"
    ]


def test_the_map_of_rooms_has_each_package_of_the_core_and_no_other() -> None:
    rooms = [code(row[0])[0] for row in rows(section(ARCHITECTURE, "The map of rooms"))]
    there = [path.parent.name for path in SOURCES.glob("*/__init__.py")]
    assert sorted(room for room in rooms if not room.endswith(".py")) == sorted(there)
    assert all((SOURCES / room).is_file() for room in rooms if room.endswith(".py"))


# --- CONTRIBUTING.md -----------------------------------------------------------------------


def test_sessions_that_are_named_are_those_of_nox() -> None:
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^@nox\.session.*\n(?:@.*\n)*def (\w+)", noxfile, re.MULTILINE))
    table = " ".join(row[0] for row in rows(section(CONTRIBUTING, "How a change is checked")))
    named = {word for words in re.findall(r"nox -s ([\w ]+)", table) for word in words.split()}
    assert named == sessions - {"build", "summary"}
    pages = (ROOT / "README.md").read_text() + CONTRIBUTING
    for words in re.findall(r"nox -s ([\w ]+)", pages):
        assert sessions.issuperset(words.split()), words


def test_what_decides_runs_the_sessions_that_are_said_to_decide() -> None:
    (decides,) = [row[1] for row in rows(CONTRIBUTING) if row[0] == "`.ci/run`"]
    script = (ROOT / ".ci" / "run").read_text()
    assert "`nox -s tests lint typing`" in decides
    assert "nox -s lint typing" in script
    assert "README.md" in script


def test_marks_of_the_page_are_those_of_the_tests() -> None:
    named = [
        mark for row in rows(section(CONTRIBUTING, "Live parts and marks")) for mark in code(row[0])
    ]
    markers = [
        text.partition(":")[0] for text in PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    ]
    assert sorted(named) == sorted(markers)


def test_files_that_commands_name_are_there() -> None:
    paths = re.findall(r"\b(?:tests|plugins)/[\w/.-]+", CONTRIBUTING + CHANGELOG)
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path


# --- the others ----------------------------------------------------------------------------


def test_the_changelog_has_this_version_below_what_is_not_released() -> None:
    versions = re.findall(r"^## \[([^]]+)\]", CHANGELOG, re.MULTILINE)
    assert versions[:2] == ["Unreleased", PROJECT["project"]["version"]]


def test_decision_records_are_numbered_and_listed_and_have_the_same_parts() -> None:
    files = sorted(RECORDS.glob("0*.md"))
    titles = [file.read_text().splitlines()[0].removeprefix("# ") for file in files]
    listed = re.findall(r"\[(\d+\. [^]]+)\]\(([^)]+)\)", (RECORDS / "README.md").read_text())
    assert listed == [(title, file.name) for title, file in zip(titles, files, strict=True)]
    for number, file in enumerate(files, start=1):
        text = file.read_text()
        assert file.name.startswith(f"{number:04}-"), file.name
        assert text.startswith(f"# {number}. "), file.name
        assert re.findall("^## (.*)$", text, re.MULTILINE) == [
            "Problem",
            "Decision",
            "Consequences",
        ]


def test_words_of_the_glossary_are_in_order() -> None:
    words = [row[0].casefold() for row in rows(GLOSSARY)]
    assert words == sorted(words)


def test_modules_of_the_reference_can_be_imported() -> None:
    for module in re.findall(r"^   (fluxburst[\w.]*)$", REFERENCE, re.MULTILINE):
        assert importlib.import_module(module).__doc__, module


def test_modules_that_examples_import_are_in_the_reference() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("plugins/*/README.md")]
    imported: set[str] = set()
    for page in pages:
        blocks = "".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S))
        imported |= set(re.findall(r"^(?:from|import) (fluxburst(?:\.\w+)*)", blocks, re.MULTILINE))
    assert {"fluxburst", "fluxburst.client"} <= imported
    assert imported <= set(re.findall(r"^   (fluxburst[\w.]*)$", REFERENCE, re.MULTILINE))
