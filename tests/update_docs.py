"""Write the generated pages of docs/: ``python -m tests.update_docs`` (or ``make docs``).

``docs/cli.md`` holds the help of every command, ``docs/settings.md`` every bound of `scanward.config` with
the unit and reason that stand beside it in the source. `test_docs.py` fails when a page is out of step.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import click

import scanward.config
from scanward.cli.main import COMMANDS, cli

REPOSITORY = Path(__file__).resolve().parent.parent
WIDTH = 88

CLI_HEAD = """\
# The command line

Written by `make docs` out of the commands themselves; a test keeps it in step.

Results go to standard output, everything else (errors, remarks, progress) to standard error. Progress bars
are shown only on a terminal.

| status | meaning |
|---|---|
| 0 | done |
| 1 | the run failed: training cannot give what was asked, the disk is full, a library is missing, or a bug |
| 2 | bad input: files, options, keys, or a bundle that is refused |
| 3 | `judge --fail-on` found what it was asked to look for |
| 130 | interrupted from the keyboard |
| 141 | the reader of the output went away (`scanward judge ... \\| head`) |

An error is one line, `error: WHAT, WHERE, WHAT TO DO`. With `--json` it is one object on standard output
instead, of the same shape for every command, with the same exit status:

```json
{
  "error": "InputError",
  "what": "no such file or directory",
  "where": "today.csv",
  "todo": "check the path and who may read or write it"
}
```

`error` is the class of the error: `InputError`, `DecodeError`, `DialectError`, `SettingsError`,
`BundleError`, `SignatureError`, `RollbackError`, `LearningError`, `KeyFileError`, or `ScanwardError` for
everything else.
"""

CONFIG_MODULES = ("ground", "guarding", "learning", "images", "pages")
SETTINGS_HEAD = """\
# Bounds and settings

Written by `make docs` out of `src/scanward/config/`; a test keeps it in step. None of these is read from a
file or from the environment: a bound that an attacker could raise would be none. What a user sets are the
options of the commands, see [cli.md](cli.md).
"""


def available(name: str) -> bool:
    """Whether the module of a top-level command is part of this source tree."""
    return importlib.util.find_spec(COMMANDS[name].module) is not None


def walk() -> Iterator[tuple[click.Context, click.Command]]:
    """The group, every command and every command of its groups, with contexts for their help."""
    root = click.Context(cli, info_name="scanward", terminal_width=WIDTH, **cli.context_settings)
    yield root, cli
    for name in cli.list_commands(root):
        if available(name):
            command = cli.get_command(root, name)
            assert command is not None
            yield from _below(root, name, command)


def _below(
    parent: click.Context, name: str, command: click.Command
) -> Iterator[tuple[click.Context, click.Command]]:
    context = click.Context(command, info_name=name, parent=parent)
    yield context, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            below = command.get_command(context, inner)
            assert below is not None
            yield from _below(context, inner, below)


def cli_page() -> str:
    """docs/cli.md"""
    parts = [CLI_HEAD]
    for context, command in walk():
        parts.append(f"\n## {context.command_path}\n\n```text\n{_trimmed(command.get_help(context))}\n```\n")
    return "".join(parts)


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def settings_page() -> str:
    """docs/settings.md"""
    folder = Path(scanward.config.__file__).parent
    sources = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in CONFIG_MODULES]
    tables = (table for source in sources for table in settings_tables(source, vars(scanward.config)))
    return SETTINGS_HEAD + "".join(tables)


def settings_tables(source: str, names: dict[str, object]) -> Iterator[str]:
    """One table for each dataclass in ``source``: name, default, unit and reason (the comment beside it)."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        made = names.get(node.name) if isinstance(node, ast.ClassDef) else None
        if not isinstance(node, ast.ClassDef) or not dataclasses.is_dataclass(made):
            continue
        defaults = {field.name: field.default for field in dataclasses.fields(made)}
        text = " ".join((ast.get_docstring(node) or "").split())
        yield f"\n## {node.name}\n\n{text}\n\n| setting | default | unit and reason |\n|---|---|---|\n"
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                # a formatter may have put the value of a long line, and the comment with it, into brackets
                written = lines[line.lineno - 1 : line.end_lineno]
                reason = next((r for each in written if (r := each.partition("  # ")[2].strip())), "")
                default = defaults[line.target.id]
                shown = "none" if default is dataclasses.MISSING else f"`{default}`"
                escaped = reason.replace("|", "\\|")
                yield f"| `{line.target.id}` | {shown} | {escaped} |\n"


PAGES: dict[str, Callable[[], str]] = {"docs/cli.md": cli_page, "docs/settings.md": settings_page}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (REPOSITORY / page).write_text(write(), encoding="utf-8")
        print(f"wrote {page}")
