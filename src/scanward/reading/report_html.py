"""A report as one HTML file that opens offline: no script, nothing fetched, plots inside it as SVG."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from scanward.reading.report_blocks import Block, Drawing, Heading, Paragraph, Table

_LONG = 40  # characters
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #767676; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #c4c4c4; }
th, td { white-space: nowrap; font-size: .92rem; }
.long { white-space: normal; overflow-wrap: anywhere; min-width: 18rem; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; background: #fff; }
figcaption { font-size: .9rem; }
summary { cursor: pointer; font-weight: 600; }
.warning { border-left: .3rem solid #b35900; padding: .3rem .8rem; background: #fff4e5; color: #1a1a1a; }
.notice { border: .15rem solid #a30000; padding: .5rem .8rem; font-weight: 700; background: #fdecec; color: #1a1a1a; }
@media (prefers-color-scheme: dark) {
  body { color: #ececec; background: #161616; }
  th, td { border-color: #555; }
}
@media print { body { max-width: none; margin: 0; } }
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
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *(line for block in blocks for line in _block(block, plots)),
            "</main>",
            "</body>",
            "</html>",
            "",
        )
    )


def _block(block: Block, plots: Mapping[str, bytes]) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    elif isinstance(block, Paragraph):
        kind = "" if block.tone == "plain" else f' class="{block.tone}"'
        label = "<strong>Warning:</strong> " if block.tone == "warning" else ""
        yield f"<p{kind}>{label}{escape(block.text)}</p>"
    elif isinstance(block, Drawing):
        data = base64.b64encode(plots[block.name]).decode("ascii")
        yield f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(block.text)}"></figure>'
    elif block.folded:
        yield f"<details><summary>{escape(block.caption)}</summary>"
        yield from _table(block)
        yield "</details>"
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    # A region that scrolls must be reachable by keyboard.
    yield f'<div class="wide" role="region" tabindex="0" aria-label="{escape(table.caption)}"><table>'
    yield f"<caption>{escape(table.caption)}</caption>"
    if any(table.columns):
        heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
        yield f"<thead><tr>{heads}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        cells = "".join(f"<td{_long(text)}>{escape(text)}</td>" for text in row[1:])
        yield f'<tr><th scope="row"{_long(row[0])}>{escape(row[0])}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _long(text: str) -> str:
    """Numbers stay on one line; only what is too long for one may break."""
    return ' class="long"' if len(text) > _LONG else ""
