"""``scanward dicom``: the DICOM link by itself, the review of what it received, and a question to the worklist."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from scanward.cli.output import escape, note, print_json, print_table
from scanward.commands import Command
from scanward.errors import InputError, SettingsError


@click.group("dicom", short_help="Guard protocols and collect dose reports over DICOM.")
def dicom_group() -> None:
    """Stand between protocol manager and scanner, and collect dose reports.

    Not a medical device; not to be connected to a clinical scanner outside an approved study.

    \b
    Example:
      scanward dicom serve --config guard.toml
      scanward dicom review received/ --accept --all --by "A. Physicist"
    """


@dicom_group.command("serve")
@click.option(
    "--config",
    "config",
    required=True,
    type=click.Path(path_type=Path),
    help="guard.toml of a DICOM guard.",
)
@click.option("--check", is_flag=True, help="Read the settings, book and bundle, then end.")
@click.option("--json", "as_json", is_flag=True, help="Print what --check found as JSON.")
def serve(config: Path, check: bool, as_json: bool) -> None:
    """Receive, judge, forward, store and record, until interrupted.

    Protocols are forwarded to the scanner only when they are released; whoever sent one is answered after the
    verdict and the scanner's own status. What is held waits for `scanward operator`, and is refused when nobody
    decides in time.

    \b
    Example:
      scanward dicom serve --config guard.toml --check
    """
    run_guard(config, check=check, as_json=as_json)


def run_guard(config: Path, *, check: bool, as_json: bool) -> None:
    """A DICOM guard until it is told to end, or a look at what it is built from (``scanward guard`` ends here too)."""
    import asyncio

    from scanward.guard.dicom_config import load
    from scanward.guard.protocol_process import JudgeProcess
    from scanward.guard.relay_run import NO_DEVICE, verified

    settings, guard = load(config)
    click.echo(NO_DEVICE, err=True)
    policy = verified(guard, accept=not check).policy
    weakenings = [*guard.weakenings, *settings.weakenings, *policy.weakenings]
    for each in weakenings:
        note(f"warning: {each}")
    if not check:
        from scanward.guard.dicom_main import run

        asyncio.run(run(guard, settings, click.echo))
        return
    if settings.protocols is not None:
        judge = JudgeProcess(settings.protocols.judge)
        try:
            judge.start()
        finally:
            judge.close()
    facts = {
        "title": settings.title,
        "listen": f"{settings.listen[0]}:{settings.listen[1]}",
        "protocols": settings.protocols is not None,
        "reports": settings.reports is not None,
        "worklist": settings.worklist is not None,
        "weakenings": weakenings,
    }
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{escape(settings.title)} would listen on {facts['listen']}")


@dicom_group.command("review")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.argument("names", nargs=-1, metavar="[FILES]...")
@click.option("--accept", "act", flag_value="accept", help="Move FILES to FOLDER/reviewed, for training.")
@click.option("--reject", "act", flag_value="reject", help="Move FILES to FOLDER/rejected.")
@click.option("--all", "everything", is_flag=True, help="All that wait, instead of FILES.")
@click.option("--by", "who", default="", help="Who looked at them (required for both).")
@click.option("--why", default="", help="A remark that is kept with the act.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def review(
    folder: Path,
    names: tuple[str, ...],
    act: str | None,
    everything: bool,
    who: str,
    why: str,
    as_json: bool,
) -> None:
    """List dose reports that wait for review, or say what becomes of them.

    Nothing received over the network is trained on before a person has accepted it here. Look at what they hold
    with `scanward inspect FOLDER/quarantine` first.

    \b
    Example:
      scanward dicom review received/
      scanward dicom review received/ 0123456789abcdef.dcm --accept --by "A. Physicist"
    """
    from scanward.recordings.quarantine import open_quarantine

    if not (folder / "quarantine").is_dir():
        raise InputError("no folder of received reports", str(folder), "give the folder of [dicom.reports]")
    quarantine = open_quarantine(folder)
    waiting = quarantine.names()
    if act is None:
        if names or everything:
            raise SettingsError("what is to become of them?", "--accept or --reject", "give one of them")
        _listed(quarantine.unreviewed, waiting, as_json)
        return
    if bool(names) == everything:
        raise SettingsError("give FILES, or --all", "--all", "one of the two")
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    moved = quarantine.move(
        waiting if everything else names, accept=act == "accept", who=who, why=why, when=when
    )
    if as_json:
        print_json({"moved": moved, "accepted": act == "accept", "waiting": len(quarantine.names())})
    else:
        click.echo(f"{moved} {'accepted' if act == 'accept' else 'rejected'}, {len(quarantine.names())} wait")


def _listed(place: Path, waiting: tuple[str, ...], as_json: bool) -> None:
    from scanward.recordings.dicom import read_dicom
    from scanward.recordings.pseudonyms import Pseudonyms

    rows: list[dict[str, Any]] = []
    for name in waiting:
        result = read_dicom(place / name, Pseudonyms(None))
        commands = [e for e in result.entries if isinstance(e, Command)]
        doses = [d for c in commands if isinstance(d := c.parameters.get("CTDIvol"), float)]
        rows.append(
            {
                "file": name,
                "events": len(result.entries),
                "device": commands[0].device.model if commands else "",
                "mode": str(commands[0].mode) if commands else "",
                "CTDIvol_max_mGy": max(doses, default=None),
            }
        )
    if as_json:
        print_json({"waiting": rows})
        return
    if not rows:
        click.echo("nothing waits for review")
        return
    columns = list(rows[0])
    print_table(columns, [[row[c] for c in columns] for row in rows], title=f"{len(rows)} wait for review")


@dicom_group.command("worklist")
@click.option(
    "--config",
    "config",
    required=True,
    type=click.Path(path_type=Path),
    help="guard.toml with [dicom.worklist].",
)
@click.option("--patient", default="", help="PatientID, exact.")
@click.option("--study", default="", help="Study Instance UID.")
@click.option("--accession", default="", help="Accession Number.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def worklist(config: Path, patient: str, study: str, accession: str, as_json: bool) -> None:
    """Ask the worklist as the guard would, and print the context that it gives.

    \b
    Example:
      scanward dicom worklist --config guard.toml --patient 12345
    """
    from scanward.guard.dicom_config import load
    from scanward.links.dicom_worklist import Worklist
    from scanward.transport.dicom import Caller

    settings, _ = load(config)
    if settings.worklist is None:
        raise SettingsError("no worklist is configured", "dicom.worklist", 'give server = "TITLE@host:port"')
    today = datetime.now(UTC).strftime("%Y%m%d")
    answer = Worklist(Caller(settings.title), settings.worklist).ask(
        patient=patient, study=study, accession=accession, today=today
    )
    parts = {name: told[0].value for name, told in answer.parts.items()}
    if as_json:
        print_json({"parts": parts, "matches": answer.matches, "reason": answer.reason})
        return
    for name, value in parts.items():
        click.echo(f"{name}: {escape(str(value))}")
    if answer.reason or not parts:
        click.echo(f"({escape(answer.reason or 'the worklist tells nothing usable')})")
