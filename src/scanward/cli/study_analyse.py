"""``scanward study analyse``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import InputError, SettingsError

if TYPE_CHECKING:
    from scanward.reading.findings import Finding, Measured, Result
    from scanward.reading.mrmc.results import Analysis, Interval
    from scanward.reading.mrmc.table import Table
    from scanward.reading.protocol import Design

RANDOMS = {"both": "readers and cases", "cases": "cases", "readers": "readers"}


@click.command("analyse", short_help="Analyse ratings: multi-reader multi-case.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--study",
    type=click.Path(path_type=Path),
    help="Folder of the study: its hypotheses are what is decided.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(["OR", "DBM", "U"], case_sensitive=False),
    help="OR (Obuchowski-Rockette), DBM (Dorfman-Berbaum-Metz), U (one-shot U-statistic); repeatable.  [default: all]",
)
@click.option(
    "--covariance",
    "covariances",
    multiple=True,
    type=click.Choice(["jackknife", "delong", "unbiased", "bootstrap"]),
    help="How the covariances of OR are estimated; repeatable.  [default: all but the bootstrap]",
)
@click.option(
    "--random",
    "randoms",
    multiple=True,
    type=click.Choice(list(RANDOMS)),
    help="What is a sample of a population; repeatable.  [default: all]",
)
@click.option(
    "--merit",
    "merits",
    multiple=True,
    metavar="NAME",
    help="empirical, binormal, partial:LOW-HIGH (of false positive rates), partial-tpr:LOW-HIGH, "
    "binormal-partial:LOW-HIGH, binormal-partial-tpr:LOW-HIGH, sensitivity:CUT, specificity:CUT; repeatable.  "
    "[default: empirical; binormal too on a scale of at most 20 points]",
)
@click.option("--treatments", metavar="A,B", help="Only these treatments, in this order.")
@click.option(
    "--equivalence",
    metavar="LOW,HIGH",
    help="Test equivalence: of differences where 0 lies between the two, else of each treatment (0.45,0.55).",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    help="Test that no treatment is worse than the first by more than this.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    help="Of what is tested; with --study the protocol's holds.  [default: 0.05]",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence level of intervals.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Which column of FILE is the reader, treatment, case, truth, rating or patient; repeatable.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write a report: a folder (HTML, PDF, plots, JSON), or a file ending in .html, .pdf or .svg.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Tables of every method and figure of merit; without it those of the first. --json and --report have all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every figure at full precision as JSON.")
def analyse_command(
    file: Path,
    study: Path | None,
    methods: tuple[str, ...],
    covariances: tuple[str, ...],
    randoms: tuple[str, ...],
    merits: tuple[str, ...],
    treatments: str | None,
    equivalence: str | None,
    margin: float | None,
    alpha: float | None,
    level: float,
    columns: tuple[str, ...],
    report: Path | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Analyse ratings of many readers of many cases: figures of merit, comparisons, and what may be claimed.

    FILE is the table of `scanward study export`, any CSV or TSV with the columns reader, treatment, case, truth, rating
    (and patient, where a patient has several cases), or an .imrmc file. Claims are tested with the first method, the
    first covariance, the first of what is random and the first figure of merit, and Holm-corrected over the primary
    ones. docs/mrmc.md has the formulae.

    \b
    Example:
      scanward study analyse ratings.csv --all
      scanward study analyse export.csv --study study/ --report report/
      scanward study analyse ratings.csv --merit empirical --merit sensitivity:3 --margin 0.05 --json
    """
    from scanward.reading import analysing
    from scanward.reading.mrmc.results import Covariance, Random
    from scanward.reading.mrmc.table import read_table

    if (equivalence or margin) and study:
        raise SettingsError(
            "claims of their own beside those of a study",
            "--equivalence, --margin",
            "leave out --study to test others than were fixed before reading",
        )
    if study and alpha is not None:
        raise SettingsError("another alpha than the study's", "--alpha", "leave it out: the protocol's holds")
    request = analysing.Request(
        methods=tuple(name.upper() for name in methods) or analysing.METHODS,
        covariances=tuple(Covariance(name) for name in covariances) or analysing.COVARIANCES,
        randoms=tuple(Random(RANDOMS[name]) for name in randoms) or analysing.RANDOMS,
        merits=merits,
        level=level,
        alpha=0.05 if alpha is None else alpha,
        treatments=tuple(name.strip() for name in treatments.split(",")) if treatments else None,
        equivalence=pair("--equivalence", equivalence) if equivalence else None,
        margin=margin,
    )
    table = read_table(file, _columns(columns))
    design, frozen = _design(study, table) if study else (None, "")
    with progress("analysing", total=analysing.pieces(table, request)) as step:
        result = analysing.analyse(table, request, design=design, step=lambda what: step(1, what))
    if report:
        from scanward.reading.report import write_report

        with progress("writing the report"):
            write_report(result, report, frozen)
    if as_json:
        print_json(result.as_json())
    else:
        _print(result, everything)
    if report:
        note(f"report written to {report}")


def pair(option: str, text: str) -> tuple[float, float]:
    """Two numbers, the lower first: ``0.45,0.55``. Raises `SettingsError`."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{text[:40]!r}", option, "give two numbers, such as 0.45,0.55") from None
    if not low < high:
        raise SettingsError(f"{text[:40]!r}", option, "give the lower number first")
    return low, high


def _columns(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, column = text.partition("=")
        if not equals or not column:
            raise SettingsError(f"{text[:80]!r}", "--column", "give it as reader=COLUMN")
        found[name.strip()] = column.strip()
    return found


def _design(folder: Path, table: Table) -> tuple[Design, str]:
    """The design of the study that the table is of, and the hash of its protocol."""
    from scanward.reading.opened import open_study

    study = open_study(folder, pictures=False)
    protocol = study.protocol
    known = {picture.identifier for picture in protocol.pictures}
    for row, picture in enumerate(table.columns.get("picture", ())):
        if picture not in known:
            raise InputError(
                f"picture '{picture[:40]}' is none of the study '{protocol.design.title}'",
                table.where(row),
                "give the export of that study",
            )
    return protocol.design, study.sha256


# --- tables for people


def _print(result: Result, everything: bool) -> None:
    """What may be claimed first, then each endpoint; the main method alone unless all are wanted."""
    mark = "SIMULATED  " if result.simulated else ""
    left_out = 0
    _print_decisions(result, mark)
    for finding in result.findings:
        for measured in finding.measured if everything else finding.measured[:1]:
            chosen = measured if everything else _main(measured)
            left_out += len(measured.analyses) - len(chosen.analyses)
            head = f"{mark}{finding.endpoint.name}: {measured.merit}"
            _print_cells(finding, chosen, head, result.notice)
            _print_overall(chosen, head, result.notice)
            _print_intervals(chosen, head, result.notice)
        left_out += 0 if everything else sum(len(one.analyses) for one in finding.measured[1:])
    if left_out:
        note(
            f"{left_out} further analyses by other methods, covariances or figures of merit: --all, --json, --report"
        )
    warnings = list(_warnings(result))
    if warnings:
        print_table(
            ("where", "to know before believing this"),
            warnings,
            title=f"{mark}warnings",
            caption=result.notice,
        )


def _main(measured: Measured) -> Measured:
    """The first method with its first covariances, whatever is random."""
    first = measured.analyses[0] if measured.analyses else None
    kept = tuple(
        one
        for one in measured.analyses
        if first and (one.method, one.covariance) == (first.method, first.covariance)
    )
    return replace(measured, analyses=kept)


def _print_decisions(result: Result, mark: str) -> None:
    if result.decisions:
        rows = [
            (
                one.endpoint,
                one.of,
                one.aim,
                one.estimate,
                f"{100 * one.level:g} %: {one.lower:.4f} to {one.upper:.4f}",
                f"{one.low:g} to {one.high:g}" if one.low != one.high else f"not {one.low:g}",
                one.p,
                one.adjusted_p,
                "shown" if one.shown else "not shown",
            )
            for one in result.decisions
        ]
        print_table(
            ("endpoint", "of", "to be shown", "estimate", "interval", "bounds", "p", "Holm's p", "verdict"),
            rows,
            title=f"{mark}claims, alpha {result.decisions[0].alpha:g}, by {result.decided_by}",
            caption=result.notice,
        )


def _print_cells(finding: Finding, measured: Measured, head: str, notice: str) -> None:
    ratings = finding.endpoint.ratings
    of = {(cell.reader, cell.treatment): cell for cell in measured.cells}
    rows: list[list[object]] = []
    for reader in ratings.readers:
        row: list[object] = [reader]
        for treatment in ratings.treatments:
            cell = of[reader, treatment]
            row += [cell.value, cell.se, f"{cell.positives}/{cell.negatives}"]
        rows.append(row)
    means = measured.means
    rows.append(["mean", *(item for name in ratings.treatments for item in (means[name], None, ""))])
    columns = ["reader"]
    for name in ratings.treatments:
        columns += [name, "s.e. (cases)", "pos/neg"]
    positives = int(ratings.truth.sum())
    size = (
        f"{len(ratings.cases)} cases ({positives} {finding.endpoint.positive}, {len(ratings.cases) - positives} not) "
        f"of {len(ratings.patients)} patients"
    )
    print_table(columns, rows, title=f"{head} by reader: {size}", caption=notice)


def _print_overall(measured: Measured, head: str, notice: str) -> None:
    rows = [
        (
            *_names(one),
            one.overall.statistic,
            one.overall.value,
            one.overall.df1,
            one.overall.df2,
            one.overall.p,
        )
        for one in measured.analyses
        if one.overall is not None
    ]
    if rows:
        columns = ("method", "covariances", "random", "statistic", "value", "df1", "df2", "p")
        print_table(columns, rows, title=f"{head}, all treatments equal?", caption=notice)


def _print_intervals(measured: Measured, head: str, notice: str) -> None:
    """Differences by every method; single treatments and readers by the first of each choice of what is random."""
    first: dict[str, Analysis] = {}
    for one in measured.analyses:
        first.setdefault(one.random, one)
    rows = [(*_names(one), *_interval(line)) for one in measured.analyses for line in one.differences]
    rows += [
        (*_names(one), *_interval(line))
        for one in first.values()
        for line in (*one.treatments, *one.by_reader)
    ]
    if rows:
        level = measured.analyses[0].treatments[0].level if measured.analyses[0].treatments else 0.95
        columns = (
            "method",
            "covariances",
            "random",
            "of",
            "estimate",
            "s.e.",
            "df",
            "low",
            "high",
            "null",
            "p",
        )
        print_table(columns, rows, title=f"{head}, {100 * level:g} % intervals", caption=notice)


def _names(one: Analysis) -> tuple[str, str, str]:
    return one.method, one.covariance, str(one.random)


def _interval(line: Interval) -> tuple[object, ...]:
    return line.of, line.estimate, line.se, line.df, line.low, line.high, line.null, line.p


def _warnings(result: Result) -> Iterator[tuple[str, str]]:
    """Every warning once, with the endpoints it is about."""
    where: dict[str, dict[str, None]] = {text: {} for text in result.warnings}
    for finding in result.findings:
        texts = list(finding.warnings)
        for measured in finding.measured:
            for one in measured.absent:
                what = " ".join(part for part in (one.method, one.covariance) if part)
                texts.append(f"{measured.merit} without {what}: {one.why}")
            texts += [text for analysis in measured.analyses for text in analysis.warnings]
        for text in texts:
            where.setdefault(text, {})[finding.endpoint.name] = None
    for text, names in where.items():
        yield ("all" if len(names) == len(result.findings) > 1 else "; ".join(names)), text
