"""A report as one HTML file that opens offline: no script, nothing fetched, plots inside it as SVG."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from scanward.learning.benchmark.report_blocks import (
    Block,
    Code,
    Drawing,
    Heading,
    Items,
    Paragraph,
    Rows,
    Table,
)

_LONG = 32  # characters above which a cell may break
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; overflow-wrap: break-word; }
h1 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #767676; }
a { color: #00528a; }
p, li { max-width: 62rem; }
nav ul { columns: 3 16rem; padding-left: 1.2rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid #c4c4c4;
  white-space: nowrap; font-size: .9rem; }
thead th { vertical-align: bottom; white-space: normal; min-width: 4.5rem; }
th:first-child, .word { text-align: left; }
tbody th { font-weight: 400; }
tbody th[scope=rowgroup] { font-weight: 700; padding-top: .8rem; }
.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
pre { padding: .6rem .8rem; border: 1px solid #767676; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; background: #fff; }
figcaption { font-size: .9rem; max-width: 62rem; }
summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
.warning { border-left: .3rem solid #b35900; padding: .3rem .8rem; background: #fff4e5; color: #1a1a1a; }
.notice { border: .15rem solid #a30000; padding: .5rem .8rem; font-weight: 700; background: #fdecec; color: #1a1a1a; }
:focus-visible { outline: .2rem solid #0072b2; outline-offset: .1rem; }
@media (prefers-color-scheme: dark) {
  body { color: #ececec; background: #161616; }
  a { color: #8cc8f0; }
  th, td { border-color: #555; }
  :focus-visible { outline-color: #8cc8f0; }
}
@media print {
  :root { color-scheme: light; }
  body { max-width: none; margin: 0; font-size: 9pt; color: #000; background: #fff; }
  nav { display: none; }
  .wide { overflow-x: visible; }
  th, td { white-space: normal; font-size: 7pt; padding: .1rem .25rem; min-width: 0; border-color: #999; }
  .long, thead th { min-width: 0; }
  thead { display: table-header-group; }
  tr, figure { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
}
"""
# Should anything get past the escaping: this forbids it to run or to fetch.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def html(blocks: Sequence[Block], plots: Mapping[str, bytes]) -> str:
    """The whole page, with ``plots`` (SVG by the names of drawings). Everything that came from outside is escaped."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_parts(blocks, plots),
            "</main>",
            "</body>",
            "</html>",
            "",
        )
    )


def _parts(blocks: Sequence[Block], plots: Mapping[str, bytes]) -> Iterator[str]:
    """Every block; the contents before the first heading below the title."""
    listed = False
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2 and not listed:
            yield from _contents(blocks)
            listed = True
        yield from _block(block, plots)


def _contents(blocks: Sequence[Block]) -> Iterator[str]:
    yield '<nav aria-label="Contents"><ul>'
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            yield f'<li><a href="#{escape(block.anchor)}">{_text(block.text)}</a></li>'
    yield "</ul></nav>"


def _block(block: Block, plots: Mapping[str, bytes]) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f'<h{block.level} id="{escape(block.anchor)}">{_text(block.text)}</h{block.level}>'
    elif isinstance(block, Paragraph):
        kind = "" if block.tone == "plain" else f' class="{block.tone}"'
        label = "<strong>Warning:</strong> " if block.tone == "warning" else ""
        yield f"<p{kind}>{label}{_text(block.text)}</p>"
    elif isinstance(block, Items):
        yield "<ul>"
        for lead, rest in block.items:
            bold = f"<strong>{_text(lead)}</strong> " if lead else ""
            yield f"<li>{bold}{_text(rest)}</li>"
        yield "</ul>"
    elif isinstance(block, Code):
        yield f"<pre><code>{_text(block.text)}</code></pre>"
    elif isinstance(block, Drawing):
        data = base64.b64encode(plots[block.name]).decode("ascii")
        yield f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{_text(block.alt)}">'
        yield f"<figcaption>{_text(block.caption)}</figcaption></figure>"
    elif block.folded:
        yield f"<details><summary>{_text(block.caption)}</summary>"
        yield from _table(block)
        yield "</details>"
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    # A region that scrolls must be reachable by keyboard.
    yield f'<div class="wide" role="region" tabindex="0" aria-label="{_text(table.caption)}"><table>'
    yield f"<caption>{_text(table.caption)}</caption>"
    heads = "".join(
        f'<th scope="col"{_class(table, i, "")}>{_text(name)}</th>' for i, name in enumerate(table.columns)
    )
    yield f"<thead><tr>{heads}</tr></thead>"
    for group in table.groups:
        yield from _rows(table, group)
    yield "</table></div>"


def _rows(table: Table, group: Rows) -> Iterator[str]:
    yield "<tbody>"
    if group.name:
        yield f'<tr><th scope="rowgroup" colspan="{len(table.columns)}">{_text(group.name)}</th></tr>'
    for row in group.rows:
        cells = "".join(f"<td{_class(table, i, c)}>{_text(c)}</td>" for i, c in enumerate(row[1:], start=1))
        yield f'<tr><th scope="row"{_class(table, 0, row[0])}>{_text(row[0])}</th>{cells}</tr>'
    yield "</tbody>"


def _class(table: Table, column: int, text: str) -> str:
    """Numbers stay on one line; only words that are too long for one may break."""
    words = column == 0 or column in table.words
    names = [name for name, there in (("word", words), ("long", words and len(text) > _LONG)) if there]
    return f' class="{" ".join(names)}"' if names else ""


def _text(text: str) -> str:
    return escape(clean(text))


def clean(text: str) -> str:
    """One line; what is not to be seen (controls, reversed writing, half a character) becomes a replacement sign."""
    shown = " ".join(text.split())
    return "".join(
        c if c.isprintable() or c == "\N{NARROW NO-BREAK SPACE}" else "\N{REPLACEMENT CHARACTER}"
        for c in shown
    )
