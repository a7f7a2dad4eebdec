"""``scanward judge``: one verdict per command, in the order of the input."""

from __future__ import annotations

import csv
import io
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from scanward import keys
from scanward.cli.output import escape, note, print_json, print_table, progress, quiet
from scanward.cli.trust import open_bundle
from scanward.commands import Verdict
from scanward.errors import SettingsError
from scanward.recordings import Recording, load_dialect, read

COLUMNS = ("row", "verdict", "p_value", "layer", "fields", "reason")
ORIGIN_COLUMNS = ("file", "file_row")
FOUND = 3  # exit status of --fail-on: neither a failure nor bad input
_POOL_FROM = 4000  # commands from which processes of their own pay: each takes some seconds to start

_Command = TypeVar("_Command", bound=Callable[..., Any])

_VERDICTS_HELP = """
A cell that begins with = + - @ or a tab gets an apostrophe in front, so that no spreadsheet runs it. QA scans
are judged like any other command: a command is not believed when it says that it is one.
"""


def reading_options(function: _Command) -> _Command:
    """The options of every command that judges recordings with a bundle."""
    for option in reversed(
        (
            click.argument(
                "recordings",
                nargs=-1,
                required=True,
                type=click.Path(path_type=Path),
                metavar="RECORDINGS...",
            ),
            click.option(
                "--model", required=True, type=click.Path(path_type=Path), help="Folder of the bundle."
            ),
            click.option(
                "--dialect",
                "dialect_path",
                type=click.Path(path_type=Path),
                help="How the tables are to be read (TOML).",
            ),
            click.option(
                "--site-key",
                "site_key_path",
                type=click.Path(path_type=Path),
                help="Key that identifiers are hashed with; the one of training.",
            ),
            click.option(
                "--trust",
                multiple=True,
                type=click.Path(path_type=Path),
                help="Public key to trust beside your own; may be repeated.",
            ),
            click.option(
                "--unsafe-any-key", is_flag=True, help="Take a bundle whoever signed it. Not for a scanner."
            ),
            click.option(
                "--versions",
                type=click.Path(path_type=Path),
                help="File of the versions accepted so far.  [default: your own, one for each folder]",
            ),
            click.option(
                "--unsafe-any-version",
                is_flag=True,
                help="Take a bundle older than one accepted before. Not for a scanner.",
            ),
        )
    ):
        function = option(function)
    return function


@click.command("judge", short_help="Judge commands: one verdict per command.", epilog=_VERDICTS_HELP)
@reading_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    help="CSV of verdicts.  [default: standard output]",
)
@click.option("--force", is_flag=True, help="Let --out replace a file that is no table of verdicts.")
@click.option(
    "--with-origin", is_flag=True, help="Add the columns file and file_row: where each row was read."
)
@click.option(
    "--fail-on",
    type=click.Choice(["alert", "halt"]),
    help=f"Exit with status {FOUND} when a verdict is this grave (halt), or at least (alert).",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes that judge.  [default: by size and cores]"
)
@click.option("--json", "as_json", is_flag=True, help="Print summary (and verdicts, without --out) as JSON.")
@click.pass_context
def judge_command(
    context: click.Context,
    recordings: tuple[Path, ...],
    model: Path,
    dialect_path: Path | None,
    site_key_path: Path | None,
    trust: tuple[Path, ...],
    unsafe_any_key: bool,
    versions: Path | None,
    unsafe_any_version: bool,
    out: Path | None,
    force: bool,
    with_origin: bool,
    fail_on: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Judge every command of RECORDINGS with a bundle: one row per command, in input order.

    The columns are row (0-based, over all files), verdict (RELEASE, ALERT or HALT), p_value, layer, fields
    and reason. A row that cannot be read gets HALT by layer form with its reason; none is dropped. The order
    of rows changes no verdict: commands are judged examination by examination in order of time. Alerts are
    no failure: the exit status is 0 unless --fail-on says otherwise.

    \b
    Example:
      scanward judge today.csv --model scanner-1 --out verdicts.csv
      scanward judge reports/ --model scanner-1 --trust site.pub --fail-on alert
      scanward judge today.csv --model scanner-1 --json
    """
    from scanward.bundle.judging import Docket, Row, judge_groups, refuse_misfit

    target = None if out is None or str(out) == "-" else out
    if target is not None:
        _refuse_target(target, recordings, force)
    bundle = open_bundle(
        model, trust, any_key=unsafe_any_key, versions=versions, any_version=unsafe_any_version
    )
    site_key = keys.load_site_key(site_key_path) if site_key_path else None
    recording = read_recording(recordings, dialect_path, site_key)
    fingerprint = keys.site_key_fingerprint(site_key) if site_key else None
    notes = [*recording.notes, *refuse_misfit(bundle.manifest, recording, fingerprint)]
    docket = Docket(bundle.manifest, recording)
    with progress("judging", total=docket.total) as step:
        last = 0

        def advance(done: int, total: int) -> None:
            nonlocal last
            step(done - last)
            last = done

        found = judge_groups(
            bundle.part, docket.groups, workers=workers or _workers(docket.total), progress=advance
        )
    counts: Counter[Verdict] = Counter()
    layers: Counter[str] = Counter()

    def counted() -> Iterable[Row]:
        for row in docket.rows(found):
            counts[row.answer.verdict] += 1
            if row.answer.layer is not None:
                layers[row.answer.layer.value] += 1
            yield row

    verdicts: list[dict[str, Any]] = []
    if target is not None:
        _write_whole(target, counted(), with_origin)
    elif as_json:
        verdicts = [_as_json(row, with_origin) for row in counted()]
    else:
        _write_rows(_Stdout(), counted(), with_origin)
    summary = {
        "model": str(model),
        "version": bundle.manifest.version,
        "digest": bundle.manifest.digest,
        "books": recording.books(),
        "notes": notes,
        "rows": counts.total(),
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "layers": dict(sorted(layers.items())),
        "out": str(target) if target is not None else None,
    }
    if as_json:
        print_json(summary if target is not None else {**summary, "verdicts": verdicts})
    else:
        _show(summary)
    grave = counts[Verdict.HALT] + (counts[Verdict.ALERT] if fail_on == "alert" else 0)
    if fail_on and grave:
        context.exit(FOUND)


def read_recording(
    recordings: Sequence[Path], dialect_path: Path | None, site_key: bytes | None
) -> Recording:
    """Read the recordings to be judged, with a bar."""
    dialect = load_dialect(dialect_path) if dialect_path else None
    with progress("reading") as step:

        def advance(done: int, total: int) -> None:
            step(1, f"reading ({total} files)")

        return read(list(recordings), dialect=dialect, site_key=site_key, progress=advance)


def harmless(text: str) -> str:
    """Text for a cell: on one line, and nothing that a spreadsheet would run (CWE-1236)."""
    shown = escape(text.replace("\t", " ") if not text.startswith("\t") else text)
    return f"'{shown}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else shown


def _workers(commands: int) -> int:
    return 1 if commands < _POOL_FROM else min(os.cpu_count() or 1, 8)


def _cells(row: Any, with_origin: bool) -> list[Any]:
    given = row.answer
    cells: list[Any] = [
        row.row,
        given.verdict.value,
        "" if given.p_value is None else f"{given.p_value:.6g}",
        given.layer.value if given.layer else "",
        harmless(" ".join(given.fields)),
        harmless(given.reason),
    ]
    return [*cells, harmless(row.origin.path), row.origin.row] if with_origin else cells


def _as_json(row: Any, with_origin: bool) -> dict[str, Any]:
    given = row.answer
    found = {
        "row": row.row,
        "verdict": given.verdict,
        "p_value": given.p_value,
        "layer": given.layer,
        "fields": list(given.fields),
        "reason": given.reason,
    }
    return {**found, "file": row.origin.path, "file_row": row.origin.row} if with_origin else found


def _write_rows(file: Any, rows: Iterable[Any], with_origin: bool) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*COLUMNS, *ORIGIN_COLUMNS) if with_origin else COLUMNS)
    for row in rows:
        writer.writerow(_cells(row, with_origin))


class _Stdout(io.TextIOBase):
    """Standard output as it is now: what `CliRunner` and a closed pipe put in its place."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)


def _write_whole(target: Path, rows: Iterable[Any], with_origin: bool) -> None:
    """All rows or the file that was there: half a table of verdicts must not be taken for a whole one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sibling = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with sibling.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            _write_rows(file, rows, with_origin)
        sibling.replace(target)
    finally:
        sibling.unlink(missing_ok=True)


def _refuse_target(target: Path, recordings: Sequence[Path], force: bool) -> None:
    """A table of verdicts may be replaced by the next one; anything else only with --force."""
    if target.is_dir():
        raise SettingsError("--out is a folder", str(target), "name a file in it")
    if not target.exists():
        return
    if any(path.exists() and path.samefile(target) for path in recordings):
        raise SettingsError(
            "--out would replace a recording that is to be judged", str(target), "name another"
        )
    if force or not target.is_file():
        return
    with target.open("rb") as file:
        head = file.read(64)
    if head and not head.startswith(",".join(COLUMNS).encode()):
        raise SettingsError(
            "--out: the file exists and is no table of verdicts", str(target), "give another name, or --force"
        )


def _show(summary: dict[str, Any]) -> None:
    """The summary on standard error: the verdicts may be on standard output."""
    if quiet():
        return
    print_table(
        ("rows", *(verdict.value for verdict in Verdict)),
        [(summary["rows"], *summary["counts"].values())],
        title="Verdicts",
        stderr=True,
    )
    if summary["layers"]:
        print_table(("decided by layer", "rows"), summary["layers"].items(), stderr=True)
    for text in summary["notes"]:
        note(f"note: {text}")
    if summary["out"]:
        note(f"verdicts written to {summary['out']}")
