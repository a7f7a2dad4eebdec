"""The writer in a process of its own, started by `scanward.audit.client`: it takes what has arrived as one group,
makes it durable, and answers.

It imports no numpy. It ends when its socket closes, and with nothing less than SIGKILL before that: whoever
stops the guard stops the relay, and the relay's last records must still be written. This module is the one
place of the room that reads the clocks.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from scanward.audit.checkpoints import Checkpoint
from scanward.audit.clock import ClockWatch
from scanward.audit.folder import PosixFolder
from scanward.audit.frames import Moment
from scanward.audit.messages import NUMBER, Message, Parser, Say, encode
from scanward.audit.witness import Courier, witness_at
from scanward.audit.writer import Writer
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import AuditError, AuditFullError, InputError, ScanwardError
from scanward.keys import SigningKey, passphrase_from_environment

_READ: Final = 1 << 18  # bytes taken from the socket at a time
_TICK_NS: Final = 500_000_000
_LAST_WITNESS_S: Final = 5.0  # s that a witness gets for the last checkpoint when the process ends


def read_clocks() -> Moment:
    """Both clocks, now."""
    return Moment(time.monotonic_ns(), time.time_ns())


class Server:
    """Messages in, answers out, over one `Writer`. ``answer`` may block: nobody but the relay waits here."""

    def __init__(
        self, writer: Writer, answer: Callable[[bytes], None], bounds: AuditBounds, news: deque[str]
    ) -> None:
        """``news`` is what the thread of the witness has to tell."""
        self._news = news
        self._writer, self._answer, self._bounds = writer, answer, bounds
        self._watch = ClockWatch(bounds.clock_jump_ns)
        self._group: list[tuple[int, int]] = []  # (token, sequence number), waiting for the commit
        self._answers = bytearray()
        self._state: tuple[bool, str] | None = None
        self._ticked = 0

    def take(self, messages: list[Message], now: Moment) -> None:
        """Append what arrived, commit, answer."""
        jump = self._watch.seen(now)
        if jump is not None and not self._writer.failure:
            self._writer.append(jump, now, reserved=True)
        wanted = False
        for message in messages:
            if message.kind is Say.CHECKPOINT:
                wanted = True
                continue
            try:
                reserved = message.kind is Say.APPEND_RESERVED
                seq = self._writer.append(message.body, now, reserved=reserved)
            except AuditFullError:
                self._answers += encode(Say.FULL, message.token)
                continue
            except AuditError as error:
                self._answers += encode(Say.FAILED, message.token, str(error).encode())
                continue
            self._group.append((message.token, seq))
            if self._writer.pending_bytes >= self._bounds.batch_bytes:
                self._commit(now, checkpoint=False)
        self._commit(now, checkpoint=wanted)
        self.tick(now)
        self._tell()

    def tick(self, now: Moment) -> None:
        """What is due by time alone."""
        if now.monotonic_ns - self._ticked < _TICK_NS:
            return
        self._ticked = now.monotonic_ns
        with suppress(AuditError):  # told by the state, and by the answer to the next record
            self._writer.tick(now)

    def checkpointed(self, checkpoint: Checkpoint) -> None:
        """The writer made one durable."""
        self._answers += encode(Say.CHECKPOINTED, 0, checkpoint.line.encode("ascii"))

    def _commit(self, now: Moment, *, checkpoint: bool) -> None:
        reason = self._writer.failure
        try:
            if not reason:
                self._writer.commit(now, checkpoint=checkpoint)
        except AuditError as error:
            reason = str(error)
        for token, seq in self._group:
            if seq <= self._writer.durable:
                self._answers += encode(Say.DURABLE, token, NUMBER.pack(seq))
            else:
                self._answers += encode(Say.FAILED, token, reason.encode())
        self._group.clear()

    def _tell(self) -> None:
        state = (self._writer.full, self._writer.failure)
        if state != self._state:
            self._state = state
            told = {"full": state[0], "failure": state[1], "reserve_left": self._writer.reserve_left}
            self._answers += encode(Say.STATE, 0, json.dumps(told).encode("ascii"))
        while self._news:
            self._answers += encode(Say.WITNESS, 0, self._news.popleft().encode())
        if self._answers:
            data, self._answers = bytes(self._answers), bytearray()
            self._answer(data)


def serve(sock: socket.socket, clocks: Callable[[], Moment] = read_clocks) -> int:
    """Run until the other side closes; the exit status."""
    parser = Parser(AUDIT_BOUNDS.record_bytes + (64 << 10))
    try:
        settings, early = _first(sock, parser)
        bounds = replace(AUDIT_BOUNDS, **settings.get("bounds", {}))
        key = SigningKey.load(Path(settings["key"]), passphrase_from_environment())
        folder = _open(Path(settings["folder"]))
    except (ScanwardError, KeyError, TypeError, ValueError) as error:
        return _refuse(sock, error)
    courier: Courier | None = None
    server: Server | None = None
    waiting: list[Checkpoint] = []

    def ship(checkpoint: Checkpoint) -> None:
        if courier:
            courier(checkpoint)
        if server:
            server.checkpointed(checkpoint)
        else:
            waiting.append(checkpoint)

    def answer(data: bytes) -> None:
        # The relay is gone: nobody can be told, and what it handed over before is still to be read and kept.
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)

    news: deque[str] = deque(maxlen=16)
    try:
        if settings.get("witness"):
            courier = Courier(witness_at(Path(settings["witness"])), news.append, bounds)
        writer = Writer(folder, key, clocks(), witness=ship, bounds=bounds)
    except ScanwardError as error:
        folder.done()
        return _refuse(sock, error)
    opened = writer.opened
    told = {
        "log_id": opened.log_id.hex(),
        "last_seq": opened.last_seq,
        "head": opened.head.hex(),
        "cut_bytes": opened.cut_bytes,
        "broken": opened.broken,
    }
    answer(encode(Say.RECOVERED, 0, json.dumps(told).encode("ascii")))
    server = Server(writer, answer, bounds, news)
    for checkpoint in waiting:
        server.checkpointed(checkpoint)
    status = 0
    try:
        _loop(sock, parser, server, early, clocks)
    except ScanwardError as error:
        status = _refuse(sock, error)
    except OSError:
        status = 0  # the relay is gone, and with it whoever could be told
    finally:
        status = max(status, _finish(writer, clocks))
        if courier:
            courier.close(_LAST_WITNESS_S)
        folder.done()
    return status


def _finish(writer: Writer, clocks: Callable[[], Moment]) -> int:
    try:
        writer.close(clocks())
    except AuditError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - nobody else is left to be told
        return 1
    return 0


def _loop(
    sock: socket.socket,
    parser: Parser,
    server: Server,
    early: list[Message],
    clocks: Callable[[], Moment],
) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    server.take(early, clocks())
    while True:
        ready = poll.poll(_TICK_NS // 1_000_000)
        messages = []
        if ready:
            data = sock.recv(_READ)
            if not data:
                return
            messages = list(parser.feed(data))
        server.take(messages, clocks())


def _first(sock: socket.socket, parser: Parser) -> tuple[dict[str, Any], list[Message]]:
    """The settings, and the records that came with them."""
    messages: list[Message] = []
    while not messages:
        data = sock.recv(_READ)
        if not data:
            raise InputError("no settings came", "audit socket", "start it through scanward.audit.client")
        messages += parser.feed(data)
    if messages[0].kind is not Say.SETTINGS:
        raise InputError("the first message holds no settings", "audit socket", "restart the guard")
    settings = json.loads(messages[0].body)
    if not isinstance(settings, dict):
        raise InputError("settings that are no object", "audit socket", "restart the guard")
    return settings, messages[1:]


def _open(path: Path) -> PosixFolder:
    try:
        return PosixFolder(path)
    except BlockingIOError as error:
        raise AuditError("another writer has this log open", str(path), "end it first") from error
    except OSError as error:
        raise AuditError(
            f"the folder of the log cannot be used: {error.strerror}",
            str(path),
            "check the path and its rights",
        ) from error


def _refuse(sock: socket.socket, error: Exception) -> int:
    told = str(error) if isinstance(error, ScanwardError) else f"settings that make no sense: {error!r}"
    with suppress(OSError):  # nobody reads it any more; the status still tells
        sock.sendall(encode(Say.FAILED, 0, told.encode()))
    return 1


def main(arguments: list[str]) -> int:
    """``python -m scanward.audit.process DESCRIPTOR``"""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(arguments[0])) as sock:
        return serve(sock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
