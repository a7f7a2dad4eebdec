"""What a node does with one object: sign it, or ask whether it is genuine. A whole file in, an outcome out; no network.

A signing node never hands on what it could not sign; a verifying one hands on the very bytes that it verified.
Statuses are those of PS3.4 B.2.3 and PS3.7 annex C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from scanward.config import NODE_BOUNDS
from scanward.errors import DecodeError, ScanwardError
from scanward.signatures.node_settings import OnDoubt
from scanward.transport.dicom import Incoming, Reply
from scanward.transport.dicom_names import SOP_CLASS, SOP_INSTANCE, names_of
from scanward.transport.dicom_part10 import framed, unframed

OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900  # the data set does not match the SOP class (or the instance) of the request
NOT_UNDERSTOOD: Final = 0xC000
NOT_AUTHORIZED: Final = 0x0124
NO_CONTEXT: Final = 0x0122

GENUINE: Final = "genuine"


class Reported(Protocol):
    """What a verifier says of a file, see `scanward.signatures.Report`."""

    @property
    def genuineness(self) -> Any:
        """A text: ``genuine``, ``altered``, ``unsigned`` ..."""
        ...

    def as_json(self) -> Mapping[str, Any]:
        """The whole report."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an object.

    Attributes
    ----------
    word : str
        What was found or done: ``signed``, ``genuine``, ``altered``, ``unsigned`` ...
    onward : memoryview or None
        The data set to be handed on; None: nothing goes on, ``reply`` is the answer.
    reply : Reply or None
    flagged : bool
        It goes on although it is not genuine.
    keep : bytes or None
        The file to be kept for whoever looks into it.
    report : mapping
        The verifier's report, for the kept file alone: it may name people.
    """

    word: str
    onward: memoryview | None = None
    reply: Reply | None = None
    flagged: bool = False
    keep: bytes | None = field(default=None, repr=False)
    report: Mapping[str, Any] = field(default_factory=dict, repr=False)


Work = Callable[[Incoming], Outcome]


def signing(sign: Callable[[bytes], bytes]) -> Work:
    """Sign every object. ``sign`` takes a whole file and returns it with a signature more."""

    def work(incoming: Incoming) -> Outcome:
        try:
            file = _file(incoming)
            _named_as_asked(incoming)
        except DecodeError as error:
            return Outcome("misnamed", reply=Reply(MISMATCH, error.what))
        try:
            signed = sign(file)
            syntax, onward = unframed(signed)
        except ScanwardError as error:
            return Outcome("not signed", reply=Reply(NOT_UNDERSTOOD, f"cannot be signed: {error.what}"))
        if syntax != incoming.syntax:  # a signer that converts is none
            return Outcome(
                "not signed", reply=Reply(NOT_UNDERSTOOD, "cannot be signed in its transfer syntax")
            )
        return Outcome("signed", onward)

    return work


def verifying(verify: Callable[[bytes], Reported], on_doubt: OnDoubt) -> Work:
    """Verify every object. ``verify`` takes a whole file; only the word ``genuine`` is no doubt."""

    def work(incoming: Incoming) -> Outcome:
        file = b""
        report: Mapping[str, Any] = {}
        word = "malformed"
        try:
            file = _file(incoming)
            word = "misnamed"
            _named_as_asked(incoming)
            word = "malformed"
            found = verify(file)
            word, report = str(found.genuineness), found.as_json()
        except DecodeError as error:
            report = error.as_json()
        except ScanwardError as error:  # not this object's fault: what it is to be verified by cannot be used
            word, report = "not verified", error.as_json()
        if word == GENUINE:
            return Outcome(word, memoryview(incoming.data))
        if on_doubt is OnDoubt.FLAG:
            return Outcome(word, memoryview(incoming.data), flagged=True)
        keep = (file or incoming.data) if on_doubt is OnDoubt.QUARANTINE else None
        return Outcome(word, reply=Reply(NOT_AUTHORIZED, f"not genuine: {word}"), keep=keep, report=report)

    return work


def _file(incoming: Incoming) -> bytes:
    return framed(incoming.sop_class, incoming.sop_instance, incoming.syntax, incoming.data, incoming.calling)


def _named_as_asked(incoming: Incoming) -> None:
    """DecodeError unless the data set is the object that the request says it is."""
    names = names_of(incoming.syntax, incoming.data, NODE_BOUNDS.names_bytes)
    if (names[SOP_CLASS], names[SOP_INSTANCE]) != (incoming.sop_class, incoming.sop_instance):
        raise DecodeError("the data set is another object than the request says", "SOP instance UID", "")
