"""The judge's process: ``python -m scanward.guard.judge FD``, started by the relay on one end of a socketpair.

It reads its settings, verifies and loads the bundle, says that it is ready, and answers questions until the other
end is closed. Whatever goes wrong with one question is told as the answer to it; the relay, not the judge, decides
what that means, and kills a judge that does not answer in time.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec

from scanward.bundle import Bundle, VersionFloor, read
from scanward.bundle.judging import load
from scanward.commands import Command, Device, Role
from scanward.errors import BundleError, ScanwardError
from scanward.guard.ipc import Answer, Failed, Frames, JudgeSettings, Question, Ready, framed
from scanward.guard.judge_room import JudgeRoom
from scanward.keys import VerifyKey
from scanward.layers.onion import Onion

_CHUNK = 1 << 18  # bytes read at once


def open_judge(settings: JudgeSettings, *, accept: bool = True) -> tuple[Onion, Bundle]:
    """The onion of a bundle that may judge this device, and the bundle; its version is remembered if ``accept``.

    Raises
    ------
    BundleError
        Unsigned, altered, of a key not trusted, of another device, older than one accepted before, or made for
        another role than commanded values.
    """
    where = settings.bundle
    device = Device(settings.manufacturer, settings.model, settings.serial, settings.software)
    trusted = [VerifyKey.load(Path(path)) for path in settings.keys]
    floor = VersionFloor(Path(settings.versions))
    bundle = read(Path(where), trusted=trusted, device=device)
    if bundle.manifest.facts.role is not Role.COMMANDED:
        raise BundleError(
            f"the bundle judges {bundle.manifest.facts.role.value} values, a host sends commanded ones",
            where,
            "train one with recordings of commands (scanward record makes them)",
        )
    floor.check(bundle.manifest, device)
    onion = load(bundle.part, where)
    if accept:
        floor.accept(bundle.manifest, device)
    return onion, bundle


def serve(sock: socket.socket) -> int:
    """Read settings, then answer until the other end is closed; the exit status."""
    begun = time.monotonic()
    frames = Frames()
    payloads = _payloads(sock, frames)
    first = next(payloads, None)
    if first is None:
        return 0
    try:
        settings = msgspec.json.decode(first, type=JudgeSettings)
        onion, bundle = open_judge(settings)
        digest = bundle.manifest.digest
        room = JudgeRoom(onion, digest)
        onion.judge(onion.start(), Command({}))  # what is loaded on first use is loaded now
    except (ScanwardError, msgspec.MsgspecError) as error:
        told = error.as_json() if isinstance(error, ScanwardError) else {"error": "", "what": str(error)}
        sock.sendall(framed(Failed(**told)))
        return 2
    sock.sendall(framed(Ready(digest, bundle.manifest.version, onion.budget, time.monotonic() - begun)))
    for payload in payloads:
        sock.sendall(framed(_answered(room, payload)))
    return 0


def _answered(room: JudgeRoom, payload: bytes) -> Answer:
    begun = time.monotonic()
    try:
        question = msgspec.json.decode(payload, type=Question)
    except msgspec.MsgspecError as error:
        return Answer(-1, error=f"not a question: {error}")
    if not question.request:
        return Answer(0)
    try:
        found = room.answer(question)
    except Exception as error:  # noqa: BLE001 - told to the relay, which releases nothing on it
        return Answer(question.request, error=f"{type(error).__name__}: {error}"[:500])
    return msgspec.structs.replace(found, seconds=time.monotonic() - begun)


def _payloads(sock: socket.socket, frames: Frames) -> Iterator[bytes]:
    while data := sock.recv(_CHUNK):
        yield from frames.feed(data)


def main() -> NoReturn:
    """Entry point of the process."""
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        try:
            status = serve(sock)
        except OSError:
            status = 0  # the relay is gone, and with it the reason to be here
    sys.exit(status)


if __name__ == "__main__":
    main()
