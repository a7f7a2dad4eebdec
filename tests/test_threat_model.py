"""Every row of the threat model and of the hazards names a test that exists, or honestly says that it is open."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from house import REPOSITORY

PAGES = ("docs/threat-model.md", "docs/hazards.md")
ROW = re.compile(r"^\| ([A-Z]\d+b?)\b")
SHOWN = r"`tests/|\]\(results\.md\)|\bopen\b|\bby design\b|printed by"


def rows(page: str) -> list[list[str]]:
    """Cells of every row that has an identifier, decisions (T1 ...) left out."""
    found = []
    for line in (REPOSITORY / page).read_text("utf-8").splitlines():
        row = ROW.match(line)
        if row and not row.group(1).startswith("T"):
            found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


@cache
def functions(file: str) -> frozenset[str]:
    """Names of the tests in a file, in classes too."""
    path = REPOSITORY / file
    if not path.exists():
        return frozenset()
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def cited(text: str) -> list[tuple[str, str]]:
    """(file, test) of everything in backticks that looks like one; the test is empty where a whole file is meant."""
    return [(file, name) for file, _, name in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", text)]


def missing(text: str) -> list[str]:
    """What a text cites that is not there."""
    return [
        f"{file}::{name}"
        for file, name in cited(text)
        if not (REPOSITORY / file).exists() or (name and name not in functions(file))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_row_shows_its_test_or_says_that_it_is_open(page: str) -> None:
    found = rows(page)
    assert len(found) > 30
    identifiers = [re.split(r"\s", cells[0])[0] for cells in found]
    assert len(set(identifiers)) == len(identifiers)
    assert [cells[0][:60] for cells in found if not re.search(SHOWN, " ".join(cells[-2:]))] == []
    assert [cells[0][:60] for cells in found if not all(cells)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_row_names_exists(page: str) -> None:
    text = (REPOSITORY / page).read_text("utf-8")
    assert len(cited(text)) > 20
    assert missing(text) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_row_that_says_built_is_without_a_test_or_a_figure(page: str) -> None:
    bare = [
        cells[0][:60]
        for cells in rows(page)
        if cells[-1].startswith("built") and not re.search(r"`tests/|results\.md", " ".join(cells))
    ]
    assert bare == []


def test_decisions_are_numbered_and_every_number_is_explained() -> None:
    text = (REPOSITORY / PAGES[0]).read_text("utf-8")
    defined = re.findall(r"^\| (T\d+) \|", text, re.MULTILINE)
    assert defined == [f"T{n + 1}" for n in range(len(defined))]
    used = {
        name for page in PAGES for name in re.findall(r"\bT\d+\b", (REPOSITORY / page).read_text("utf-8"))
    }
    assert used <= set(defined)


def test_no_row_of_this_issue_is_open() -> None:
    assert [page for page in PAGES if "issue 3" in (REPOSITORY / page).read_text("utf-8")] == []


def test_what_is_not_there_is_found() -> None:
    here = "tests/test_threat_model.py"
    good = f"`{here}::test_what_is_not_there_is_found`, `{here}`"
    assert missing(good) == []
    assert missing("`tests/test_nothing.py`") == ["tests/test_nothing.py::"]
    assert missing(f"`{here}::test_nothing_at_all`") == [f"{here}::test_nothing_at_all"]
    assert not re.search(SHOWN, "held, somehow")
