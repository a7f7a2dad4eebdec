"""``scanward train``: recordings in, a signed bundle out."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from scanward import bundle, keys
from scanward.cli.inspect import write_report
from scanward.cli.output import Step, note, print_json, progress
from scanward.cli.train_report import report_of, show
from scanward.cli.trust import floor_of, signing_key
from scanward.commands import Command, Examination, Mode
from scanward.errors import BundleError, InputError, LearningError, SettingsError
from scanward.recordings import Recording, examinations, load_dialect, read
from scanward.recordings.protocols import read_protocol_book
from scanward.recordings.quarantine import refuse_unreviewed

_TRUST_HELP = """
Without --key the bundle is signed with a key of your own, made on first use in $XDG_DATA_HOME/scanward/keys
(or ~/.local/share/scanward/keys). `judge` and `explain` trust it, and every key that you have trained with;
whoever else is to use the bundle needs your .pub file for --trust.
"""


@click.command("train", short_help="Learn a scanner's normal commands.", epilog=_TRUST_HELP)
@click.argument(
    "recordings", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDINGS..."
)
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder of the bundle to make.")
@click.option(
    "--dialect", "dialect_path", type=click.Path(path_type=Path), help="How the tables are to be read (TOML)."
)
@click.option(
    "--budget",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.005,
    show_default=True,
    help="Share of clean examinations that may alert.",
)
@click.option("--key", "key_path", type=click.Path(path_type=Path), help="Private key to sign with.")
@click.option(
    "--site-key",
    "site_key_path",
    type=click.Path(path_type=Path),
    help="Key that identifiers are hashed with (scanward keys new --site-key).",
)
@click.option(
    "--protocol-book",
    "book_paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Approved protocols and approvals (DICOM), file or folder; may be repeated.",
)
@click.option("--include-qa", is_flag=True, help="Learn from QA and phantom scans too.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of it all."
)
@click.option(
    "--bundle-version",
    type=click.IntRange(1),
    help="Version of the bundle; must grow.  [default: the next one]",
)
@click.option(
    "--created",
    metavar="TIME",
    help="Date in the bundle, like 2026-01-31T12:00:00Z.  [default: of the newest command]",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write every rejected and duplicate entry as CSV."
)
@click.option("--force", is_flag=True, help="Let --report replace an existing file.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that read DICOM.  [default: by cores]")
@click.option("--json", "as_json", is_flag=True, help="Print what was learned as JSON.")
def train_command(
    recordings: tuple[Path, ...],
    model: Path,
    dialect_path: Path | None,
    budget: float,
    key_path: Path | None,
    site_key_path: Path | None,
    book_paths: tuple[Path, ...],
    include_qa: bool,
    seed: int,
    bundle_version: int | None,
    created: str | None,
    report: Path | None,
    force: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Learn a scanner's normal commands from RECORDINGS into a signed bundle.

    RECORDINGS are files and folders of dose reports, CT images and tables, of one role (commanded or
    performed), attack-free as far as you know. QA and phantom scans are left out. A quarter of the
    examinations, the latest, is kept for calibration: a budget that they cannot express is refused, with the
    number of examinations that it takes. The same input and seed give the same bundle.

    \b
    Example:
      scanward train recordings/ --model scanner-1
      scanward train export.csv --dialect site.toml --model scanner-1 --budget 0.01 --key site.key
      scanward train recordings/ --model scanner-1 --protocol-book protocols/ --json
    """
    if report is not None and report.exists() and not force:
        raise SettingsError("--report: the file exists", str(report), "give another name, or --force")
    refuse_unreviewed(recordings)
    # What can be wrong is looked at before minutes of work.
    key, key_file = signing_key(key_path)
    site_key = keys.load_site_key(site_key_path) if site_key_path else None
    dialect = load_dialect(dialect_path) if dialect_path else None
    from scanward.learning.bundling import check_created, facts_of
    from scanward.learning.fit import Settings, fit

    check_created(created)
    version = _version(model, bundle_version)
    book = read_protocol_book(book_paths, site_key) if book_paths else None
    with progress("reading") as step:

        def advance(done: int, total: int) -> None:
            step(1, f"reading ({total} files)")

        recording = read(
            list(recordings), dialect=dialect, site_key=site_key, progress=advance, workers=workers
        )
    if report is not None:
        write_report(report, recording)
    used = _used(recording, include_qa)
    with _Stages() as stages:
        fitted = fit(used, Settings(budget=budget, seed=seed), stages.tick, book=book)
    facts = facts_of(
        fitted,
        used,
        created=created,
        site_key=keys.site_key_fingerprint(site_key) if site_key else None,
        seed=seed,
        include_qa=include_qa,
        version=version,
    )
    manifest = bundle.write(model, fitted.onion.part(), facts, key)
    result = report_of(fitted.report, recording, manifest, model=model, key_file=key_file, seed=seed)
    if as_json:
        print_json(result)
        return
    show(result)
    note(f"bundle version {manifest.version} written to {model}, signed with {key_file}")


def _used(recording: Recording, include_qa: bool) -> list[Examination]:
    """The examinations to learn from; QA scans count as clinical ones only where asked for."""
    commands: list[Command] = list(recording.commands)
    roles = sorted({command.role for command in commands if command.mode is Mode.CLINICAL})
    if len(roles) > 1:
        raise InputError(
            f"the recordings mix roles ({' and '.join(roles)})",
            "RECORDINGS",
            "train one bundle for each, from recordings of that role alone",
        )
    if include_qa:
        commands = [replace(c, mode=Mode.CLINICAL) if c.mode is Mode.QA else c for c in commands]
    if not commands:
        first = recording.rejected[0].reason if recording.rejected else "nothing was read"
        raise InputError(
            f"there is no usable command (the first was rejected: {first})",
            "RECORDINGS",
            "see scanward inspect",
        )
    if not any(command.mode is Mode.CLINICAL for command in commands):
        raise LearningError(
            f"all {len(commands)} commands are QA, phantom or service scans",
            "RECORDINGS",
            "give clinical recordings, or --include-qa",
        )
    return examinations(commands)


def _version(model: Path, asked: int | None) -> int | None:
    """The version to write, None for the one after what lies in ``model``; refuses what the writer would.

    Without ``asked`` it is more than was ever accepted in this folder: a bundle that was removed or put back
    counts too.
    """
    accepted = floor_of(model, None).highest()
    if model.exists() and not model.is_dir():
        raise SettingsError("--model is a file", str(model), "name a folder")
    if model.is_dir() and any(model.iterdir()) and not (model / "manifest.json").exists():
        raise SettingsError("--model holds something else than a bundle", str(model), "name another folder")
    parent = next(path for path in model.absolute().parents if path.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise SettingsError("--model cannot be made there", str(parent), "choose a folder you can write to")
    try:
        present = bundle.read(model, trusted=None, unsafe_any_key=True).manifest.version
    except BundleError:  # none there, or a damaged one on which the writer will have its own word
        present = 0
    if asked is not None and asked <= present:
        raise SettingsError(
            f"--bundle-version {asked} is not larger than version {present}, which is in place",
            str(model),
            f"give {present + 1}, or leave it out",
        )
    if asked is not None:
        return asked
    return accepted + 1 if accepted > present else None


class _Stages:
    """Progress of `fit`: a bar for each stage, begun again when a stage comes round again."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._stage, self._share = "", 0.0
        self._step: Step | None = None

    def __enter__(self) -> _Stages:
        self._outer = progress("training")
        self._outer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        self._outer.__exit__(*error)

    def tick(self, stage: str, share: float) -> None:
        """``share`` of ``stage`` is done."""
        if self._step is None or stage != self._stage or share < self._share:
            self._stack.close()
            self._stack = ExitStack()
            self._step = self._stack.enter_context(progress(stage, total=100))
            self._stage, self._share = stage, 0.0
        self._step(100 * (share - self._share))
        self._share = share
