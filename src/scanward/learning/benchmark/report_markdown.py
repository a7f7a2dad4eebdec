"""A report as Markdown as GitHub renders it; plots stand beside it as PNG, SVG one click away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from scanward.learning.benchmark.report_blocks import Block, Code, Drawing, Heading, Items, Paragraph, Table
from scanward.learning.benchmark.report_html import clean

_ACTIVE = re.compile(r"[\\`*_{}\[\]#|~$!]")  # what would mean something inside a line
_AT_START = re.compile(r"^(\s*)([-+=>]|\d+[.)](?=\s|$))")  # what would mean something at its beginning


def markdown(blocks: Sequence[Block], figures: str) -> str:
    """The whole page. ``figures``: folder of the plots, as seen from the page."""
    return "\n".join(line for block in blocks for line in _block(block, figures)).rstrip() + "\n"


def inline(text: str, *, cell: bool = False) -> str:
    """Text from anywhere as nothing but text: no mark-up, no HTML, no address that becomes a link.

    ``cell``: of a table, where no line begins.
    """
    shown = _ACTIVE.sub(lambda found: f"\\{found.group(0)}", escape(clean(text), quote=False))
    shown = re.sub(r"://", "&#58;//", shown)
    shown = re.sub(r"(?i)(www)\.", r"\1&#46;", shown)
    shown = shown.replace("@", "&#64;")
    if cell:
        return shown
    return _AT_START.sub(lambda f: f.group(1) + f.group(2)[:-1] + f"\\{f.group(2)[-1]}", shown)


def _block(block: Block, figures: str) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"{'#' * block.level} {inline(block.text)}"
    elif isinstance(block, Paragraph):
        if block.tone == "plain":
            yield inline(block.text)
        else:
            yield f"> {'**Warning:** ' if block.tone == 'warning' else ''}{_strong(block)}"
    elif isinstance(block, Items):
        yield from (f"* {f'**{inline(lead)}** ' if lead else ''}{inline(rest)}" for lead, rest in block.items)
    elif isinstance(block, Code):
        yield f"    {clean(block.text)}"
    elif isinstance(block, Drawing):
        yield f"[![{inline(block.alt)}]({figures}/{block.name}.png)]({figures}/{block.name}.svg)"
        yield ""
        yield inline(block.caption)
    elif block.folded:
        yield f"<details><summary>{escape(clean(block.caption))}</summary>"
        yield ""
        yield from _table(block)
        yield "</details>"
    else:
        yield f"**{inline(block.caption)}**"
        yield ""
        yield from _table(block)
    yield ""


def _strong(block: Paragraph) -> str:
    return f"**{inline(block.text)}**" if block.tone == "notice" else inline(block.text)


def _table(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield _row(
        [":---" if i == 0 or i in table.words else "---:" for i in range(len(table.columns))], raw=True
    )
    for group in table.groups:
        if group.name:
            yield _row([f"**{inline(group.name)}**", *[""] * (len(table.columns) - 1)], raw=True)
        yield from (_row(row) for row in group.rows)
    yield ""


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else [inline(cell, cell=True) for cell in cells])} |"
