"""The process that asks the worklist: ``python -m scanward.guard.context FD``, started by the relay.

A process of its own because DICOM brings numpy with it, and because a worklist may hang: then the questions wait
here, and the relay goes on without an answer.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NoReturn

import msgspec

from scanward import keys
from scanward.config import CONTEXT_BOUNDS, DICOM_BOUNDS
from scanward.errors import ScanwardError
from scanward.guard.context_client import (
    ContextAnswer,
    ContextLabel,
    ContextPart,
    ContextQuestion,
    ContextSettings,
)
from scanward.guard.ipc import Frames, framed
from scanward.links.dicom_worklist import Worklist
from scanward.transport.dicom import Caller, Peer
from scanward.transport.tls import TlsFiles, client_context

_CHUNK = 1 << 16  # bytes read at once
ANOTHER = {
    "PatientID": [ContextPart("another patient", "worklist"), ContextPart("the one who is loaded", "host")]
}
"""Said of an examination that the worklist has for another patient: a part that contradicts itself."""


def worklist_of(settings: ContextSettings) -> Worklist:
    """The worklist to ask; LinkError when its title or our certificate cannot be used."""
    context = None
    if settings.certificate:
        files = TlsFiles(Path(settings.certificate), Path(settings.key), Path(settings.authority))
        context = client_context(files, keys.passphrase_from_environment())
        context.check_hostname = True  # its certificate must carry the name that was configured
    peer = Peer(settings.host, settings.port, settings.server, context, settings.name)
    brisk = replace(
        DICOM_BOUNDS,
        connect_seconds=CONTEXT_BOUNDS.query_s,
        handshake_seconds=CONTEXT_BOUNDS.query_s,
        negotiation_seconds=CONTEXT_BOUNDS.query_s,
        answer_seconds=CONTEXT_BOUNDS.query_s,
    )
    return Worklist(Caller(settings.title, bounds=brisk), peer)


def answer(worklist: Worklist, question: ContextQuestion, today: str) -> ContextAnswer:
    """What the worklist says of one examination; a reason where it says nothing.

    Of an examination that it has for another patient it tells that alone, and no name.
    """
    try:
        found = worklist.examination(study=question.study, patient=question.patient, today=today)
    except ScanwardError as error:  # an identifier that is no exact value
        return ContextAnswer(question.number, reason=error.what)
    parts = {
        name: [ContextPart(told.value, "worklist") for told in each] for name, each in found.parts.items()
    }
    # A reason is recorded, so it repeats no identifier. The label goes to screens alone (`examination.Names`).
    named = any(each and each in found.reason for each in (question.study, question.patient))
    reason = "it cannot be used" if named else found.reason
    label = ContextLabel(**found.label) if found.label and not found.stranger else None
    return ContextAnswer(question.number, ANOTHER if found.stranger else parts, reason, found.down, label)


def serve(sock: socket.socket) -> int:
    """Read settings, then answer until the other end is closed; the exit status."""
    payloads = _payloads(sock)
    first = next(payloads, None)
    if first is None:
        return 0
    try:
        worklist = worklist_of(msgspec.json.decode(first, type=ContextSettings))
    except (ScanwardError, msgspec.MsgspecError) as error:
        sock.sendall(framed(ContextAnswer(0, reason=str(error)[:500], down=True)))
        return 2
    for payload in payloads:
        question = msgspec.json.decode(payload, type=ContextQuestion)
        sock.sendall(framed(answer(worklist, question, f"{date.today():%Y%m%d}")))
    return 0


def _payloads(sock: socket.socket) -> Iterator[bytes]:
    frames = Frames()
    while data := sock.recv(_CHUNK):
        yield from frames.feed(data)


def main() -> NoReturn:
    """Entry point of the process."""
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        try:
            status = serve(sock)
        except OSError:
            status = 0  # the relay is gone
    sys.exit(status)


if __name__ == "__main__":
    main()
