"""What runs in the process that judges protocols: decode, judge, re-encode, decode again, answer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from pydicom.dataset import Dataset

from scanward.bundle import read
from scanward.bundle.judging import load
from scanward.codecs.defined_protocol import dataset_bytes, decode_defined_protocol, read_dataset
from scanward.codecs.defined_protocol_approval import decode_approval
from scanward.codecs.defined_protocol_model import (
    DEFINED_PROTOCOL_UID,
    PROTOCOL_APPROVAL_UID,
    Approval,
    Protocol,
    ProtocolBook,
    to_json,
)
from scanward.codecs.stream import command_to_json
from scanward.commands import Opinion, Role
from scanward.config import DicomBounds
from scanward.errors import DecodeError, ScanwardError
from scanward.guard.protocol_commands import End, described
from scanward.guard.protocol_judge import ProtocolJudge, unjudged_of
from scanward.guard.protocol_process import JudgeSettings, limit_memory, packed, unpacked
from scanward.keys import VerifyKey
from scanward.layers.limits import LimitsLayer
from scanward.layers.onion import Onion
from scanward.recordings.protocols import read_protocol_book
from scanward.recordings.pseudonyms import Pseudonyms


def run(connection: Connection, settings: JudgeSettings, bounds: DicomBounds) -> None:
    """Say that it is ready (or why not), then answer until the parent hangs up."""
    try:
        judge = judge_of(settings)
    except ScanwardError as error:
        connection.send_bytes(packed({"error": error.as_json()}, b""))
        return
    limit_memory(bounds)
    connection.send_bytes(packed({"ready": True}, b""))
    while True:
        try:
            header, data = unpacked(connection.recv_bytes())
        except (EOFError, OSError):
            return
        answer, forward = answered(judge, header, data)
        connection.send_bytes(packed(answer, forward))


def judge_of(settings: JudgeSettings) -> ProtocolJudge:
    """The judge that the settings describe; ScanwardError when book or bundle are refused."""
    # Serial numbers are kept as written: an approval's digest is of the protocol as written, and nothing of the
    # book leaves this process. The bundle knows the device by its hash alone.
    hashed = Pseudonyms(settings.site_key).device(settings.device.serial)
    device = dataclasses.replace(settings.device, serial=hashed)
    onion, role = None, None
    if settings.bundle is not None:
        keys = [VerifyKey(raw) for raw in settings.trusted]
        found = read(settings.bundle, trusted=keys, device=device)
        onion, role = load(found.part, str(settings.bundle)), found.manifest.facts.role
    book = read_protocol_book(settings.book, hashed=False) if settings.book else ProtocolBook()
    return ProtocolJudge(book, settings.device, _limits_in(onion), onion, Role(role) if role else None)


def _limits_in(onion: Onion | None) -> LimitsLayer:
    rules = onion.rules if onion else ()
    return next((r for r in rules if isinstance(r, LimitsLayer)), LimitsLayer({}))


def answered(judge: ProtocolJudge, header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """One object judged: header and forward bytes of the answer, or the error in the header."""
    try:
        at = str(header.get("at") or datetime.now(UTC).strftime("%Y%m%d%H%M%S"))
        made, dataset = decoded(data)
        unjudged = unjudged_of(dataset, made)
        if isinstance(made, Protocol):
            opinions, name = judge.protocol(made, unjudged, at), made.name
            chain = [
                {"command": command_to_json(one.command), "auto": False}
                for one in described(made, judge.device)
                if one.end is End.HIGHEST
            ]
        else:
            opinions, name, chain = judge.approval(made, unjudged, at), made.subjects[0].uid, []
        forward = dataset_bytes(dataset)
        # What goes out is read once more: it must be what was judged, in every part that is judged.
        again, _ = decoded(forward)
        if again != made:
            raise DecodeError("it does not survive being written and read", name, "export it again")
    except ScanwardError as error:
        return {"error": error.as_json()}, b""
    except MemoryError:
        what = DecodeError("it takes more memory than any protocol", "judge", "leave it out")
        return {"error": what.as_json()}, b""
    kind = DEFINED_PROTOCOL_UID if isinstance(made, Protocol) else PROTOCOL_APPROVAL_UID
    return {
        "sop_class": kind,
        "sop_instance": made.uid,
        "name": name,
        "digest": _digest(made),
        "opinions": [opinion_to_json(o) for o in opinions],
        "chain": chain[:MAX_SHOWN],
    }, forward


def decoded(data: bytes) -> tuple[Protocol | Approval, Dataset]:
    """A protocol or an approval out of a file's bytes, and the data set it came from."""
    dataset = read_dataset(data, "received object")
    if str(dataset.get("SOPClassUID", "")) == PROTOCOL_APPROVAL_UID:
        return decode_approval(dataset, path="received object"), dataset
    return decode_defined_protocol(dataset, path="received object"), dataset


def _digest(made: Protocol | Approval) -> str:
    if isinstance(made, Protocol):
        return made.digest()
    return hashlib.sha256(json.dumps(to_json(made), sort_keys=True).encode()).hexdigest()


def opinion_to_json(opinion: Opinion) -> dict[str, Any]:
    """What the policy and the audit log need of an opinion."""
    return {
        "layer": str(opinion.layer),
        "outcome": str(opinion.outcome),
        "reason": opinion.reason,
        "objections": [
            {
                "field": o.field,
                "reason": o.reason,
                "found": o.found,
                "expected": o.expected,
                "severity": int(o.severity),
            }
            for o in opinion.objections[:MAX_OBJECTIONS]
        ],
    }


MAX_SHOWN = 32  # elements on the operator's screen
MAX_OBJECTIONS = 64  # told of one layer, gravest first; the rest says nothing new
