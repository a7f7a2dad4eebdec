"""``scanward detect``: is a mammogram genuine, and where not. ``scanward detect train`` makes the detector."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.detect_train import train_command
from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import InputError, LeakError, ScanwardError, SettingsError

if TYPE_CHECKING:
    from scanward.forensics.examining import Detector, Found
    from scanward.forensics.fetching import ByGet, ByMove
    from scanward.forensics.fetching_web import WebArchive
    from scanward.tampering.originals import Original

_PATH = click.Path(path_type=Path)
_PEER = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@\s]+):(?P<port>\d{1,5})")
_COLUMNS = (
    "file", "patient", "alarm", "p_value", "likelihood_ratio", "probability", "false_alarms", "words",
)  # fmt: skip


class DetectGroup(click.Group):
    """A group whose first word may be a picture: then ``examine`` is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with ``examine`` put before what is no command of the group."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["examine", *args]
        return super().parse_args(ctx, args)


@click.group("detect", cls=DetectGroup, short_help="Tell altered mammograms from genuine ones.")
def detect_group() -> None:
    """Tell altered mammograms from genuine ones: `scanward detect IMAGES --model RUN` (see examine).

    What it says is evidence, no proof, and not for diagnosis.

    \b
    Example:
      scanward detect train --data phantoms/ --runs generator/ --out detector/
      scanward detect examine images/ --model detector/ --out found/
    """


@click.command("examine", short_help="Examine pictures: the word may be left out.")
@click.argument("images", nargs=-1, type=_PATH, metavar="[IMAGES]...")
@click.option(
    "--model",
    type=_PATH,
    default=Path("detector"),
    show_default=True,
    help="Folder of a detector (scanward detect train).",
)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Share of genuine women that may be alarmed at.",
)
@click.option(
    "--prior",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of altered pictures beforehand: without it no probability is told.",
)
@click.option("--out", type=_PATH, help="Folder of heat maps (PNG) and detect.json.")
@click.option("--dicom", is_flag=True, help="Into --out, also a heat map and a report as DICOM.")
@click.option("--csv", "csv_path", type=_PATH, help="Write one row for each picture.")
@click.option("--study", metavar="UID", help="Examine this study, fetched from an archive.")
@click.option(
    "--from", "archive", metavar="AE@HOST:PORT|URL", help="The archive: C-GET, or DICOMweb at a URL."
)
@click.option("--move", metavar="HOST:PORT", help="C-MOVE instead: where the archive calls us back.")
@click.option("--title", default="SCANWARD", show_default=True, help="Our AE title.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def examine_command(
    images: tuple[Path, ...],
    model: Path,
    false_alarms: float,
    prior: float | None,
    out: Path | None,
    dicom: bool,
    csv_path: Path | None,
    study: str | None,
    archive: str | None,
    move: str | None,
    title: str,
    as_json: bool,
) -> None:
    """Say of each picture how strange it is among genuine ones, whether that is an alarm, and where.

    IMAGES are DICOM, PNG, TIFF or PGM files, folders of them, or data sets. The p-value is the share of genuine women
    with a picture at least as strange; at --false-alarms or less it is an alarm. A rate that the detector's
    calibration cannot express is refused, and so are women whom it learned from.

    \b
    Example:
      scanward detect examine images/ --model detector/ --out found/ --csv found.csv
      scanward detect examine case.dcm --model detector/ --prior 0.001 --out found/ --dicom
      scanward detect examine --study 1.2.840.1 --from ORTHANC@127.0.0.1:4242 --model detector/ --json
    """
    if bool(images) == bool(study):
        raise SettingsError(
            "nothing to examine" if not images else "pictures and a study", "IMAGES", "give one"
        )
    if bool(study) != bool(archive):
        raise SettingsError("a study and its archive belong together", "--from", "give --study and --from")
    if move and not archive:
        raise SettingsError("--move needs an archive", "--move", "give --study and --from")
    if dicom and out is None:
        raise SettingsError("--dicom needs a folder", "--dicom", "give --out")
    from scanward.forensics import verdicts
    from scanward.forensics.examining import Detector

    detector = Detector.load(model)
    verdicts.require(detector.calibration, false_alarms)
    if detector.facts.phantom:
        note("this detector learned from phantoms: what it says of patients' pictures is worth nothing")
    if study and archive:
        with _fetched(study, _source(archive, move, title)) as folder:
            rows, failed = _examined([folder], detector, false_alarms, prior, out, dicom=dicom)
    else:
        rows, failed = _examined(images, detector, false_alarms, prior, out, dicom=dicom)
    if failed and not rows:
        raise type(failed[0])(
            f"none of {len(failed)} pictures could be examined, the first: {failed[0].what}",
            failed[0].where,
            failed[0].todo,
        )
    alarms = sum(bool(row["alarm"]) for row in rows)
    told: dict[str, Any] = {
        "model": detector.fingerprint,
        "false_alarms": false_alarms,
        "examined": len(rows),
        "alarms": alarms,
        "images": rows,
        "failed": [one.as_json() for one in failed],
    }
    if out is not None:
        _written(out / "detect.json", told)
    if csv_path is not None:
        _write_csv(csv_path, rows)
    if as_json:
        print_json(told)
    else:
        _print(rows, failed)


def _examined(
    images: Sequence[Path],
    detector: Detector,
    false_alarms: float,
    prior: float | None,
    out: Path | None,
    *,
    dicom: bool,
) -> tuple[list[dict[str, Any]], list[ScanwardError]]:
    from scanward.mammography.manifest import Label
    from scanward.tampering import originals

    items = originals.find(images, list(Label), out)
    rows: list[dict[str, Any]] = []
    failed: list[ScanwardError] = []
    names: set[str] = set()
    with progress("examining", total=len(items)) as step:
        for item in items:
            try:
                original = originals.read(item)
                detector.check_unseen([original])
                found = detector.examine_original(original, false_alarms=false_alarms, prior=prior)
                row = _row(found, original)
                if out is not None:
                    row |= _pictures(found, original, out, detector.fingerprint, names, dicom=dicom)
                rows.append(row)
            except LeakError:
                raise
            except ScanwardError as error:
                failed.append(error)
            step()
    return rows, failed


def _row(found: Found, original: Original) -> dict[str, Any]:
    return {
        "file": str(original.path),
        "patient": original.image.patient if original.image is not None else None,
        "alarm": found.alarm,
        "p_value": found.p_value,
        "likelihood_ratio": found.likelihood_ratio,
        "probability": found.probability,
        "false_alarms": found.false_alarms,
        "words": list(found.words),
        "remarks": list(original.remarks),
    }


def _pictures(
    found: Found, original: Original, out: Path, model: str, names: set[str], *, dicom: bool
) -> dict[str, str]:
    from scanward.forensics.overlays import write_overlay

    stem = re.sub(r"[^A-Za-z0-9._-]", "_", original.path.stem)[:100] or "picture"
    name, count = stem, 1
    while name in names:
        count += 1
        name = f"{stem}-{count}"
    names.add(name)
    made = {"heat": str(write_overlay(found, original, out / "heat" / f"{name}.png"))}
    if dicom and original.medium == "dicom":
        from scanward.forensics.dicom_outputs import write_heat_map, write_report

        _folder(out / "dicom")
        source = original.path
        made["dicom_heat"] = str(write_heat_map(found, source, out / "dicom" / f"{name}-heat.dcm", model))
        made["dicom_report"] = str(write_report(found, source, out / "dicom" / f"{name}-report.dcm", model))
    return made


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", str(path), "give another folder") from error


def _written(path: Path, told: dict[str, Any]) -> None:
    import json

    from scanward.tampering.marking import write_whole

    _folder(path.parent)
    try:
        write_whole(path, json.dumps(told, indent=1).encode() + b"\n")
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(path), "give another folder") from error


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                plain = {**row, "words": " ".join(row["words"])}
                # a spreadsheet takes what begins so for a formula
                writer.writerow(
                    {
                        k: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@\t" and v else v
                        for k, v in plain.items()
                    }
                )
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(path), "give another file") from error


def _print(rows: Sequence[dict[str, Any]], failed: Sequence[ScanwardError]) -> None:
    ordered = sorted(rows, key=lambda row: float(row["p_value"]))
    print_table(
        ("file", "alarm", "p", "likelihood ratio", "probability"),
        [
            (
                r["file"],
                r["alarm"],
                *(_short(r[name]) for name in ("p_value", "likelihood_ratio", "probability")),
            )
            for r in ordered
        ],
        caption=f"{len(rows)} examined, {sum(bool(r['alarm']) for r in rows)} alarms, {len(failed)} not examined",
    )
    for row in [r for r in ordered if r["alarm"]][:20]:
        note(f"{row['file']}: {' '.join(row['words'])}")
    for one in failed[:20]:
        note(str(one))


@contextmanager
def _fetched(study: str, source: ByGet | ByMove | WebArchive) -> Iterator[Path]:
    """The study in a folder that goes away again."""
    from scanward.forensics.fetching import fetch_study

    with tempfile.TemporaryDirectory(prefix="scanward-") as made:
        folder = Path(made) / "study"
        with progress("fetching") as step:
            fetch_study(source, study, folder, progress=lambda done, total: step(1, f"fetching ({done})"))
        yield folder


def _source(archive: str, move: str | None, title: str) -> ByGet | ByMove | WebArchive:
    from scanward.forensics.fetching import ByGet, ByMove
    from scanward.forensics.fetching_web import WebArchive
    from scanward.transport.dicom import Peer

    if archive.startswith(("http://", "https://")):
        if move:
            raise SettingsError("DICOMweb knows no C-MOVE", "--move", "leave it out")
        return WebArchive(archive)
    match = _PEER.fullmatch(archive)
    if match is None:
        raise SettingsError(
            f"'{archive}' is no archive", "--from", "write AE@HOST:PORT, or a URL of DICOMweb"
        )
    peer = Peer(match["host"], _port(match["port"], "--from"), match["title"])
    if move is None:
        return ByGet(peer, title)
    host, _, port = move.rpartition(":")
    if not host:
        raise SettingsError(f"'{move}' is no address", "--move", "write HOST:PORT")
    return ByMove(peer, title, (host, _port(port, "--move")))


def _port(text: str, option: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise SettingsError(f"'{text}' is no port", option, "give 1 to 65535")
    return int(text)


detect_group.add_command(examine_command)
detect_group.add_command(train_command)


def _short(number: Any) -> str:
    """Two figures for a table; CSV and JSON have all of them."""
    return "" if number in (None, "") else f"{float(number):.2g}"
