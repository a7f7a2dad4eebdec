"""Protocol Approval Storage, 1.2.840.10008.5.1.4.1.1.200.3 (PS3.3 A.82.3, C.34.15): read and write.

The standard secures neither the approved object nor the approver's identity (C.34.15). So an approval written
here carries, in a private attribute of each subject, the digest of the protocol as it was approved; and of
the approver only what the pseudonym makes of the name leaves this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from scanward.codecs.defined_protocol import encode_reference
from scanward.codecs.defined_protocol_dataset import (
    created,
    decode_code,
    decode_equipment,
    items,
    put,
    put_element,
    put_equipment,
    put_items,
    reading,
    refuse_unreadable,
    sop_common,
    text,
)
from scanward.codecs.defined_protocol_fields import SCANWARD_CREATOR, SCANWARD_GROUP
from scanward.codecs.defined_protocol_model import (
    PROTOCOL_APPROVAL_UID,
    Approval,
    Assertion,
    Equipment,
    Reference,
)
from scanward.errors import DecodeError, InputError

_DIGEST_ELEMENT: Final = 0x80  # in the private block, see PRIVATE_TAGS for the others
_DEVICE_UID_ROOT: Final = "2.25."


def decode_approval(
    dataset: Dataset, *, path: str = "", pseudonym: Callable[[str], str] | None = None
) -> Approval:
    """A Protocol Approval as `Approval`.

    ``pseudonym`` turns the approver's name (or person code) and device serial numbers into keyed hashes;
    without one they are kept as written, which is for tools that write approvals, not for recordings.

    Raises
    ------
    DecodeError
        Another SOP class, no subject, no assertion, or malformed content.
    """
    with reading(path):
        found = text(dataset, "SOPClassUID")
        if found != PROTOCOL_APPROVAL_UID:
            raise DecodeError(
                f"not a Protocol Approval but SOP class {found or 'missing'}", path, "check the file"
            )
        refuse_unreadable(dataset, path)
        notes: list[str] = []
        subjects = tuple(_decode_subject(s, notes) for s in items(dataset, "ApprovalSubjectSequence"))
        assertions = tuple(
            _decode_assertion(a, pseudonym, path, notes) for a in items(dataset, "ApprovalSequence")
        )
        uid = text(dataset, "SOPInstanceUID")
        if not (uid and subjects and assertions):
            raise DecodeError("an approval without UID, subject or assertion", path, "export it again")
        return Approval(
            uid,
            subjects,
            assertions,
            created(dataset),
            decode_equipment(dataset, pseudonym),
            tuple(dict.fromkeys(notes)),
        )


def _decode_subject(item: Dataset, notes: list[str]) -> Reference:
    uid = text(item, "ReferencedSOPInstanceUID")
    if not uid:
        raise DecodeError("an approval subject without SOP Instance UID", todo="export it again")
    if "ReferencedSOPInstanceMACSequence" in item:
        notes.append("Referenced SOP Instance MAC Sequence is not checked")
    digest = ""
    if SCANWARD_CREATOR in item.private_creators(SCANWARD_GROUP):
        block = item.private_block(SCANWARD_GROUP, SCANWARD_CREATOR)
        if _DIGEST_ELEMENT in block:
            value = block[_DIGEST_ELEMENT].value
            digest = value.decode("ascii") if isinstance(value, bytes) else str(value)
    return Reference(text(item, "ReferencedSOPClassUID"), uid, digest.strip())


def _decode_assertion(
    item: Dataset, pseudonym: Callable[[str], str] | None, path: str, notes: list[str]
) -> Assertion:
    codes = items(item, "AssertionCodeSequence")
    when = text(item, "AssertionDateTime")
    if not codes or not when:
        raise DecodeError("an assertion without code or date", path, "export it again")
    asserters = items(item, "AsserterIdentificationSequence")
    if len(asserters) > 1:
        notes.append("only the first asserter is kept")
    name, device = _decode_asserter(asserters[0], pseudonym) if asserters else ("", None)
    if "PertinentDocumentsSequence" in item:
        notes.append("PertinentDocumentsSequence is not kept")
    institutions = items(item, "InstitutionCodeSequence")
    return Assertion(
        code=decode_code(codes[0]),
        uid=text(item, "AssertionUID"),
        when=when,
        asserter=name,
        device=device,
        expires=text(item, "AssertionExpirationDateTime"),
        comments=text(item, "AssertionComments"),
        institution=decode_code(institutions[0]) if institutions else None,
        trial=text(item, "ClinicalTrialProtocolID"),
        related=tuple(text(r, "ReferencedAssertionUID") for r in items(item, "RelatedAssertionSequence")),
    )


def _decode_asserter(item: Dataset, pseudonym: Callable[[str], str] | None) -> tuple[str, Equipment | None]:
    if text(item, "ObserverType") == "DEV":
        return "", decode_equipment(item, pseudonym)
    codes = items(item, "PersonIdentificationCodeSequence")
    name = text(item, "PersonName") or (decode_code(codes[0]).value if codes else "")
    return (pseudonym(name) if name and pseudonym else name), None


def encode_approval(approval: Approval) -> Dataset:
    """The approval as a data set with every type 1 and 2 attribute of its modules.

    Raises
    ------
    InputError
        When something DICOM requires is missing or does not fit its VR.
    """
    dataset = sop_common(PROTOCOL_APPROVAL_UID, approval.uid, approval.created)
    put_equipment(dataset, approval.author)
    if not approval.subjects or not approval.assertions:
        raise InputError("an approval needs a subject and an assertion", approval.uid, "say what is approved")
    put_items(dataset, "ApprovalSubjectSequence", [_encode_subject(s) for s in approval.subjects])
    put_items(dataset, "ApprovalSequence", [_encode_assertion(a) for a in approval.assertions])
    return dataset


def _encode_subject(subject: Reference) -> Dataset:
    item = encode_reference(subject)
    if subject.digest:
        block = item.private_block(SCANWARD_GROUP, SCANWARD_CREATOR, create=True)
        put_element(item, block.get_tag(_DIGEST_ELEMENT), "LO", subject.digest, "digest of a subject")
    return item


def _encode_assertion(said: Assertion) -> Dataset:
    item = Dataset()
    for keyword, value in (("AssertionUID", said.uid), ("AssertionDateTime", said.when)):
        if not value:
            raise InputError(f"{keyword} is missing", "assertion", "give one")
        put(item, keyword, value)
    put(item, "AssertionCodeSequence", said.code)
    put_items(item, "AsserterIdentificationSequence", [_encode_asserter(said)])
    for keyword, value in (
        ("AssertionExpirationDateTime", said.expires),
        ("AssertionComments", said.comments),
        ("ClinicalTrialProtocolID", said.trial),
    ):
        if value:
            put(item, keyword, value)
    if said.institution is not None:
        put(item, "InstitutionCodeSequence", said.institution)
    if said.related:
        references = []
        for uid in said.related:
            reference = Dataset()
            put(reference, "ReferencedAssertionUID", uid)
            references.append(reference)
        put_items(item, "RelatedAssertionSequence", references)
    return item


def _encode_asserter(said: Assertion) -> Dataset:
    """Identified Person or Device Macro (PS3.3 C.17-3b)."""
    item = Dataset()
    put(item, "ObserverType", "PSN" if said.device is None else "DEV")
    put(item, "InstitutionName", None)
    put(item, "InstitutionCodeSequence", ())
    if said.device is not None:
        if said.asserter:
            raise InputError("an assertion by a person and a device", "asserter", "name one of them")
        put_equipment(item, said.device)
        put(item, "StationName", None)
        serial = "|".join((said.device.manufacturer, said.device.model, said.device.serial))
        put(item, "DeviceUID", str(generate_uid(prefix=_DEVICE_UID_ROOT, entropy_srcs=[serial])))
        return item
    if not said.asserter:
        raise InputError("nobody made this assertion", "asserter", "say who approves")
    put(item, "PersonName", said.asserter)
    put(item, "PersonIdentificationCodeSequence", ())
    return item
