"""One record of the audit log as an event that the formats of others can be made of.

Codes are of DICOM PS3.16 CID 400 (Audit Event ID), CID 401 and CID 403 (types), as PS3.15 A.5.3 uses them. What
no standard event describes (a chain loaded, armed, sent) gets a code of our own, under the coding scheme
designator ``99SCANWARD`` (PS3.16 8.2: designators of private schemes begin with 99): an event called by the
name of a standard one that means something else would be worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from scanward.audit import Kind, Record

DCM: Final = "DCM"
PRIVATE: Final = "99SCANWARD"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


APPLICATION_ACTIVITY: Final = Code("110100", DCM, "Application Activity")
AUDIT_LOG_USED: Final = Code("110101", DCM, "Audit Log Used")
SECURITY_ALERT: Final = Code("110113", DCM, "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", DCM, "User Authentication")
APPLICATION_START: Final = Code("110120", DCM, "Application Start")
APPLICATION_STOP: Final = Code("110121", DCM, "Application Stop")
LOGIN: Final = Code("110122", DCM, "Login")
LOGOUT: Final = Code("110123", DCM, "Logout")
NODE_AUTHENTICATION: Final = Code("110126", DCM, "Node Authentication")
EMERGENCY_STARTED: Final = Code("110127", DCM, "Emergency Override Started")
SECURITY_CONFIGURATION: Final = Code("110129", DCM, "Security Configuration")
SOFTWARE_CONFIGURATION: Final = Code("110131", DCM, "Software Configuration")
RESTRICTED_FUNCTION: Final = Code("110132", DCM, "Use of Restricted Function")
RECORDING_STOPPED: Final = Code("110133", DCM, "Audit Recording Stopped")
RECORDING_STARTED: Final = Code("110134", DCM, "Audit Recording Started")
EMERGENCY_STOPPED: Final = Code("110138", DCM, "Emergency Override Stopped")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind of record is in DICOM's words.

    ``outcome``: 0 success (an informative alert), 4 minor and 8 serious failure (both: what was done about it
    worked), 12 major failure (PS3.15 Table A.5.3.11-1).
    """

    event: Code
    type: Code | None = None
    outcome: int = 0


MEANINGS: Final[Mapping[str, Meaning]] = {
    "audit.opened": Meaning(APPLICATION_ACTIVITY, APPLICATION_START),
    "audit.closed": Meaning(APPLICATION_ACTIVITY, APPLICATION_STOP),
    "audit.disk_full": Meaning(SECURITY_ALERT, RECORDING_STOPPED, 8),
    "audit.write_failed": Meaning(SECURITY_ALERT, RECORDING_STOPPED, 4),
    "audit.overflow": Meaning(SECURITY_ALERT, RECORDING_STOPPED, 8),
    "audit.room_again": Meaning(SECURITY_ALERT, RECORDING_STARTED),
    "audit.clock_jump": Meaning(SECURITY_ALERT, SECURITY_CONFIGURATION, 4),
    "audit.used": Meaning(AUDIT_LOG_USED),
    # The guard's own kinds. What it holds, refuses or alerts about is a function somebody had no business using.
    "alert": Meaning(SECURITY_ALERT, RESTRICTED_FUNCTION, 4),
    "hold": Meaning(SECURITY_ALERT, RESTRICTED_FUNCTION, 4),
    "refuse": Meaning(SECURITY_ALERT, RESTRICTED_FUNCTION, 4),
    "declined": Meaning(SECURITY_ALERT, RESTRICTED_FUNCTION, 4),
    "emergency": Meaning(SECURITY_ALERT, EMERGENCY_STARTED),  # its end: see `event_of`
    "mode": Meaning(SECURITY_ALERT, SECURITY_CONFIGURATION),
    "policy": Meaning(SECURITY_ALERT, SECURITY_CONFIGURATION),
    "bundle": Meaning(SECURITY_ALERT, SOFTWARE_CONFIGURATION),
    "login": Meaning(USER_AUTHENTICATION, LOGIN),
    "logout": Meaning(USER_AUTHENTICATION, LOGOUT),
    "peer_refused": Meaning(SECURITY_ALERT, NODE_AUTHENTICATION, 4),
}
"""Kinds of records that have a standard event. Every other kind is an event of its own."""

CHECKPOINT: Final = "audit.checkpoint"
OPAQUE: Final = "opaque"


@dataclass(frozen=True, slots=True)
class Source:
    """Who reports: a name for this guard (``AuditSourceID``), the site, the host it runs on."""

    name: str
    site: str = ""
    host: str = ""

    @property
    def host_type(self) -> str:
        """NetworkAccessPointTypeCode: 1 for a machine's name, 2 for an IP address."""
        return "2" if re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", self.host) else "1"


@dataclass(frozen=True, slots=True)
class Event:
    """One record, told. ``text`` is its payload as JSON text (of any other payload: its bytes as hexadecimal).

    ``user`` is who acted, where the record names somebody (``user`` or ``operator``).
    """

    log_id: str
    seq: int
    hash: str
    kind: str
    wall_ns: int
    text: str
    meaning: Meaning
    user: str = ""
    reason: str = ""

    @property
    def own_type(self) -> Code:
        """The record's kind as a coded value."""
        return _own(self.kind)

    @property
    def time(self) -> str:
        """RFC 3339, UTC, microseconds: what syslog, XML Schema and FHIR all read."""
        seconds, rest = divmod(self.wall_ns, 10**9)
        try:
            moment = datetime.fromtimestamp(seconds, UTC)
        except (OverflowError, ValueError, OSError):
            moment, rest = datetime(1970, 1, 1, tzinfo=UTC), 0  # a clock that was nowhere near
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"

    @property
    def uri(self) -> str:
        """Names the record everywhere."""
        return f"urn:scanward:audit:{self.log_id}:{self.seq}"

    @property
    def is_checkpoint(self) -> bool:
        """Whether ``text`` is a checkpoint's line."""
        return self.kind == CHECKPOINT


def event_of(record: Record, log_id: str) -> Event:
    """Any record as an event: payloads that are no JSON object with a ``kind`` become kind ``opaque``."""
    text, kind, user, reason = record.payload.hex(), OPAQUE, "", ""
    meaning: Meaning | None = None
    if record.kind is Kind.CHECKPOINT:
        text, kind = record.payload.decode("ascii", errors="replace"), CHECKPOINT
    else:
        told = object_of(record.payload)
        if told is not None:
            text = json.dumps(told, ensure_ascii=True)
            kind = _word(told.get("kind")) or OPAQUE
            user = _word(told.get("user")) or _word(told.get("operator"))
            reason = _word(told.get("reason"))
            if kind == "emergency" and told.get("on") is False:
                meaning = Meaning(SECURITY_ALERT, EMERGENCY_STOPPED)
    meaning = meaning or MEANINGS.get(kind) or Meaning(_own(kind))
    digest, wall = record.hash.hex(), record.moment.wall_ns
    return Event(log_id, record.seq, digest, kind, wall, text, meaning, user, reason)


def object_of(payload: bytes) -> dict[str, object] | None:
    """The JSON object that a payload holds; None when it holds anything else."""
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _word(value: object) -> str:
    return value[:256] if isinstance(value, str) else ""


def _own(kind: str) -> Code:
    return Code(kind, PRIVATE, kind.replace("_", " ").replace(".", " "))
