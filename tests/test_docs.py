"""Docs, settings and command-line help stay in step."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import click
import pytest

import scanward.config
import update_docs
from house import REPOSITORY, repository_files
from scanward.cli.main import COMMANDS
from scanward.errors import ScanwardError

COMMAND_HELP = {context.command_path: (context, command) for context, command in update_docs.walk()}


def markdown() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".md"]


@pytest.mark.parametrize("page", sorted(update_docs.PAGES))
def test_generated_pages_are_in_step(page: str) -> None:
    assert (REPOSITORY / page).read_text("utf-8") == update_docs.PAGES[page](), "run `make docs`"


# --- every command teaches


@pytest.mark.parametrize("path", sorted(COMMAND_HELP))
def test_help_teaches_with_an_example(path: str) -> None:
    context, command = COMMAND_HELP[path]
    text = command.get_help(context)
    example = re.search(r"^ *Examples?:\n(?: *\n)?(( +.*\n?)+)", text, re.MULTILINE)
    assert example, f"the help of '{path}' has no 'Example:' section"
    assert re.search(rf"^ *{re.escape(path)}\b", example.group(1), re.MULTILINE), "an example of another"


@pytest.mark.parametrize("path", sorted(COMMAND_HELP))
def test_every_option_has_help(path: str) -> None:
    context, command = COMMAND_HELP[path]
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    assert options
    assert [option.opts[0] for option in options if not (option.help or "").strip()] == []


@pytest.mark.parametrize("path", sorted(COMMAND_HELP))
def test_every_command_speaks_json_and_takes_the_common_options(path: str) -> None:
    context, command = COMMAND_HELP[path]
    if isinstance(command, click.Group):
        pytest.skip("a group itself does nothing")
    flags = {flag for option in command.get_params(context) for flag in option.opts}
    assert {"--json", "--quiet", "--debug", "--help"} <= flags


@pytest.mark.parametrize("path", sorted(COMMAND_HELP))
def test_every_option_is_documented(path: str) -> None:
    context, command = COMMAND_HELP[path]
    page = (REPOSITORY / "docs/cli.md").read_text("utf-8")
    section = page.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
    options = [p for p in command.get_params(context) if isinstance(p, click.Option) and not p.hidden]
    flags = [flag for option in options for flag in option.opts]
    assert [flag for flag in flags if flag not in section] == []


# --- settings


def test_every_setting_is_documented_with_a_reason() -> None:
    page = (REPOSITORY / "docs/settings.md").read_text("utf-8")
    settings = [
        field.name
        for made in vars(scanward.config).values()
        if isinstance(made, type) and dataclasses.is_dataclass(made)
        for field in dataclasses.fields(made)
    ]
    assert settings
    undocumented = [s for s in settings if not re.search(rf"^\| `{s}` \| .+ \| \S.* \|$", page, re.MULTILINE)]
    assert undocumented == []


def test_a_setting_without_a_reason_would_show() -> None:
    source = (
        '@dataclass\nclass Some:\n    """Doc."""\n    told: int = 1  # s; a reason\n    silent: int = 2\n'
    )
    namespace: dict[str, object] = {"dataclass": dataclasses.dataclass, "__name__": __name__}
    exec(source, namespace)
    rows = "".join(update_docs.settings_tables(source, namespace))
    assert "| `told` | `1` | s; a reason |" in rows
    assert "| `silent` | `2` |  |" in rows


# --- what the pages tell people to type

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))


def typed_lines(text: str) -> list[str]:
    """Lines of shell blocks, and code spans, that call ``scanward`` or ``make``."""
    blocks = [block for kind, block in FENCE.findall(text) if kind in {"sh", "bash"}]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:scanward|make) [^`\n]+)`", FENCE.sub("", text))
    return [line.strip() for line in lines if re.match(r"\s*(scanward|make)\b", line)]


def mistyped(line: str) -> str:
    """What is wrong with a line that a page tells people to type; empty when nothing is."""
    words = shlex.split(line.partition(" | ")[0], comments=True)
    program, arguments = words[0], words[1:]
    if program == "make":
        unknown = [a for a in arguments if "=" not in a and not a.startswith("-") and a not in TARGETS]
        return f"no such target: {unknown}" if unknown else ""
    if not arguments or arguments[0].startswith("-") or arguments[0] == "...":
        return ""
    if arguments[0] not in COMMANDS:
        return f"no such command: {arguments[0]}"
    path = "scanward"
    while arguments and f"{path} {arguments[0]}" in COMMAND_HELP:
        path = f"{path} {arguments.pop(0)}"
    if path == "scanward" or any(word.startswith(("[", "...")) for word in arguments):
        return ""  # a command that is not built yet, or a synopsis
    context, command = COMMAND_HELP[path]
    if isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        return f"no such command: {path} {arguments[0]}"
    try:
        command.make_parser(context).parse_args(list(arguments))
    except (click.UsageError, ScanwardError) as exc:
        return str(exc)
    return ""


def test_what_the_pages_tell_to_type_exists() -> None:
    wrong = []
    count = 0
    for path in markdown():
        for line in typed_lines(path.read_text("utf-8")):
            count += 1
            if problem := mistyped(line):
                wrong.append(f"{path.relative_to(REPOSITORY)}: {line}: {problem}")
    assert wrong == []
    assert count > 10


@pytest.mark.parametrize(
    "line",
    ["make everything", "scanward trian x --model m", "scanward keys knew a.key", "scanward keys new --foo"],
)
def test_mistyped_lines_are_found(line: str) -> None:
    if line.startswith("scanward keys") and not update_docs.available("keys"):
        pytest.skip("the keys command is not built yet")
    assert mistyped(line) != ""


def test_the_readme_shows_the_five_commands_and_the_two_targets() -> None:
    lines = typed_lines((REPOSITORY / "README.md").read_text("utf-8"))
    commands = [f"scanward {name}" for name in ("inspect", "train", "judge", "explain", "demo")]
    for start in ("make demo", "make test", *commands):
        assert any(line.startswith(start) for line in lines), start


# --- links

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(FENCE.sub("", path.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8"))
        ):
            broken.append(f"{path.name}: {link}")
    return broken


def test_every_relative_link_resolves() -> None:
    pages = markdown()
    assert len(pages) > 5
    assert [broken for page in pages for broken in broken_links(page)] == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b, c\n[x](#a-b-c) [y](#nowhere) [z](gone.md) [p](page.md#a-b-c) [w](https://e.org/q)\n"
    )
    assert broken_links(page) == ["page.md: #nowhere", "page.md: gone.md"]


def test_the_index_lists_every_page() -> None:
    index = REPOSITORY / "docs" / "README.md"
    listed = {link.partition("#")[0] for link in LINK.findall(index.read_text("utf-8"))}
    pages = {page.name for page in markdown() if page.parent == index.parent} - {index.name}
    assert len(pages) > 5
    assert pages - listed == set()


def test_tests_that_the_pages_name_exist() -> None:
    named = {
        (page.name, name)
        for page in markdown()
        for name in re.findall(
            r"`((?:tests|src|docs|examples|benchmarks)/[\w/.-]*\w)`", page.read_text("utf-8")
        )
    }
    assert len(named) > 10
    assert sorted((page, name) for page, name in named if not (REPOSITORY / name).exists()) == []


# --- what must be said


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "src/scanward/cli/main.py"])
def test_it_is_said_that_this_is_no_medical_device(name: str) -> None:
    text = " ".join((REPOSITORY / name).read_text("utf-8").split()).replace("**", "").lower()
    assert "not a medical device" in text
    assert re.search(r"not (to )?be connected to a clinical scanner outside an approved study", text)


def test_the_patent_application_is_named() -> None:
    text = (REPOSITORY / "docs/prior-work.md").read_text("utf-8")
    assert "US 2023/0017157" in text
    assert "status is unknown" in text


def test_every_hazard_has_a_measure_and_a_test_or_is_open() -> None:
    """Each row of the hazard tables is complete, and its last cell names a test, a figure, or says open."""
    text = (REPOSITORY / "docs/hazards.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| [A-D]\d+ \|", line)]
    assert len(rows) > 20
    identifiers = [row.split("|")[1].strip() for row in rows]
    assert len(set(identifiers)) == len(identifiers)
    for row in rows:
        cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
        assert len(cells) == 6, row
        assert all(cells), row
        assert re.search(r"\bS[1-4]\b", cells[3]), f"no severity: {row}"
        assert re.search(r"\b[DPI]:", cells[4]), f"no kind of measure: {row}"
        assert re.search(r"`tests/|results\.md|\bopen\b|printed by", cells[5]), f"no test: {row}"
