"""``scanward sign``: DICOM digital signatures into files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import InputError, ScanwardError, SettingsError

if TYPE_CHECKING:
    from scanward.signatures import Signer

_MAGIC = (128, b"DICM")
_NAMES = (".dcm", ".dicom", ".ima")
# What a data set without a preamble begins with: group 0002 or 0008, a number, then a VR or a length. Other readers
# show such files, so they are none that may be left alone.
_BARE = re.compile(rb"(?s)(?:[\x02\x08]\0[\x00-\x40]\0|\0[\x02\x08]\0[\x00-\x40])(?:[A-Z]{2}|..\0\0)")


@click.command("sign", short_help="Sign DICOM files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="Private key, PEM or DER: RSA, or ECDSA."
)
@click.option(
    "--cert",
    "certificate",
    required=True,
    type=click.Path(path_type=Path),
    help="Its certificate, PEM or DER.",
)
@click.option(
    "--profile",
    type=click.Choice(["base", "creator", "authorization"]),
    default="base",
    show_default=True,
    help="What is signed: all of it; all but what a hospital may correct; all, as an approver.",
)
@click.option(
    "--mac",
    type=click.Choice(["SHA256", "SHA384", "SHA512"]),
    default="SHA256",
    show_default=True,
    help="Digest of the signature.",
)
@click.option(
    "--timestamp", metavar="URL", help="A timestamp authority (RFC 3161) that is asked for each signature."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A file, or a folder. Without it files are signed in place.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was signed as JSON.")
def sign_command(
    files: tuple[Path, ...],
    key: Path,
    certificate: Path,
    profile: str,
    mac: str,
    timestamp: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Add a digital signature to each of FILES (PS3.15 annex C): DICOM files, or folders of them.

    Everything else in a file stays byte for byte, and signatures that it has stay good. A file is replaced when the new
    one is whole and on the disk, never before. Files in folders that are no DICOM are left alone. A password of the key
    is read from SCANWARD_KEY_PASSPHRASE, or asked for.

    RSA is what the standard's profiles have; ECDSA works and is outside of them.

    \b
    Example:
      openssl req -x509 -newkey rsa:3072 -nodes -keyout ct1.key -out ct1.pem -days 825 -subj "/CN=CT 1"
      scanward sign study/ --key ct1.key --cert ct1.pem
      scanward sign image.dcm --key ct1.key --cert ct1.pem --profile creator --out signed.dcm
    """
    from scanward.signatures import sign_files
    from scanward.signatures.files import DRAFT

    signer = _signer(key, certificate, profile, mac, timestamp)
    work, left = found_in(files, but=DRAFT)
    if out is None:  # one file by two names is signed once
        work = list({path.resolve(): path for path in reversed(work)}.values())[::-1]
    targets = _targets(files, work, out)
    done: list[dict[str, str]] = []
    failed: list[ScanwardError] = []
    with progress("signing", total=len(work)) as step:
        for path, target, error in sign_files(zip(work, targets, strict=True), signer):
            if error is None:
                done.append({"file": str(path), "signed": str(target)})
            else:
                failed.append(error)
            step()
    if as_json:
        print_json({"signed": done, "failed": [one.as_json() for one in failed], "left": left})
    else:
        print_table(("signed", "not signed", "no DICOM"), [(len(done), len(failed), left)])
        for one in failed[:20]:
            note(str(one))
    if failed:
        raise type(failed[0])(
            f"{len(failed)} of {len(work)} were not signed, the first: {failed[0].what}",
            failed[0].where,
            failed[0].todo,
        )


def _signer(key: Path, certificate: Path, profile: str, mac: str, timestamp: str | None) -> Signer:
    import sys

    from scanward.errors import KeyFileError
    from scanward.keys import passphrase_from_environment
    from scanward.signatures import Signer, TimestampAuthority

    stamps = TimestampAuthority(timestamp) if timestamp else None
    password = passphrase_from_environment()
    try:
        return Signer.load(key, certificate, password=password, profile=profile, mac=mac, timestamps=stamps)
    except KeyFileError as error:
        if password is not None or "needs a password" not in error.what or not sys.stdin.isatty():
            raise
    asked = click.prompt(f"Password of {key}", hide_input=True, err=True).encode()
    return Signer.load(key, certificate, password=asked, profile=profile, mac=mac, timestamps=stamps)


def found_in(paths: Sequence[Path], *, but: str | None = None) -> tuple[list[Path], int]:
    """Files as they are named, and the DICOM files of folders in order; how many others lie there.

    ``but``: names in folders that begin so are others, too.

    InputError for a path that is not there.
    """
    found, left = [], 0
    for path in paths:
        if not path.exists():
            raise InputError("no such file or folder", str(path), "check the path")
        if not path.is_dir():
            found.append(path)
            continue
        for one in _files(path):
            if not (but and one.name.startswith(but)) and _is_dicom(one):
                found.append(one)
            else:
                left += 1
    return found, left


def _files(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(inside) / name
            if path.is_file():
                yield path


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.read(_MAGIC[0] + 4)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check who may read it") from error
    said = head[_MAGIC[0] :] == _MAGIC[1] or path.suffix.lower() in _NAMES
    return said or _BARE.match(head) is not None


def _targets(given: Sequence[Path], work: Sequence[Path], out: Path | None) -> list[Path]:
    """Where each goes: in place; a file for one file; in a folder with the same places as in the folders given."""
    if out is None:
        return list(work)
    single = len(given) == 1 and not given[0].is_dir()
    if single and not out.is_dir():
        return [out]
    if out.exists() and not out.is_dir():
        raise SettingsError("several files into one", "--out", "give a folder")
    roots = [path for path in given if path.is_dir()]
    targets = []
    for path in work:
        root = next((root for root in roots if path.is_relative_to(root)), path.parent)
        targets.append(out / path.relative_to(root))
    twice = next((one for one, many in _counts(targets).items() if many > 1), None)
    if twice is not None:
        raise SettingsError("two files of one name", str(twice), "sign the folders one at a time")
    return targets


def _counts(paths: Sequence[Path]) -> dict[Path, int]:
    counts: dict[Path, int] = {}
    for path in paths:
        counts[path] = counts.get(path, 0) + 1
    return counts
