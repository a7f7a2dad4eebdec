"""The report of an analysis: HTML that opens offline, PDF, plots as SVG. Drawing libraries load when one is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from scanward.errors import InputError, SettingsError
from scanward.reading.findings import Result

if TYPE_CHECKING:
    from scanward.reading.report_blocks import Block

SUFFIXES = (".html", ".pdf", ".svg")


def write_report(result: Result, out: Path, protocol_sha256: str = "") -> tuple[Path, ...]:
    """Write the report of an analysis, in the form that the name of ``out`` asks for.

    Parameters
    ----------
    result : Result
    out : Path
        ``.html``: one file with everything in it, no script, nothing fetched. ``.pdf``: text, tables, then plots.
        ``.svg``: the first plot, and the others beside it as NAME-PLOT.svg. Without a suffix: a folder with
        report.html, report.pdf, result.json (full precision) and plots/NAME.svg.
    protocol_sha256 : str
        Of the frozen protocol, hex, where the study has one.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    SettingsError
        Another suffix.
    InputError
        ``out`` cannot be written, or is a file where a folder is asked for; nothing to draw as SVG.
    """
    suffix = out.suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise SettingsError(
            f"a report as '{out.suffix}'",
            str(out),
            f"use {', '.join(SUFFIXES)}, or a folder without a suffix",
        )
    if not suffix and out.exists() and not out.is_dir():
        raise InputError("a file where a folder is asked for", str(out), "name another folder")
    from scanward.reading.report_blocks import blocks

    try:
        (out.parent if suffix else out).mkdir(parents=True, exist_ok=True)  # before anything is drawn
        contents = _contents(result, list(blocks(result, protocol_sha256)), out, suffix)
        for path, content in contents.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        where = str(error.filename or out)
        raise InputError(
            f"the report cannot be written ({error.strerror})", where, "name a place that can be written"
        ) from error
    return tuple(contents)


def _contents(result: Result, found: list[Block], out: Path, suffix: str) -> dict[Path, bytes]:
    from scanward.reading.mrmc.plots import encoded
    from scanward.reading.report_blocks import Drawing
    from scanward.reading.report_html import html
    from scanward.reading.report_pdf import pdf

    footer = " - ".join(
        part for part in (result.notice, result.source, f"SHA-256 {result.sha256[:16]}") if part
    )
    if suffix == ".pdf":
        return {out: pdf(found, footer)}
    drawings = {one.name: encoded(one.figure, "svg") for one in found if isinstance(one, Drawing)}
    if suffix == ".html":
        return {out: html(found, drawings).encode()}
    if suffix == ".svg":
        if not drawings:
            raise InputError("nothing to draw", str(out), "give ratings of positive and negative cases")
        first, *others = drawings
        return {out: drawings[first]} | {
            out.with_stem(f"{out.stem}-{name}"): drawings[name] for name in others
        }
    plain = json.dumps(result.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    return {
        out / "report.html": html(found, drawings).encode(),
        out / "report.pdf": pdf(found, footer),
        out / "result.json": f"{plain}\n".encode(),
        **{out / "plots" / f"{name}.svg": content for name, content in drawings.items()},
    }
