"""A report of an analysis as blocks that HTML and PDF render alike: headings, paragraphs, tables, drawings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from scanward.reading.findings import Finding, Measured, Result
from scanward.reading.mrmc.bands import band
from scanward.reading.mrmc.curves import MODELS, Model, curves
from scanward.reading.mrmc.decisions import Aim, Decision
from scanward.reading.mrmc.plots import Row, draw_curves, draw_forest, draw_readers
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Interval, Random
from scanward.reading.report_methods import methods

Tone = Literal["plain", "notice", "warning"]
_CURVES = 11  # treatments whose curves are drawn; more cannot be told apart
_ROWS = 40  # lines of one forest
_READERS = 40  # readers in one plot


@dataclass(frozen=True)
class Heading:
    """``level`` 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Text; a notice and a warning stand out."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """Text by row and column; the first column names the row. ``folded``: shown on demand, where that can be."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False


@dataclass(frozen=True, eq=False)
class Drawing:
    """A plot: ``name`` for its file, ``text`` for who cannot see it."""

    name: str
    text: str
    figure: Figure


Block = Heading | Paragraph | Table | Drawing


def blocks(result: Result, protocol_sha256: str = "") -> Iterator[Block]:
    """The whole report, in order. ``protocol_sha256``: of the frozen protocol, where there is one."""
    mark = " - SIMULATED" if result.simulated else ""
    yield Heading(1, (result.title or "Multi-reader multi-case analysis") + mark)
    if result.notice:
        yield Paragraph(result.notice + ".", "notice")
    yield Paragraph(
        "Research only. Pictures of a study may have been modified; nothing here is a diagnosis, and the software is "
        "not a medical device."
    )
    for block in _body(result, protocol_sha256):
        yield (
            Table(block.caption + mark, block.columns, block.rows, block.folded)
            if (isinstance(block, Table) and mark)
            else block
        )


def _body(result: Result, protocol_sha256: str) -> Iterator[Block]:
    facts = [("file", result.source), ("SHA-256 of the file", result.sha256)]
    if protocol_sha256:
        facts.append(("SHA-256 of the protocol", protocol_sha256))
    facts += [("software", f"scanward {result.version}"), ("level of intervals", f"{100 * result.level:g} %")]
    yield Table("What was analysed", ("", ""), tuple(facts))
    if result.decisions:
        yield from _decisions(result)
    for warning in result.warnings:
        yield Paragraph(warning, "warning")
    for number, finding in enumerate(result.findings, start=1):
        yield from _finding(finding, result, number)
    yield Heading(2, "Methods")
    for text in methods(result):
        yield Paragraph(text)


# --- claims


def _decisions(result: Result) -> Iterator[Block]:
    yield Heading(2, "What is shown")
    rows = tuple(
        (
            one.endpoint,
            one.words,
            number(one.estimate),
            f"{number(one.lower)} to {number(one.upper)} ({100 * one.level:g} %)",
            probability(one.p),
            "-" if one.adjusted_p is None else probability(one.adjusted_p),
            "primary" if one.primary else "secondary",
            "yes" if one.shown else "no",
        )
        for one in result.decisions
    )
    yield Table(
        "Claims; p of primary ones adjusted by Holm",
        ("endpoint", "claim", "estimate", "interval", "p", "Holm p", "rank", "shown"),
        rows,
    )
    if result.decided_by:
        yield Paragraph(f"Decided by: {result.decided_by}.")
    groups: dict[tuple[Aim, float, float], list[Decision]] = {}
    for one in result.decisions:
        groups.setdefault((one.aim, one.low, one.high), []).append(one)
    for i, ((aim, low, high), several) in enumerate(groups.items(), start=1):
        lines = [
            Row(f"{one.endpoint}: {one.of} ({100 * one.level:g} %)", one.estimate, one.lower, one.upper)
            for one in several
        ]
        superior = aim is Aim.SUPERIORITY
        yield Drawing(
            f"claims-{i}",
            "; ".join(one.words for one in several),
            draw_forest(
                lines[:_ROWS],
                f"{str(aim).capitalize()}",
                "estimate with the interval that decides",
                low if superior else None,
                None if superior else (low, high),
                result.notice,
            ),
        )


# --- one endpoint


def _finding(finding: Finding, result: Result, number_: int) -> Iterator[Block]:
    endpoint, ratings = finding.endpoint, finding.endpoint.ratings
    yield Heading(2, f"Endpoint: {endpoint.name}")
    positives = int(ratings.truth.sum())
    what = "" if endpoint.positive == "positive" else f" ({endpoint.positive})"
    yield Paragraph(
        f"{_many(len(ratings.readers), 'reader')}, {_many(len(ratings.treatments), 'treatment')}, "
        f"{_many(len(ratings.cases), 'case')} of {_many(len(ratings.patients), 'patient')}: {positives} positive{what} "
        f"and {len(ratings.cases) - positives} negative. "
        f"{'Every' if ratings.fully_crossed else 'Not every'} reader read every case under every treatment."
    )
    for warning in finding.warnings:
        yield Paragraph(warning, "warning")
    slug = f"{number_}-{_slug(endpoint.name)}"
    for model in MODELS:
        if any(one.merit.startswith(model) for one in finding.measured):
            yield from _curves(finding, model, result, f"{slug}-curves-{model}")
    for place, measured in enumerate(finding.measured, start=1):
        yield from _measured(measured, ratings, result, endpoint.name, f"{slug}-{place}")


def _curves(finding: Finding, model: Model, result: Result, name: str) -> Iterator[Block]:
    ratings, title = finding.endpoint.ratings, finding.endpoint.name
    there = sorted({t for t, _ in curves(ratings, "empirical")})
    if not there:
        return
    if len(there) > _CURVES:
        yield Paragraph(f"Curves of {len(there)} treatments are not drawn: they could not be told apart.")
        return
    bands = [band(ratings, ratings.treatments[t], model, _random(finding), result.level) for t in there]
    for warning in dict.fromkeys(text for one in bands for text in one.warnings):
        yield Paragraph(f"Bands: {warning}", "warning")
    areas = ", ".join(f"{one.treatment} {one.mean.area:.4f}" for one in bands)
    yield Drawing(
        name,
        f"{model} ROC curves of each reader and their vertical mean with a band; areas under the means: {areas}",
        draw_curves(ratings, bands, f"{title}: {model} ROC curves", result.notice),
    )


def _measured(measured: Measured, ratings: Ratings, result: Result, title: str, name: str) -> Iterator[Block]:
    yield Heading(3, f"{measured.merit}")
    yield _cells(measured, ratings)
    values, errors = (np.full((len(ratings.treatments), len(ratings.readers)), np.nan) for _ in range(2))
    for cell in measured.cells:
        at = ratings.treatments.index(cell.treatment), ratings.readers.index(cell.reader)
        values[at], errors[at] = cell.value, cell.se
    shown = min(len(ratings.readers), _READERS)
    if shown < len(ratings.readers):
        yield Paragraph(f"The plot shows the first {shown} of {len(ratings.readers)} readers.")
    yield Drawing(
        f"{name}-readers",
        f"{measured.merit} of each reader under each treatment",
        draw_readers(
            values[:, :shown],
            errors[:, :shown],
            ratings.treatments,
            ratings.readers[:shown],
            f"{title}: readers",
            measured.merit,
            result.notice,
        ),
    )
    yield from _analyses(measured, result, title, name)


def _cells(measured: Measured, ratings: Ratings) -> Table:
    found = {(cell.treatment, cell.reader): cell for cell in measured.cells}
    rows = []
    for reader in ratings.readers:
        row = [reader]
        for treatment in ratings.treatments:
            cell = found.get((treatment, reader))
            row.append(f"{number(cell.value)} ({number(cell.se)})" if cell else "-")
        rows.append(tuple(row))
    means = measured.means
    rows.append(("mean", *(number(means.get(name, math.nan)) for name in ratings.treatments)))
    return Table(
        f"{measured.merit} (standard error, from cases alone)", ("reader", *ratings.treatments), tuple(rows)
    )


def _analyses(measured: Measured, result: Result, title: str, name: str) -> Iterator[Block]:
    analyses = measured.analyses
    for warning in dict.fromkeys(text for one in analyses for text in one.warnings):
        yield Paragraph(warning, "warning")
    for absent in measured.absent:
        what = ", ".join(part for part in (absent.method, absent.covariance, absent.random) if part)
        yield Paragraph(f"Not analysed ({what}): {absent.why}.")
    overall = tuple(
        (
            _method(one),
            str(one.random),
            one.overall.statistic,
            number(one.overall.value),
            degrees(one.overall.df1),
            "-" if one.overall.df2 is None else degrees(one.overall.df2),
            probability(one.overall.p),
        )
        for one in analyses
        if one.overall is not None
    )
    if overall:
        yield Table(
            "Test that all treatments are equal",
            ("analysis", "random", "statistic", "value", "df1", "df2", "p"),
            overall,
        )
    for caption, several, folded in (
        ("Differences between treatments", [(a, a.differences) for a in analyses], False),
        ("Each treatment alone", [(a, a.treatments) for a in analyses], False),
        ("Each reader alone", [(a, a.by_reader) for a in analyses], True),
    ):
        if any(intervals for _, intervals in several):
            yield _intervals(f"{caption}, {100 * result.level:g} % intervals", several, folded)
    yield from _forests(measured, result, title, name)
    components = tuple(
        (_method(one), str(one.random), what, f"{value:.7g}")
        for one in analyses
        for what, value in one.components.items()
    )
    if components:
        yield Table(
            "Mean squares, variance components, covariances",
            ("analysis", "random", "quantity", "value"),
            components,
            folded=True,
        )


def _intervals(caption: str, several: Sequence[tuple[Analysis, tuple[Interval, ...]]], folded: bool) -> Table:
    return Table(
        caption,
        ("of", "analysis", "random", "estimate", "SE", "df", "interval", "tested against", "statistic", "p"),
        tuple(
            (
                one.of,
                _method(analysis),
                str(analysis.random),
                number(one.estimate),
                number(one.se),
                degrees(one.df),
                f"{number(one.low)} to {number(one.high)}",
                "-" if math.isnan(one.null) else f"{one.null:g}",
                number(one.statistic),
                probability(one.p),
            )
            for analysis, intervals in several
            for one in intervals
        ),
        folded,
    )


def _forests(measured: Measured, result: Result, title: str, name: str) -> Iterator[Block]:
    if not measured.analyses:
        return
    for what, null in (("differences", 0.0), ("treatments", measured.chance)):
        rows = []
        for analysis in measured.analyses:
            rows += [
                Row(
                    f"{one.of}: {_method(analysis)}, {analysis.random} random",
                    one.estimate,
                    one.low,
                    one.high,
                )
                for one in getattr(analysis, what)
            ]
            if what == "treatments":
                break  # one analysis: the others differ in the width alone
        readers = next((one.by_reader for one in measured.analyses if one.by_reader), ())
        wanted = [one for one in readers if (" - " in one.of) == (what == "differences")]
        rows += [Row(f"reader {one.of}", one.estimate, one.low, one.high, strong=False) for one in wanted]
        if rows:
            text = "; ".join(f"{one.label} {number(one.estimate)}" for one in rows[:_ROWS])
            axis = f"difference of {measured.merit}" if what == "differences" else measured.merit
            figure = draw_forest(rows[:_ROWS], f"{title}: {what}", axis, null, None, result.notice)
            yield Drawing(f"{name}-{what}", text, figure)


# --- words and figures


def number(value: float) -> str:
    """Four decimals, two digits of what they do not show; a dash for what is not known."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.00005 else f"{value:.1e}"


def probability(value: float) -> str:
    """A p value: four decimals, "< 0.0001" below."""
    if math.isnan(value):
        return "-"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def degrees(value: float) -> str:
    """Degrees of freedom: whole numbers as such, others with two decimals."""
    if not math.isfinite(value):
        return number(value)
    return f"{value:.0f}" if value == round(value) else f"{value:.2f}"


def _method(analysis: Analysis) -> str:
    return f"{analysis.method}, {analysis.covariance}" if analysis.covariance else analysis.method


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "endpoint"


def _random(finding: Finding) -> Random:
    """What is random in the band: as in the first analysis, which decides; one reader is no sample."""
    if len(finding.endpoint.ratings.readers) == 1:
        return Random.CASES
    return next((one.random for measured in finding.measured for one in measured.analyses), Random.BOTH)
