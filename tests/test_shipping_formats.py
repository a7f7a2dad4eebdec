"""What is exported keeps to the standards' text, whatever the records say."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _audit import KEY
from _audit_rules import dicom_faults, fhir_faults, syslog_parts
from scanward.audit import Checkpoint, Kind, Moment, Record
from scanward.shipping import (
    Event,
    Source,
    audit_event,
    audit_message,
    batch,
    body_of,
    dicom_message,
    event_of,
    ndjson_line,
    record_message,
)
from scanward.shipping.events import MEANINGS

SOURCE = Source("guard 1", "St Elsewhere", "guard.example.org")
LOG_ID = "ab" * 16
WALL = 1_795_351_104_838_494_831
kinds = st.sampled_from(sorted({*MEANINGS, "release", "load", "stop", "sent", "armed"}))
jsons = st.dictionaries(
    st.sampled_from(["kind", "user", "operator", "reason", "on", "CTDIvol"]) | st.text(max_size=8),
    st.text(max_size=40)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.lists(st.text(max_size=5), max_size=3),
    max_size=6,
)
sources = st.builds(Source, st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))


def record(payload: bytes, *, kind: Kind = Kind.RECORD, wall: int = WALL, seq: int = 7) -> Record:
    return Record(seq, kind, False, Moment(1, wall), payload, b"\xab" * 32, "00000001.audit", 92)


def event(told: dict[str, object]) -> Event:
    return event_of(record(json.dumps(told).encode()), LOG_ID)


@given(kind=kinds, told=jsons, source=sources, wall=st.integers(-(2**62), 2**62))
def test_every_record_makes_valid_events_in_all_forms(
    kind: str, told: dict[str, object], source: Source, wall: int
) -> None:
    made = event_of(record(json.dumps({**told, "kind": kind}).encode(), wall=wall), LOG_ID)
    assert made.kind == kind
    assert dicom_faults(audit_message(made, source)) == []
    assert fhir_faults(audit_event(made, source)) == []
    assert "\n" not in ndjson_line(made, source)
    for data in (record_message(made, source), dicom_message(audit_message(made, source), made, source)):
        parts = syslog_parts(data)
        assert 10 * 8 <= int(parts["pri"]) < 11 * 8
    assert json.loads(body_of(made, source))["seq"] == 7


@given(payload=st.binary(max_size=200), source=sources)
def test_opaque_records_are_carried_whole(payload: bytes, source: Source) -> None:
    made = event_of(record(payload), LOG_ID)
    assert dicom_faults(audit_message(made, source)) == []
    assert fhir_faults(audit_event(made, source)) == []
    syslog_parts(record_message(made, source))
    if made.kind == "opaque" and not made.text.startswith("{"):
        root = ET.fromstring(audit_message(made, source))
        details = {
            d.attrib["type"]: base64.b64decode(d.attrib["value"])
            for d in root.iter("ParticipantObjectDetail")
        }
        assert bytes.fromhex(details["record"].decode()) == payload


@given(told=jsons)
def test_no_record_can_write_a_second_line_or_steer_a_terminal(told: dict[str, object]) -> None:
    made = event({**told, "kind": "load\n<1>1 forged\x1b[2J"})
    line = record_message(made, Source("a\nb", "", "c d"))
    assert not any(byte < 0x20 or byte == 0x7F for byte in line)
    assert syslog_parts(line)["msgid"] == b"load?<1>1?forged?[2J"
    assert syslog_parts(line)["host"] == b"c?d"


@given(payload=st.binary(max_size=60))
def test_nor_can_a_forged_checkpoint(payload: bytes) -> None:
    line = record_message(event_of(record(payload, kind=Kind.CHECKPOINT), LOG_ID), SOURCE)
    assert not any(byte < 0x20 or byte == 0x7F for byte in line)


@pytest.mark.parametrize(
    ("told", "code", "type_code", "outcome"),
    [
        ({"kind": "audit.opened"}, "110100", "110120", 0),
        ({"kind": "audit.closed"}, "110100", "110121", 0),
        ({"kind": "hold", "reason": "physics"}, "110113", "110132", 4),
        ({"kind": "emergency", "on": True, "operator": "r1"}, "110113", "110127", 0),
        ({"kind": "emergency", "on": False, "operator": "r1"}, "110113", "110138", 0),
        ({"kind": "mode", "mode": "SERVICE"}, "110113", "110129", 0),
        ({"kind": "audit.disk_full"}, "110113", "110133", 8),
        ({"kind": "release"}, "release", None, 0),
    ],
)
def test_kinds_mean_what_dicom_means(
    told: dict[str, object], code: str, type_code: str | None, outcome: int
) -> None:
    root = ET.fromstring(audit_message(event(told), SOURCE))
    head = root.find("EventIdentification")
    assert head is not None
    assert head.attrib["EventOutcomeIndicator"] == str(outcome)
    identifier = head.find("EventID")
    assert identifier is not None
    assert identifier.attrib["csd-code"] == code
    types = [t.attrib["csd-code"] for t in head.findall("EventTypeCode")]
    assert types == ([type_code, told["kind"]] if type_code else [])
    resource = audit_event(event(told), SOURCE)
    assert resource["type"]["code"] == code
    assert [c["code"] for c in resource.get("subtype", [])] == types


def test_who_acted_is_named() -> None:
    root = ET.fromstring(audit_message(event({"kind": "release", "operator": "Röntgen, W."}), SOURCE))
    people = {p.attrib["UserID"]: p.attrib["UserIsRequestor"] for p in root.findall("ActiveParticipant")}
    assert people == {"guard 1": "false", "Röntgen, W.": "true"}
    agents = audit_event(event({"kind": "release", "operator": "Röntgen, W."}), SOURCE)["agent"]
    assert [(a["who"]["display"], a["requestor"]) for a in agents] == [
        ("guard 1", False),
        ("Röntgen, W.", True),
    ]


def test_a_checkpoint_in_syslog_is_a_checkpoint_again() -> None:
    point = Checkpoint.sign(KEY, bytes.fromhex(LOG_ID), 6, b"\x01" * 32, WALL)
    made = event_of(record(point.line.encode(), kind=Kind.CHECKPOINT), LOG_ID)
    parts = syslog_parts(record_message(made, SOURCE))
    assert Checkpoint.parse(parts["msg"].decode("utf-8-sig")) == point
    assert dicom_faults(audit_message(made, SOURCE)) == []


def test_the_syslog_head_is_what_ihe_asks() -> None:
    made = event({"kind": "hold"})
    parts = syslog_parts(dicom_message(audit_message(made, SOURCE), made, SOURCE))
    assert parts["msgid"] == b"DICOM+RFC3881"
    assert parts["pri"] == b"84"
    assert parts["msg"].startswith(b"\xef\xbb\xbf<?xml")
    assert parts["time"] == b"2026-11-22T12:38:24.838494Z"
    assert parts["host"] == b"guard.example.org"


def test_a_batch_creates_each_event_once() -> None:
    bundle = json.loads(batch([event({"kind": "load"}), event({"kind": "stop"})], SOURCE))
    assert (bundle["resourceType"], bundle["type"], len(bundle["entry"])) == ("Bundle", "batch", 2)
    for entry in bundle["entry"]:
        assert fhir_faults(entry["resource"]) == []
        assert entry["request"]["method"] == "POST"
        assert entry["request"]["ifNoneExist"].endswith(f"|urn:scanward:audit:{LOG_ID}:7")


# --- the rules themselves: they must be able to object


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('EventOutcomeIndicator="4"', 'EventOutcomeIndicator="5"'),
        ('EventActionCode="E"', 'EventActionCode="R"'),
        ("<AuditSourceIdentification", "<AuditSource"),
        ('csd-code="110113"', 'csd-code="110114"'),
        ('csd-code="110132"', 'csd-code="110120"'),
        (' originalText="Security Alert"', ""),
        ('UserIsRequestor="true"', 'UserIsRequestor="yes"'),
        ('type="Alert Description"', 'type="Description"'),
        ("<ParticipantObjectName>Security Audit Log</ParticipantObjectName>", ""),
    ],
)
def test_the_dicom_rules_bite(old: str, new: str) -> None:
    text = audit_message(event({"kind": "hold"}), SOURCE)
    assert dicom_faults(text) == []
    assert old in text
    broken = text.replace(old, new)
    if old.startswith("<AuditSource"):
        broken = broken.replace("</AuditSourceIdentification", "</AuditSource")
    assert dicom_faults(broken) != []


@pytest.mark.parametrize(
    "change",
    [{"recorded": "now"}, {"agent": []}, {"outcome": "5"}, {"extra": 1}, {"source": {"site": "x"}}],
)
def test_the_fhir_rules_bite(change: dict[str, object]) -> None:
    told = audit_event(event({"kind": "hold"}), SOURCE)
    assert fhir_faults(told) == []
    assert fhir_faults({**told, **change}) != []
