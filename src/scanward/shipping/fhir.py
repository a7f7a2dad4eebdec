"""FHIR R4 (4.0.1) AuditEvent: one JSON resource per record, alone (NDJSON) or in a batch bundle."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, Final

from scanward.shipping.events import DCM, PRIVATE, Code, Event, Source

_SYSTEMS: Final = {
    DCM: "http://dicom.nema.org/resources/ontology/DCM",
    PRIVATE: "urn:scanward:audit:kinds",
}
_SOURCE_TYPE: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
    "code": "4",
    "display": "Application Server",
}
_ENTITY_TYPE: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
    "code": "2",
    "display": "System Object",
}
_ENTITY_ROLE: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/object-role",
    "code": "13",
    "display": "Security Resource",
}


def audit_event(event: Event, source: Source) -> dict[str, Any]:
    """The resource as a plain object. ``type``, ``recorded``, ``agent`` and ``source`` are what R4 demands."""
    meaning = event.meaning
    told: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "type": _coding(meaning.event),
        "action": "R" if meaning.event.value == "110101" else "E",
        "recorded": event.time,
        "outcome": str(meaning.outcome),
        "agent": _agents(event, source),
        "source": {"observer": {"display": source.name}, "type": [_SOURCE_TYPE]},
        "entity": [
            {
                "what": {"identifier": {"system": "urn:ietf:rfc:3986", "value": event.uri}},
                "type": _ENTITY_TYPE,
                "role": _ENTITY_ROLE,
                "name": "Security Audit Log",
                "detail": [
                    {"type": "hash", "valueString": event.hash},
                    {"type": "record", "valueBase64Binary": _base64(event.text)},
                ],
            }
        ],
    }
    subtypes = [code for code in (meaning.type, event.own_type) if code and code != meaning.event]
    if subtypes:
        told["subtype"] = [_coding(code) for code in subtypes]
    if source.site:
        told["source"]["site"] = source.site
    if meaning.outcome:
        told["outcomeDesc"] = _string(event.reason or event.own_type.meaning)
    return told


def ndjson_line(event: Event, source: Source) -> str:
    """The resource on one line."""
    return json.dumps(audit_event(event, source), ensure_ascii=True)


def batch(events: Iterable[Event], source: Source) -> bytes:
    """A Bundle of type ``batch`` that creates one AuditEvent for each, to be posted to a server's base.

    Created only if no AuditEvent of the same record is there: posting it a second time changes nothing
    (conditional create, FHIR R4 http 3.1.0.8.1).
    """
    entries = [
        {
            "resource": audit_event(event, source),
            "request": {
                "method": "POST",
                "url": "AuditEvent",
                "ifNoneExist": f"entity:identifier=urn:ietf:rfc:3986|{event.uri}",
            },
        }
        for event in events
    ]
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    return json.dumps(bundle, ensure_ascii=True).encode("ascii")


def _agents(event: Event, source: Source) -> list[dict[str, Any]]:
    guard: dict[str, Any] = {"who": {"display": source.name}, "requestor": not event.user}
    if source.host:
        guard["network"] = {"address": source.host, "type": source.host_type}
    if not event.user:
        return [guard]
    return [guard, {"who": {"display": _string(event.user)}, "requestor": True}]


def _coding(code: Code) -> dict[str, str]:
    return {"system": _SYSTEMS[code.scheme], "code": _code(code.value), "display": _string(code.meaning)}


def _code(text: str) -> str:
    """A FHIR ``code``: no blanks but single ones inside."""
    return " ".join(_string(text).split()) or "-"


def _string(text: str) -> str:
    """A FHIR ``string``: no control characters but tab, line feed and return; not empty."""
    clean = "".join(c if c >= " " or c in "\t\n\r" else f"\\x{ord(c):02x}" for c in text)
    return clean.encode("utf-8", errors="backslashreplace").decode("utf-8").strip() or "-"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", errors="backslashreplace")).decode("ascii")
