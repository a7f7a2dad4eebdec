"""What the command line says: errors, JSON, tables, notes and progress.

Results go to standard output, everything else to standard error, so that ``scanward ... --json | jq`` works.
Text from outside (file names, protocol names) is printed with its control characters escaped: a recording
must not be able to steer the terminal of whoever reads about it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from scanward.errors import ScanwardError

_QUIET = "scanward.quiet"


class Step(Protocol):
    """What `progress` hands out: call it after each piece of work."""

    def __call__(self, advance: float = 1, description: str | None = None) -> None:
        """Move on by ``advance``, and say something else from now on when ``description`` is given."""
        ...


def escape(text: str) -> str:
    """``text`` on one line, with every unprintable character written as its escape (``\\x1b``, ``\\n``)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def print_error(error: ScanwardError, *, as_json: bool = False) -> None:
    """One line ``error: WHAT, WHERE, WHAT TO DO`` on standard error, or as JSON on standard output."""
    if as_json:
        print_json(error.as_json())
    else:
        click.echo(f"error: {escape(str(error))}", err=True)


def print_json(data: Any) -> None:
    """``data`` as one JSON document on standard output.

    Enums, paths, dataclasses, sets and numpy values are written plainly; NaN and infinities become ``null``,
    for JSON has no word for them. ASCII only, so that no terminal encoding can break it.
    """
    click.echo(json.dumps(_plain(data), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy here
        return _plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    caption: str = "",
    stderr: bool = False,
) -> None:
    """A table on standard output (on standard error where the output is something else).

    Numbers are right-aligned with six significant digits, None is an empty cell. Fitted to a terminal's
    width; into a file or pipe nothing is wrapped or cut.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(
        title=Text(escape(title)) if title else None,
        caption=Text(escape(caption)) if caption else None,
        title_justify="left",
        caption_justify="left",
    )
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(row[index][1] for row in cells)
        table.add_column(Text(escape(name)), justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*(Text(text) for text, _ in row))
    console = _console(stderr=stderr)
    if not console.is_terminal:
        unlimited = console.options.update(max_width=100_000)
        console = _console(stderr=stderr, width=max(80, console.measure(table, options=unlimited).maximum))
    console.print(table)


def _cell(value: object) -> tuple[str, bool]:
    """Text of a cell, and whether it is a number (or empty) and so belongs to the right."""
    if value is None:
        return "", True
    if isinstance(value, bool):
        return ("yes" if value else "no"), False
    if isinstance(value, int):
        return str(value), True
    if isinstance(value, float):
        return f"{value:.6g}", True
    return escape(str(value)), False


def note(text: str) -> None:
    """A remark for people, on standard error; silent under ``--quiet``."""
    if not quiet():
        click.echo(escape(text), err=True)


def quiet() -> bool:
    """Whether ``--quiet`` was given to the running command."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_QUIET))


def set_quiet(context: click.Context) -> None:
    """Remember ``--quiet`` for the running command."""
    context.meta[_QUIET] = True


_running: list[Progress] = []  # at most one: a bar inside a bar becomes a second line of the first


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Step]:
    """A progress bar on standard error; nothing where that is no terminal, or under ``--quiet``.

    ``total`` is the number of pieces of work, None when unknown. Use::

        with progress("reading", total=len(paths)) as step:
            for path in paths:
                read(path)
                step()
    """
    if quiet() or not sys.stderr.isatty():
        yield _no_step
        return
    if _running:
        with _task(_running[0], description, total) as step:
            yield step
        return
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_console(stderr=True),
        transient=True,
    )
    _running.append(bars)
    try:
        with bars, _task(bars, description, total) as step:
            yield step
    finally:
        _running.clear()


@contextmanager
def _task(bars: Progress, description: str, total: float | None) -> Iterator[Step]:
    task = bars.add_task(escape(description), total=total)

    def step(advance: float = 1, description: str | None = None) -> None:
        bars.update(task, advance=advance, description=None if description is None else escape(description))

    try:
        yield step
    finally:
        bars.remove_task(task)


def _no_step(advance: float = 1, description: str | None = None) -> None:
    """The step of a bar that is not shown."""


def _console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console on the present standard stream that takes no text for mark-up."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream, width=width, force_terminal=stream.isatty(), markup=False, emoji=False, highlight=False
    )
