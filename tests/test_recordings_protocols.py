"""A protocol book from files: approvals tied to a content go on holding when serial numbers become hashes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scanward.codecs.defined_protocol import dataset_bytes, encode_defined_protocol
from scanward.codecs.defined_protocol_approval import encode_approval
from scanward.codecs.defined_protocol_build import approval, constrain, element, protocol
from scanward.codecs.defined_protocol_model import Equipment, Protocol
from scanward.commands import Command, Context, Outcome, Source, Told
from scanward.layers.base import Part
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.recordings.protocols import read_protocol_book
from scanward.recordings.pseudonyms import Pseudonyms

KEY = b"k" * 32
SERIAL = "SN-4711"
AT = "20260601000000"


def made(kvp: float = 120.0, uid: str = "") -> Protocol:
    """A protocol by a device, for a device: both serial numbers are written in it."""
    plain = protocol("CT Head", element(1, constrain("KVP", equal=kvp), name="Head"), uid=uid)
    return replace(
        plain,
        author=Equipment("ACME", "Console", SERIAL, ("1",)),
        models=(Equipment("ACME", "CT 9000", SERIAL, ("1",)),),
    )


def folder(where: Path, kept: Protocol, approved: Protocol) -> Path:
    """``kept`` in a folder, with an approval that was given to ``approved``."""
    where.mkdir()
    (where / "protocol.dcm").write_bytes(dataset_bytes(encode_defined_protocol(kept)))
    said = approval([approved], "Doe^Jane", "20260101000000")
    assert all(subject.digest for subject in said.subjects)
    (where / "approval.dcm").write_bytes(dataset_bytes(encode_approval(said)))
    return where


@pytest.mark.parametrize("hashed", [True, False])
def test_an_approval_holds_for_the_content_it_was_given_to(tmp_path: Path, hashed: bool) -> None:
    found = read_protocol_book([folder(tmp_path / "b", made(), made())], KEY, hashed=hashed)
    assert found.standing(found.protocols[0], AT).approved
    serial = Pseudonyms(KEY).device(SERIAL) if hashed else SERIAL
    assert {found.protocols[0].author.serial, found.protocols[0].models[0].serial} == {serial}


@pytest.mark.parametrize("hashed", [True, False])
def test_it_does_not_hold_for_another_content(tmp_path: Path, hashed: bool) -> None:
    changed = made(kvp=140.0, uid=made().uid)
    found = read_protocol_book([folder(tmp_path / "b", changed, made())], KEY, hashed=hashed)
    standing = found.standing(found.protocols[0], AT)
    assert (standing.approved, standing.why) == (False, "it was changed since it was approved")


def test_it_does_not_hold_for_the_same_protocol_of_another_device(tmp_path: Path) -> None:
    other = replace(made(), models=(Equipment("ACME", "CT 9000", "SN-0815", ("1",)),))
    found = read_protocol_book([folder(tmp_path / "b", other, made())], KEY)
    assert not found.standing(found.protocols[0], AT).approved


@pytest.mark.parametrize(("kept", "outcome"), [(120.0, Outcome.PASS), (140.0, Outcome.OBJECT)])
def test_a_bundle_that_requires_approval_judges_by_it(tmp_path: Path, kept: float, outcome: Outcome) -> None:
    where = folder(tmp_path / "b", made(kept, uid=made().uid), made())
    layer = ProtocolBookLayer(read_protocol_book([where], KEY), require_approval=True)
    carried = Part(settings=json.loads(json.dumps(layer.part().settings)))
    assert SERIAL not in json.dumps(carried.settings)
    context = Context({"ProtocolName": (Told("CT Head", Source.HOST),)})
    command = Command({"KVP": kept, "ProtocolElementName": "Head"}, context)
    opinion, _ = ProtocolBookLayer.from_part(carried).judge(None, command)
    assert opinion.outcome is outcome
    if outcome is Outcome.OBJECT:
        assert "changed since it was approved" in opinion.objections[0].reason
