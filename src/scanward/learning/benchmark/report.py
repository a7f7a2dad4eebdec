"""The report of a benchmark: Markdown for a repository, HTML that opens offline, plots as SVG and PNG."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scanward.errors import InputError
from scanward.learning.benchmark.report_blocks import Block, Drawing
from scanward.learning.benchmark.report_first import first_page
from scanward.learning.benchmark.report_html import clean, html
from scanward.learning.benchmark.report_levels import sections
from scanward.learning.benchmark.report_markdown import markdown
from scanward.learning.benchmark.report_sections import after_levels
from scanward.learning.benchmark.report_view import View
from scanward.learning.figure_style import encoded, settled

FIGURES = "figures"


def write(results: Mapping[str, Any], out: Path) -> list[Path]:
    """Write OUT/report.md, OUT/report.html and OUT/figures/*.svg and *.png; the same bytes for the same results.

    Parameters
    ----------
    results : of ``assembling.assemble``, or what ``results.json`` holds
    out : folder; made where it is not there. Plots of an earlier report in it go.

    Returns
    -------
    list of Path
        What was written, the report first.

    Raises
    ------
    DecodeError
        When ``results`` is of another format, or a figure in it is none.
    InputError
        When the folder cannot be written.
    """
    view = View(results)
    found = list(blocks(view))
    drawings = [one for one in found if isinstance(one, Drawing)]
    about = (
        "SIMULATED data where the plot says so" if view.simulated else "Recorded commands, injected attacks"
    )
    files: dict[str, bytes] = {}
    svgs: dict[str, bytes] = {}
    for one in drawings:
        figure = settled(one.draw())
        for ending in ("svg", "png"):
            files[f"{FIGURES}/{one.name}.{ending}"] = encoded(figure, ending, one.name, about)
        svgs[one.name] = files[f"{FIGURES}/{one.name}.svg"]
    pages = {"report.md": markdown(found, FIGURES).encode(), "report.html": html(found, svgs).encode()}
    return _written(out, pages | files)


def blocks(view: View) -> Iterator[Block]:
    """The whole report, in order."""
    yield from first_page(view)
    if view.levels:
        yield from sections(view)
    yield from after_levels(view)


def _written(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / FIGURES).is_dir():
            shutil.rmtree(out / FIGURES)
        (out / FIGURES).mkdir()
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise InputError(
            f"the report cannot be written ({error.strerror})",
            clean(str(error.filename or out)),
            "name a folder that can be written",
        ) from error
    return [out / name for name in files]
