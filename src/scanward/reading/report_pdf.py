"""A report as PDF: pages of text and tables, then one page a plot, all drawn by matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from scanward.reading.mrmc.plots import STYLE, quiet
from scanward.reading.report_blocks import Block, Drawing, Heading, Paragraph, Table

_PAGE = 8.27, 11.69  # inches, A4
_MARGIN = 0.6  # inches
_ASPECT = 0.602  # width of a character of DejaVu Sans Mono in units of its height
_LEADING = 1.35


@dataclass(frozen=True)
class _Line:
    text: str
    size: float = 7.0  # points
    bold: bool = False
    colour: str = "#1a1a1a"
    mono: bool = False
    head: bool = False  # belongs with what follows: not left alone at the foot of a page


def pdf(blocks: Sequence[Block], footer: str) -> bytes:
    """The whole document. ``footer`` stands at the foot of every page of text and in the file's title."""
    lines: list[_Line] = []
    drawings: list[Drawing] = []
    for block in blocks:
        if isinstance(block, Drawing):
            drawings.append(block)
            lines += _wrapped(f"Plot {len(drawings)}, at the end: {block.text}", 7.5, "#555555", 1)
        else:
            lines += _lines(block)
    buffer = io.BytesIO()
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    with (
        mpl.rc_context(STYLE),
        quiet(),
        PdfPages(buffer, metadata={"Title": title, "Subject": footer, "CreationDate": None}) as pages,
    ):
        for number, page in enumerate(_pages(lines), start=1):
            pages.savefig(_drawn(page, f"{footer} - page {number}"))
        for drawing in drawings:
            pages.savefig(drawing.figure)
    return buffer.getvalue()


def _lines(block: Heading | Paragraph | Table) -> list[_Line]:
    if isinstance(block, Heading):
        size = {1: 16.0, 2: 12.5}.get(block.level, 10.0)
        found = [_Line("", size * 0.6, head=True)]
        width = _characters(size * 0.95)
        return found + [_Line(part, size, bold=True, head=True) for part in textwrap.wrap(block.text, width)]
    if isinstance(block, Paragraph):
        if block.tone == "notice":
            return _wrapped(block.text, 9.5, "#a30000", 1, bold=True)
        if block.tone == "warning":
            return _wrapped(f"Warning: {block.text}", 8.5, "#8a4500", 1)
        return _wrapped(block.text, 8.5, "#1a1a1a", 1)
    return _table(block)


def _wrapped(text: str, size: float, colour: str, after: int, *, bold: bool = False) -> list[_Line]:
    parts = textwrap.wrap(text, _characters(size)) or [""]
    return [_Line(part, size, bold, colour) for part in parts] + [_Line("", 4.0)] * after


def _table(table: Table) -> list[_Line]:
    size = 6.5
    widths = _widths(table, _characters(size, mono=True))
    found = [
        _Line(part, 8.5, bold=True, head=True) for part in textwrap.wrap(table.caption, _characters(8.5))
    ]
    if any(table.columns):
        found += [_Line(text, size, bold=True, mono=True, head=True) for text in _row(table.columns, widths)]
    for row in table.rows:
        found += [_Line(text, size, mono=True) for text in _row(row, widths)]
    return [*found, _Line("", 6.0)]


def _widths(table: Table, room: int) -> list[int]:
    """Characters of each column, two apart; the widest give way until all fit."""
    widths = [max(map(len, column), default=1) for column in zip(table.columns, *table.rows, strict=True)]
    room -= 2 * (len(widths) - 1)
    while sum(widths) > room and max(widths) > 4:
        widths[widths.index(max(widths))] -= 1
    return widths


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    parts = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
    for i in range(max(map(len, parts))):
        yield "  ".join(
            (part[i] if i < len(part) else "").ljust(width) for part, width in zip(parts, widths, strict=True)
        ).rstrip()


def _characters(size: float, *, mono: bool = False) -> int:
    """Characters of a size in points that fit between the margins."""
    wide = _ASPECT if mono else 0.54
    return int((_PAGE[0] - 2 * _MARGIN) * 72 / (wide * size))


def _pages(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    room = (_PAGE[1] - 2 * _MARGIN - 0.3) * 72
    page: list[_Line] = []
    used = 0.0
    for line in lines:
        height = line.size * _LEADING
        if used + height > room and page:
            kept = len(page)
            while kept > 1 and page[kept - 1].head:
                kept -= 1
            carried = page[kept:] if kept > 1 else []
            yield page[: len(page) - len(carried)]
            page, used = list(carried), sum(one.size * _LEADING for one in carried)
        page.append(line)
        used += height
    if page:
        yield page


def _drawn(page: Sequence[_Line], footer: str) -> Figure:
    figure = Figure(figsize=_PAGE, facecolor="white")
    top = _PAGE[1] - _MARGIN
    left = _MARGIN / _PAGE[0]
    for line in page:
        top -= line.size * _LEADING / 72
        if line.text:
            figure.text(
                left, top / _PAGE[1], line.text, fontsize=line.size, color=line.colour,
                fontweight="bold" if line.bold else "normal",
                fontfamily="DejaVu Sans Mono" if line.mono else "DejaVu Sans",
            )  # fmt: skip
    figure.text(left, 0.35 / _PAGE[1], footer, fontsize=6.5, color="#555555")
    return figure
