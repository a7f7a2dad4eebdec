"""``scanward audit``: verify a log, look into it, send it elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import click

from scanward.audit import Kind, Record, log_id_of, read, verify, witnessed
from scanward.audit.verifying import STEPS, Report
from scanward.cli.output import escape, note, print_json
from scanward.cli.trust import trusted_keys
from scanward.errors import InputError, SettingsError, ShippingError
from scanward.shipping.events import Event, Source, event_of, object_of
from scanward.shipping.http import Poster
from scanward.shipping.sinks import FhirSink, FileSink, Form, Sink, SyslogSink, WebhookSink
from scanward.shipping.syslog import TLS_PORT, SyslogSender

BROKEN: Final = 1  # exit status of a log that does not verify
_CHUNK: Final = 100  # events handed over at a time; what was delivered is remembered after each
_POLL_S: Final = 0.5

_LOG = click.argument("log", type=click.Path(path_type=Path), metavar="LOG")
_FILE = click.Path(path_type=Path)


@click.group("audit", short_help="Verify, show and export an audit log.")
def audit_group() -> None:
    """Verify, show and export an audit log: a folder of files like 00000001.audit.

    \b
    Example:
      scanward audit verify log/ --key audit.pub --witness witness.txt
      scanward audit show log/ --kind hold --since 2026-11-01
    """


@audit_group.command("verify")
@_LOG
@click.option(
    "--key",
    "keys",
    type=_FILE,
    multiple=True,
    metavar="PUB",
    help="Public key of the writer; may be repeated.",
)
@click.option("--witness", type=_FILE, help="What a witness kept: a folder or a file, a syslog server's too.")
@click.option(
    "--begins-at",
    type=click.IntRange(min=1),
    default=1,
    help="First record that must be here, when older segments were archived.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def verify_command(
    context: click.Context,
    log: Path,
    keys: tuple[Path, ...],
    witness: Path | None,
    begins_at: int,
    as_json: bool,
) -> None:
    """Verify LOG in five steps, and say which records and which segment are concerned.

    Without --witness, somebody who has the signing key can have written the whole log anew. Exit status 1
    when anything is found.

    \b
    Example:
      scanward audit verify log/ --key audit.pub --witness /mnt/other/witness.txt
    """
    report = verify(
        log, trusted_keys(keys), None if witness is None else witnessed(witness), begins_at=begins_at
    )
    if as_json:
        print_json(report.as_json())
    else:
        _print_report(report)
    if not report.ok:
        context.exit(BROKEN)


def _print_report(report: Report) -> None:
    for number, what in enumerate(STEPS, 1):
        found = [f for f in report.findings if f.step == number]
        skipped = number == len(STEPS) and report.witnessed is None and not found
        click.echo(f"{number}. {what}: {'not checked' if skipped else 'BROKEN' if found else 'yes'}")
        for finding in found:
            low, high = finding.first_seq, finding.last_seq
            which = f"record {low}" if low == high else f"records {low} to {high}"
            click.echo(
                f"   {which}, {escape(finding.segment)}, byte {finding.offset}: {escape(finding.what)}"
            )
    for text in report.notes:
        click.echo(f"note: {escape(text)}")
    last = f"{report.records} records ({report.first_seq} to {report.last_seq}) in {report.segments} segments"
    seen = "" if report.witnessed is None else f", witnessed up to {report.witnessed}"
    click.echo(f"{last}, signed up to {report.last_checkpoint}{seen}")


@audit_group.command("show")
@_LOG
@click.option(
    "--since", metavar="TIME", help="Leave out what is older (2026-11-22 or 2026-11-22T10:00, UTC)."
)
@click.option("--until", metavar="TIME", help="Leave out what is newer.")
@click.option("--kind", "kinds", multiple=True, help="Only records of this kind; may be repeated.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only records with higher numbers.")
@click.option("--follow", is_flag=True, help="Wait for more, until interrupted.")
@click.option(
    "--past-damage", is_flag=True, help="Go on after damaged records, of a log that does not verify."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def show_command(
    log: Path,
    since: str | None,
    until: str | None,
    kinds: tuple[str, ...],
    after: int,
    follow: bool,
    past_damage: bool,
    as_json: bool,
) -> None:
    """Print the records of LOG, one a line: number, time, kind, and what they say.

    Control characters are printed as their escapes. What is shown is not verified: see 'audit verify'.

    \b
    Example:
      scanward audit show log/ --kind release --kind hold --follow
    """
    low, high = _time_ns(since, "--since"), _time_ns(until, "--until")
    batches = _batches(log, after, follow=follow, past_damage=past_damage)
    for record in chain.from_iterable(batches):
        wall = record.moment.wall_ns
        if (low is not None and wall < low) or (high is not None and wall > high):
            continue
        event = event_of(record, "")
        if kinds and event.kind not in kinds:
            continue
        click.echo(_as_json(record, event) if as_json else _as_line(record, event))


def _as_line(record: Record, event: Event) -> str:
    told = object_of(record.payload) if record.kind is not Kind.CHECKPOINT else None
    text = event.text
    if told is not None:
        text = json.dumps({k: v for k, v in told.items() if k != "kind"}, ensure_ascii=False)
    flag = " (reserved)" if record.reserved else ""
    return f"{record.seq}  {event.time}  {escape(event.kind)}{flag}  {escape(text)}"


def _as_json(record: Record, event: Event) -> str:
    told: dict[str, Any] = {
        "seq": record.seq,
        "time": event.time,
        "monotonic_ns": record.moment.monotonic_ns,
        "kind": event.kind,
        "reserved": record.reserved,
        "hash": event.hash,
        "segment": record.segment,
        "offset": record.offset,
        "record": object_of(record.payload) or event.text,
    }
    return json.dumps(told, ensure_ascii=True)


@audit_group.command("export")
@_LOG
@click.option(
    "--to",
    "form",
    type=click.Choice([f.value for f in Form]),
    required=True,
    help="What to make of each record.",
)
@click.option("--host", help="Syslog server (syslog, atna).")
@click.option("--port", type=click.IntRange(1, 65535), default=TLS_PORT, show_default=True, help="Its port.")
@click.option("--url", help="Where to post (fhir: the server's base; webhook).")
@click.option("--out", type=_FILE, help="Append to this file instead, one event a line.")
@click.option(
    "--ca", type=_FILE, help="PEM of whoever signs the server's certificate.  [default: the system's]"
)
@click.option("--certificate", type=_FILE, help="PEM of the certificate that is shown to the server.")
@click.option("--certificate-key", type=_FILE, help="PEM of its private key.")
@click.option(
    "--unsafe-plaintext", is_flag=True, help="Send without TLS: anybody on the way can read and change it."
)
@click.option(
    "--source", "name", default="scanward", show_default=True, help="Name of this guard in the messages."
)
@click.option("--site", default="", help="Name of the site in the messages.")
@click.option("--address", default="", help="Host name or address of this guard in the messages.")
@click.option("--after", type=click.IntRange(min=0), default=None, help="Only records with higher numbers.")
@click.option("--state", type=_FILE, help="File that remembers the last delivered record, to go on there.")
@click.option("--checkpoints", is_flag=True, help="Only checkpoints: what a witness needs.")
@click.option("--follow", is_flag=True, help="Wait for more, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print what was delivered as JSON.")
def export_command(
    log: Path,
    form: str,
    host: str | None,
    port: int,
    url: str | None,
    out: Path | None,
    ca: Path | None,
    certificate: Path | None,
    certificate_key: Path | None,
    unsafe_plaintext: bool,
    name: str,
    site: str,
    address: str,
    after: int | None,
    state: Path | None,
    checkpoints: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Send the records of LOG elsewhere, in order.

    syslog: RFC 5424 over TLS (RFC 5425), each record as JSON. atna: the same, each record as a DICOM audit
    message (PS3.15 A.5). fhir: R4 AuditEvents. webhook: one POST each. A syslog server that gets the
    checkpoints is a witness: give its file to 'audit verify --witness'.

    \b
    Example:
      scanward audit export log/ --to atna --host arr.example.org --ca ca.pem --state atna.json
      scanward audit export log/ --to fhir --out events.ndjson
    """
    source = Source(name, site, address)
    tls: dict[str, Any] = {
        "ca": ca,
        "certificate": certificate,
        "key": certificate_key,
        "unsafe_plaintext": unsafe_plaintext,
    }
    _one_of(form, host, url, out)
    log_id = log_id_of(log)
    last = _begin(state, log_id, after)
    delivered = 0
    sink = _sink(Form(form), source, host, port, url, out, tls)
    try:
        for batch in _batches(log, last, follow=follow, past_damage=False):
            chosen = [r for r in batch if r.kind is Kind.CHECKPOINT or not checkpoints]
            sink.deliver([event_of(record, log_id) for record in chosen])
            delivered, last = delivered + len(chosen), batch[-1].seq
            _remember(state, log_id, last)
    except ShippingError as error:
        raise ShippingError(
            error.what, error.where, f"{error.todo}, then go on with --after {last}"
        ) from error
    finally:
        sink.close()
    if as_json:
        print_json({"log_id": log_id, "delivered": delivered, "last_seq": last})
    else:
        note(f"{delivered} records delivered, up to number {last}")


def _one_of(form: str, host: str | None, url: str | None, out: Path | None) -> None:
    wanted = "--host" if form in (Form.SYSLOG, Form.ATNA) else "--url"
    given = [flag for flag, value in (("--host", host), ("--url", url), ("--out", out)) if value]
    if len(given) != 1 or given[0] not in (wanted, "--out"):
        raise SettingsError(f"--to {form} needs {wanted}, or --out", "audit export", "give one of the two")


def _sink(
    form: Form,
    source: Source,
    host: str | None,
    port: int,
    url: str | None,
    out: Path | None,
    tls: dict[str, Any],
) -> Sink:
    if out:
        return FileSink(out, form, source)
    if form in (Form.SYSLOG, Form.ATNA):
        return SyslogSink(SyslogSender(host or "", port, **tls), source, dicom=form is Form.ATNA)
    if form is Form.FHIR:
        return FhirSink(Poster(url or "", content_type="application/fhir+json", **tls), source)
    return WebhookSink(Poster(url or "", content_type="application/json", **tls), source)


def _batches(log: Path, after: int, *, follow: bool, past_damage: bool) -> Iterator[list[Record]]:
    """Records above ``after``, some at a time; with ``follow`` it waits for more instead of ending."""
    seen: list[tuple[str, int]] = []
    while True:
        files = sorted((path.name, path.stat().st_size) for path in log.glob("*.audit"))
        if files != seen or not files:
            records = read(log, after=after, past_damage=past_damage)
            while batch := list(islice(records, _CHUNK)):
                after = batch[-1].seq
                yield batch
        if not follow:
            return
        seen = files
        time.sleep(_POLL_S)


def _begin(state: Path | None, log_id: str, after: int | None) -> int:
    """The record after which to go on: as told, else as remembered."""
    if after is not None or state is None:
        return after or 0
    try:
        told = json.loads(state.read_text("utf-8"))
        known, seq = told["log_id"], told["seq"]
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "it does not say where to go on", str(state), "remove it, or give --after"
        ) from error
    if known != log_id or not isinstance(seq, int) or seq < 0:
        raise InputError("it belongs to another log", str(state), "give each log a state file of its own")
    return seq


def _remember(state: Path | None, log_id: str, seq: int) -> None:
    if state is None:
        return
    part = state.with_name(f".{state.name}.part")
    part.write_text(json.dumps({"log_id": log_id, "seq": seq}) + "\n", "utf-8")
    part.replace(state)


def _time_ns(text: str | None, option: str) -> int | None:
    """A time as nanoseconds since 1970 UTC; without an offset it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"not a time: {text}", option, "write it like 2026-11-22T10:00") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
