"""``scanward verify``: are DICOM files what somebody trusted signed?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import escape, note, print_json, print_table, progress
from scanward.cli.sign import found_in

if TYPE_CHECKING:
    from scanward.signatures import Report, Trust

# Exit status by what was found; the least of all files counts.
STATUS = {"altered": 3, "malformed": 3, "untrusted": 4, "weak": 4, "partial": 4, "unsigned": 5}
_SHOWN = 8  # tags and reasons of a file in the table; --json has all


@click.command("verify", short_help="Verify the signatures of DICOM files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--trust",
    "authorities",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Certificates of who is trusted: authorities, or signers themselves; repeatable.",
)
@click.option(
    "--intermediate",
    "intermediates",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Certificates between signers and authorities; repeatable.",
)
@click.option(
    "--crl",
    "lists",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Revocation lists: then each issuer needs a current one; repeatable.",
)
@click.option(
    "--require",
    multiple=True,
    metavar="WHAT",
    help="What has to be signed: patient, uids, pixels, everything, or gggg,eeee; repeatable.  "
    "[default: patient, uids, pixels]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything found as JSON.")
@click.pass_context
def verify_command(
    context: click.Context,
    files: tuple[Path, ...],
    authorities: tuple[Path, ...],
    intermediates: tuple[Path, ...],
    lists: tuple[Path, ...],
    require: tuple[str, ...],
    as_json: bool,
) -> None:
    """Verify the digital signatures of FILES (PS3.15 annex C): DICOM files, or folders of them.

    A file is *genuine* when one trusted signature covers all that is required, and none in it is broken. Everything
    else is told apart: altered, unsigned, untrusted, weak (an algorithm that proves nothing any more), partial
    (something required is not covered), malformed. An expired certificate needs a timestamp (RFC 3161) from when it
    was valid.

    Exit status: 0 every file is genuine; 3 one is altered or malformed; 4 untrusted, weak or partial; 5 unsigned; 2
    what was given cannot be used.

    \b
    Example:
      scanward verify study/ --trust site-ca.pem
      scanward verify image.dcm --trust site-ca.pem --crl site-ca.crl --json
      scanward verify creator.dcm --trust vendor-ca.pem --require uids --require pixels
    """
    from scanward.signatures import verify_file

    trust = trust_of(authorities, lists, intermediates, require)
    work, left = found_in(files)
    found: list[tuple[Path, Report]] = []
    with progress("verifying", total=len(work)) as step:
        for path in work:
            found.append((path, verify_file(path, trust)))
            step()
    counts = Counter(report.genuineness.value for _, report in found)
    if as_json:
        told = [{"file": str(path), **report.as_json()} for path, report in found]
        print_json({"files": told, "counts": dict(counts), "left": left})
    else:
        _print(found, left)
    if not found:
        note("no DICOM file was found")
    context.exit(min((STATUS[word] for word in counts if word in STATUS), default=0 if found else 5))


def trust_of(
    authorities: Sequence[Path], lists: Sequence[Path], intermediates: Sequence[Path], require: Sequence[str]
) -> Trust:
    """What --trust, --crl, --intermediate and --require say, here and of a node."""
    from scanward.signatures import USUAL, Coverage, Trust

    required = Coverage.of(require) if require else USUAL
    return Trust.load(authorities, revoked=lists, intermediates=intermediates, required=required)


def _print(found: list[tuple[Path, Report]], left: int) -> None:
    print_table(
        ("file", "", "signed by", "not signed", "why not genuine"),
        [
            (str(path), report.genuineness.value, _signers(report), _unsigned(report), _why(report))
            for path, report in found
        ],
    )
    if left:
        note(f"{left} other files in these folders are no DICOM, and nothing is said of them")


def _signers(report: Report) -> str:
    said = [
        f"{escape(one.signer)} ({one.algorithm}{'' if one.in_profile else ', outside the profiles'})"
        for one in report.signatures
    ]
    return "; ".join(said)


def _unsigned(report: Report) -> str:
    told: list[Any] = report.as_json()["unsigned"]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return " ".join(told[:_SHOWN]) + more


def _why(report: Report) -> str:
    return escape("; ".join(report.reasons[:_SHOWN]))
