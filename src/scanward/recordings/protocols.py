"""The site's protocol book from files: CT Defined Procedure Protocols and Protocol Approvals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scanward.codecs.defined_protocol import decode_defined_protocol, read_dataset
from scanward.codecs.defined_protocol_approval import decode_approval
from scanward.codecs.defined_protocol_model import (
    DEFINED_PROTOCOL_UID,
    PROTOCOL_APPROVAL_UID,
    Approval,
    Protocol,
    ProtocolBook,
    book,
)
from scanward.errors import DecodeError, InputError
from scanward.recordings.pseudonyms import Pseudonyms
from scanward.recordings.reading import find

MAX_PROTOCOL_BYTES = 64 << 20  # bytes of one file; an honest one has some kilobytes


def read_protocol_book(
    paths: Sequence[Path], site_key: bytes | None = None, *, hashed: bool = True
) -> ProtocolBook:
    """The book of all protocols and approvals in ``paths`` (files, and folders recursively).

    A book is the site's word, so nothing of it is passed over: any file that is neither is refused. Serial
    numbers and approvers become keyed hashes; an approval that holds for a protocol as it is written holds for
    the protocol as it is returned. ``hashed`` false keeps them as written: for comparing contents with what
    comes over the network, in memory, never for a bundle.

    Raises
    ------
    InputError
        When a path or file cannot be read, or there is no protocol among them.
    DecodeError
        For a file that is neither a protocol nor an approval, or is malformed.
    SettingsError
        When two different protocols claim one SOP Instance UID.
    """
    found = find(paths)
    for rejected in (one for group in found.failures.values() for one in group):
        raise InputError(rejected.reason, rejected.origin.path, "check the path and its rights")
    pseudonym = Pseudonyms(site_key).device if hashed else None
    protocols: list[Protocol] = []
    approvals: list[Approval] = []
    written: dict[str, str] = {}  # digest of a protocol as written -> digest of what is made of it here
    for path in found.files:
        where = str(path)
        dataset = read_dataset(_bytes(path), where)
        kind = str(dataset.get("SOPClassUID", ""))
        if kind == DEFINED_PROTOCOL_UID:
            protocols.append(decode_defined_protocol(dataset, path=where, pseudonym=pseudonym))
            if pseudonym is not None:
                written[decode_defined_protocol(dataset, path=where).digest()] = protocols[-1].digest()
        elif kind == PROTOCOL_APPROVAL_UID:
            approvals.append(decode_approval(dataset, path=where, pseudonym=pseudonym))
        else:
            raise DecodeError(
                "neither a CT Defined Procedure Protocol nor a Protocol Approval",
                where,
                "take it out of the book",
            )
    if not protocols:
        raise InputError(
            "there is no protocol", ", ".join(map(str, paths)), "give CT Defined Procedure Protocol files"
        )
    return book(protocols, [_carried(approval, written) for approval in approvals])


def _carried(approval: Approval, written: dict[str, str]) -> Approval:
    """The approval with digests of what the protocols became, where it names one as it was written.

    A digest of anything else stays, and goes on saying that the protocol was changed since.
    """
    subjects = (replace(s, digest=written.get(s.digest, s.digest)) for s in approval.subjects)
    return replace(approval, subjects=tuple(subjects))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROTOCOL_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check its rights") from error
    if len(data) > MAX_PROTOCOL_BYTES:
        raise InputError("larger than any protocol (64 MiB)", str(path), "take it out of the book")
    return data
