"""DICOM audit messages (PS3.15 Annex A.5, which grew out of RFC 3881; IHE ATNA): one XML document per record."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from typing import Final

from scanward.shipping.events import (
    APPLICATION_ACTIVITY,
    SECURITY_ALERT,
    Code,
    Event,
    Source,
)

# XML 1.0 section 2.2 (production 2): no other character can stand in a document, not even escaped.
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LAUNCHER: Final = Code("110151", "DCM", "Application Launcher")
_APPLICATION: Final = Code("110150", "DCM", "Application")
_URI: Final = Code("12", "RFC-3881", "URI")


def audit_message(event: Event, source: Source) -> str:
    """One ``AuditMessage`` as the schema of PS3.15 A.5.1 has it.

    Security alerts follow Table A.5.3.11-1, Application Activity Table A.5.3.1-1, Audit Log Used Table
    A.5.3.2-1; everything else is a message of our own in the same schema. The record itself travels as a
    ``ParticipantObjectDetail``, base64 as the schema wants it. No patient participant is written: what a
    record tells of a patient is in the record, hashed under the site's key.
    """
    root = ET.Element("AuditMessage")
    meaning = event.meaning
    identification = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode="R" if meaning.event.value == "110101" else "E",
        EventDateTime=event.time,
        EventOutcomeIndicator=str(meaning.outcome),
    )
    _coded(identification, "EventID", meaning.event)
    if meaning.type:
        _coded(identification, "EventTypeCode", meaning.type)
    if meaning.event.scheme == "DCM":
        _coded(identification, "EventTypeCode", event.own_type)
    if meaning.outcome:
        described = ET.SubElement(identification, "EventOutcomeDescription")
        described.text = _text(event.reason or event.own_type.meaning)
    _participants(root, event, source)
    reporter = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=_token(source.name))
    if source.site:
        reporter.set("AuditEnterpriseSiteID", _token(source.site))
    ET.SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    _record(root, event)
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(root, encoding="unicode")


def _participants(root: ET.Element, event: Event, source: Source) -> None:
    """The guard as a process, and the person where the record names one."""
    guard = ET.SubElement(
        root,
        "ActiveParticipant",
        UserID=_text(source.name),
        UserIsRequestor="false" if event.user else "true",
    )
    if source.host:
        guard.set("NetworkAccessPointID", _token(source.host))
        guard.set("NetworkAccessPointTypeCode", source.host_type)
    if event.meaning.event == APPLICATION_ACTIVITY:
        _coded(guard, "RoleIDCode", _APPLICATION)
    if event.user:
        person = ET.SubElement(root, "ActiveParticipant", UserID=_text(event.user), UserIsRequestor="true")
        if event.meaning.event == APPLICATION_ACTIVITY:
            _coded(person, "RoleIDCode", _LAUNCHER)


def _record(root: ET.Element, event: Event) -> None:
    subject = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=event.uri,
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="13",
    )
    _coded(subject, "ParticipantObjectIDTypeCode", _URI)
    name = ET.SubElement(subject, "ParticipantObjectName")
    name.text = "Security Audit Log"
    if event.meaning.event == SECURITY_ALERT:
        _detail(subject, "Alert Description", event.reason or event.own_type.meaning)
    _detail(subject, "hash", event.hash)
    _detail(subject, "record", event.text)


def _coded(parent: ET.Element, tag: str, code: Code) -> None:
    ET.SubElement(
        parent,
        tag,
        {
            "csd-code": _token(code.value),
            "codeSystemName": code.scheme,
            "originalText": _token(code.meaning),
        },
    )


def _detail(parent: ET.Element, kind: str, value: str) -> None:
    encoded = base64.b64encode(value.encode("utf-8", errors="backslashreplace")).decode("ascii")
    ET.SubElement(parent, "ParticipantObjectDetail", type=kind, value=encoded)


def _text(text: str) -> str:
    """What XML can hold of it."""
    return _NOT_XML.sub(lambda m: m.group().encode("unicode_escape").decode("ascii"), text)


def _token(text: str) -> str:
    """An xsd:token: single blanks inside, none around."""
    return " ".join(_text(text).split()) or "-"
