"""What the standards ask of exported events, written from their text and independently of `scanward.shipping`.

DICOM PS3.15 A.5.1 (schema) and A.5.3.1, A.5.3.2, A.5.3.11 (messages); FHIR R4 AuditEvent; RFC 5424 section 6.
"""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from datetime import datetime

_CODED = {"csd-code": True, "codeSystemName": True, "originalText": True, "displayName": False}
_ATTRIBUTES = {
    "AuditMessage": {},
    "EventIdentification": {
        "EventActionCode": False,
        "EventDateTime": True,
        "EventOutcomeIndicator": True,
    },
    "EventID": _CODED,
    "EventTypeCode": _CODED,
    "EventOutcomeDescription": {},
    "ActiveParticipant": {
        "UserID": True,
        "AlternativeUserID": False,
        "UserName": False,
        "UserIsRequestor": True,
        "NetworkAccessPointID": False,
        "NetworkAccessPointTypeCode": False,
    },
    "RoleIDCode": _CODED,
    "AuditSourceIdentification": {"AuditEnterpriseSiteID": False, "AuditSourceID": True},
    "AuditSourceTypeCode": {
        "csd-code": True,
        "codeSystemName": False,
        "originalText": False,
        "displayName": False,
    },
    "ParticipantObjectIdentification": {
        "ParticipantObjectID": True,
        "ParticipantObjectTypeCode": False,
        "ParticipantObjectTypeCodeRole": False,
        "ParticipantObjectDataLifeCycle": False,
        "ParticipantObjectSensitivity": False,
    },
    "ParticipantObjectIDTypeCode": _CODED,
    "ParticipantObjectName": {},
    "ParticipantObjectDetail": {"type": True, "value": True},
}
# Children in order, as a regular expression over their names.
_CHILDREN = {
    "AuditMessage": "EventIdentification (ActiveParticipant )+AuditSourceIdentification "
    "(ParticipantObjectIdentification )*",
    "EventIdentification": "EventID (EventTypeCode )*(EventOutcomeDescription )?",
    "ActiveParticipant": "(RoleIDCode )*",
    "AuditSourceIdentification": "(AuditSourceTypeCode )*",
    "ParticipantObjectIdentification": "ParticipantObjectIDTypeCode ParticipantObjectName "
    "(ParticipantObjectDetail )*",
}
_VALUES = {
    ("EventIdentification", "EventActionCode"): "[CRUDE]",
    ("EventIdentification", "EventOutcomeIndicator"): "0|4|8|12",
    ("ActiveParticipant", "UserIsRequestor"): "true|false|0|1",
    ("ActiveParticipant", "NetworkAccessPointTypeCode"): "[1-5]",
    ("AuditSourceTypeCode", "csd-code"): "[1-9]",
    ("ParticipantObjectIdentification", "ParticipantObjectTypeCode"): "[1-4]",
    ("ParticipantObjectIdentification", "ParticipantObjectTypeCodeRole"): "[1-9]|1[0-9]|2[0-6]",
}
# PS3.16 CID 400, 401, 403: the meanings that the codes have there.
_MEANINGS = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110123": "Logout",
    "110126": "Node Authentication",
    "110127": "Emergency Override Started",
    "110129": "Security Configuration",
    "110131": "Software Configuration",
    "110132": "Use of Restricted Function",
    "110133": "Audit Recording Stopped",
    "110134": "Audit Recording Started",
    "110138": "Emergency Override Stopped",
    "110150": "Application",
    "110151": "Application Launcher",
}
_ALERT_TYPES = {str(n) for n in range(110126, 110143)}


def dicom_faults(text: str) -> list[str]:
    """What is wrong with a DICOM audit message; empty when nothing is."""
    root = ET.fromstring(text)
    faults = [] if root.tag == "AuditMessage" else [f"root {root.tag}"]
    for element in root.iter():
        faults += _element_faults(element)
    return faults or _message_faults(root)


def _element_faults(element: ET.Element) -> list[str]:
    tag = element.tag
    if tag not in _ATTRIBUTES:
        return [f"no element {tag} in the schema"]
    allowed = _ATTRIBUTES[tag]
    faults = [f"{tag}: no attribute {name}" for name in element.attrib if name not in allowed]
    faults += [
        f"{tag}: {name} missing" for name, must in allowed.items() if must and name not in element.attrib
    ]
    children = "".join(f"{child.tag} " for child in element)
    if not re.fullmatch(_CHILDREN.get(tag, ""), children):
        faults.append(f"{tag}: children {children}")
    for name, value in element.attrib.items():
        pattern = _VALUES.get((tag, name))
        if pattern and not re.fullmatch(pattern, value):
            faults.append(f"{tag}: {name}={value}")
        if name in ("csd-code", "originalText", "AuditSourceID") and value != " ".join(value.split()):
            faults.append(f"{tag}: {name} is no token")
    if tag == "EventIdentification":
        datetime.fromisoformat(element.attrib["EventDateTime"])
    if tag == "ParticipantObjectDetail":
        base64.b64decode(element.attrib["value"], validate=True)
    code = element.attrib.get("csd-code", "")
    if element.attrib.get("codeSystemName") == "DCM" and _MEANINGS.get(code) != element.attrib.get(
        "originalText"
    ):
        faults.append(f"{tag}: {code} does not mean {element.attrib.get('originalText')}")
    return faults


def _message_faults(root: ET.Element) -> list[str]:
    event = root.find("EventIdentification")
    assert event is not None
    identifier = event.find("EventID")
    assert identifier is not None
    code = identifier.attrib["csd-code"]
    types = {t.attrib["csd-code"] for t in event.findall("EventTypeCode")}
    people = root.findall("ActiveParticipant")
    objects = root.findall("ParticipantObjectIdentification")
    faults = []
    if identifier.attrib["codeSystemName"] != "DCM":
        return faults if code not in _MEANINGS else ["a standard code under a private scheme"]
    if code == "110113":  # Table A.5.3.11-1
        if event.attrib["EventActionCode"] != "E":
            faults.append("a security alert is executed")
        if not types & _ALERT_TYPES:
            faults.append("a security alert has a type of CID 403")
        for thing in objects:
            details = {d.attrib["type"] for d in thing.findall("ParticipantObjectDetail")}
            if "Alert Description" not in details:
                faults.append("an alert subject without Alert Description")
    if code == "110100":  # Table A.5.3.1-1
        if not types & {"110120", "110121"}:
            faults.append("an application activity is a start or a stop")
        roles = [r.attrib["csd-code"] for p in people for r in p.findall("RoleIDCode")]
        if roles.count("110150") != 1:
            faults.append("an application activity names one application")
    if code == "110101":  # Table A.5.3.2-1
        name = objects[0].find("ParticipantObjectName") if objects else None
        if event.attrib["EventActionCode"] != "R" or name is None or name.text != "Security Audit Log":
            faults.append("audit log used: action R, and the log named")
    return faults


def fhir_faults(told: dict) -> list[str]:  # type: ignore[type-arg]
    """What is wrong with an R4 AuditEvent; empty when nothing is."""
    allowed = {
        *("resourceType", "type", "subtype", "action", "period", "recorded", "outcome", "outcomeDesc"),
        *("purposeOfEvent", "agent", "source", "entity"),
    }
    faults = [f"no element {name}" for name in told if name not in allowed]
    faults += [f"{n} missing" for n in ("type", "recorded", "agent", "source") if not told.get(n)]
    if faults or told["resourceType"] != "AuditEvent":
        return faults or ["another resource"]
    for coding in [told["type"], *told.get("subtype", []), *told["source"].get("type", [])]:
        if not re.fullmatch(r"[^\s]+(\s[^\s]+)*", coding["code"]):
            faults.append(f"code {coding['code']!r}")
        if not re.match(r"https?://|urn:", coding["system"]):
            faults.append(f"system {coding['system']}")
    if told.get("action") not in (None, "C", "R", "U", "D", "E"):
        faults.append("action")
    if told.get("outcome") not in (None, "0", "4", "8", "12"):
        faults.append("outcome")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", told["recorded"]):
        faults.append("recorded is no instant")
    for agent in told["agent"]:
        if not isinstance(agent.get("requestor"), bool):
            faults.append("agent without requestor")
        if agent.get("network", {}).get("type") not in (None, "1", "2", "3", "4", "5"):
            faults.append("network type")
    if "observer" not in told["source"]:
        faults.append("source without observer")
    for entity in told.get("entity", []):
        if "name" in entity and "query" in entity:
            faults.append("sev-1: a name or a query, not both")
        for detail in entity.get("detail", []):
            values = [k for k in detail if k.startswith("value")]
            if (
                len(values) != 1
                or values[0] not in ("valueString", "valueBase64Binary")
                or not detail["type"]
            ):
                faults.append("detail has one value")
    return faults


_SYSLOG = re.compile(
    rb"<(?P<pri>0|[1-9][0-9]{0,2})>1 "
    rb"(?P<time>-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)) "
    rb"(?P<host>[\x21-\x7e]{1,255}) (?P<app>[\x21-\x7e]{1,48}) (?P<proc>[\x21-\x7e]{1,128}) "
    rb"(?P<msgid>[\x21-\x7e]{1,32}) "
    rb'(?P<sd>-|(\[[!#-<>-Z\\^-~]{1,32}( [!#-<>-Z\\^-~]{1,32}="([^"\\\]]|\\["\\\]])*")*\])+)'
    rb"( (?P<msg>.*))?",
    re.DOTALL,
)


def syslog_parts(data: bytes) -> dict[str, bytes]:
    """The fields of an RFC 5424 message (section 6); AssertionError when it is none."""
    found = _SYSLOG.fullmatch(data)
    assert found, data
    assert int(found["pri"]) <= 191
    parts = {name: value or b"" for name, value in found.groupdict().items()}
    if parts["msg"].startswith(b"\xef\xbb\xbf"):
        parts["msg"].decode("utf-8")
    return parts


def octet_counted(stream: bytes) -> list[bytes]:
    """The messages of an RFC 5425 stream (section 4.3)."""
    messages = []
    while stream:
        length = re.match(rb"[1-9][0-9]* ", stream)
        assert length, stream[:40]
        size = int(length.group())
        start = length.end()
        assert len(stream) >= start + size
        messages.append(stream[start : start + size])
        stream = stream[start + size :]
    return messages
