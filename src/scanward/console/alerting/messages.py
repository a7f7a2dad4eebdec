"""An alert in the words of each receiver: syslog (RFC 5424), DICOM audit message, JSON for a webhook, a mail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from scanward.console.alerting.alert import KINDS, OTHER, Severity, one_line
from scanward.console.alerting.spool import Outgoing
from scanward.shipping import Event, Source, audit_message
from scanward.shipping.events import (
    EMERGENCY_STARTED,
    EMERGENCY_STOPPED,
    NODE_AUTHENTICATION,
    PRIVATE,
    RECORDING_STOPPED,
    RESTRICTED_FUNCTION,
    SECURITY_ALERT,
    SECURITY_CONFIGURATION,
    Code,
    Meaning,
)
from scanward.shipping.syslog import dicom_message, message

_SYSLOG: Final = {Severity.INFORMATION: 5, Severity.WARNING: 4, Severity.SERIOUS: 2}  # RFC 5424, table 2
_OUTCOME: Final = {Severity.INFORMATION: 0, Severity.WARNING: 4, Severity.SERIOUS: 8}  # PS3.15 A.5.3.11
# Kinds that DICOM has a type of security alert for (PS3.16 CID 403); every other is one of our own.
_TYPES: Final[dict[str, Code]] = {
    "held": RESTRICTED_FUNCTION,
    "halted": RESTRICTED_FUNCTION,
    "alert": RESTRICTED_FUNCTION,
    "trigger_refused": RESTRICTED_FUNCTION,
    "act_refused": RESTRICTED_FUNCTION,
    "control_wrong": NODE_AUTHENTICATION,
    "emergency_begin": EMERGENCY_STARTED,
    "emergency_end": EMERGENCY_STOPPED,
    "mode": SECURITY_CONFIGURATION,
    "log": RECORDING_STOPPED,
}
DOMAIN: Final = "scanward.invalid"  # of message identifiers: a name that nobody has (RFC 2606)


def as_json(one: Outgoing, source: str) -> dict[str, object]:
    """What programs get. ``count`` is the total so far, ``new`` how many of these nobody was told of here."""
    return {
        "source": source,
        "id": one.uid,
        "key": one.key,
        "scanner": one.scanner,
        "name": one.name,
        "kind": one.kind,
        "severity": one.severity.value,
        "audience": sorted(KINDS.get(one.kind, OTHER).audience),
        "title": one.title,
        "text": one.text,
        "first": moment(one.first),
        "last": moment(one.last),
        "count": one.count,
        "new": one.count - one.told,
        "facts": dict(one.facts),
    }


def webhook_body(one: Outgoing, source: str) -> bytes:
    """The JSON as bytes, in ASCII."""
    return json.dumps(as_json(one, source), ensure_ascii=True).encode("ascii")


def syslog_message(one: Outgoing, source: str) -> bytes:
    """RFC 5424, not framed yet: the alert in one line of JSON."""
    return message(
        severity=_SYSLOG[one.severity],
        time=moment(one.last),
        source=Source(source),
        message_id=f"alert.{one.kind}",
        text=json.dumps(as_json(one, source), ensure_ascii=True),
    )


def atna_message(one: Outgoing, source: str) -> bytes:
    """A DICOM audit message (PS3.15 A.5) of a security alert, within a syslog message."""
    kind = one_line(one.kind, 64)
    event = Event(
        log_id=one.uid,
        seq=one.count,
        hash="",
        kind=kind,
        wall_ns=round(one.last * 1e9),
        text=json.dumps(as_json(one, source), ensure_ascii=True),
        meaning=_meaning(kind, one.severity),
        reason=one_line(f"{one.title}. {one.text}", 500),
    )
    return dicom_message(audit_message(event, Source(source)), event, Source(source))


def _meaning(kind: str, severity: Severity) -> Meaning:
    """A security alert where DICOM has a type for it, else an event of our own: never one that means something else."""
    outcome = _OUTCOME[severity]
    if kind in _TYPES:
        return Meaning(SECURITY_ALERT, _TYPES[kind], outcome)
    return Meaning(Code(kind or "other", PRIVATE, kind.replace("_", " ")), None, outcome)


def mail(one: Outgoing, source: str, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """A mail in plain text. Its Message-ID is the same whenever this message is sent again."""
    made = EmailMessage()
    made["From"] = Address("Scanward", addr_spec=sender)
    made["To"] = tuple(Address(addr_spec=each) for each in recipients)
    made["Subject"] = one.title
    made["Date"] = format_datetime(_utc(one.last))
    made["Message-ID"] = f"<{one.key}@{DOMAIN}>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office notes, please
    if one.told:
        made["In-Reply-To"] = f"<{one.uid}.{one.told}@{DOMAIN}>"
    lines = [
        one.title,
        "",
        one.text or "(no more is known)",
        "",
        f"first: {moment(one.first)}",
        f"last:  {moment(one.last)}",
        f"count: {one.count}"
        + (f", of which {one.count - one.told} since the last mail" if one.told else ""),
        f"kind:  {one_line(one.kind, 64)}",
        f"id:    {one.uid}",
        "",
        f"Sent by the Scanward console {source}. Words in it may be those of a scanner's host: follow no instruction",
        "and no link in them. Look at the console. Research only: not a medical device.",
    ]
    made.set_content("\n".join(lines) + "\n")
    return made


def moment(at: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return f"{_utc(at):%Y-%m-%dT%H:%M:%S}.{int(at * 1000) % 1000:03d}Z"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0.0), 4e9), UTC)
