"""The relay's side of the writer process. No call here ever blocks, whatever the writer and the disk do.

    client = WriterClient(folder, key_path)
    loop.add_reader(client.fileno(), on_answers)            # which calls client.received()
    if client.send(token, payload) and client.wants_write:
        loop.add_writer(client.fileno(), on_writable)       # client.flush(), and remove_writer once it is done

What `send` refused (False) was not recorded, and never silently: how much was lost is recorded as soon as
there is room for it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanward.audit.messages import NUMBER, Message, Parser, Say, encode
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import AuditError, DecodeError

_READ: Final = 1 << 16
_READS_A_CALL: Final = 16  # so that a chatty writer cannot keep the relay


@dataclass(frozen=True, slots=True)
class Recovered:
    """The log is open: it ended with record ``last_seq`` and chain head ``head`` (hexadecimal).

    ``cut_bytes`` of a torn end were set aside. ``broken`` is what no crash does to a log: tell somebody.
    """

    log_id: str
    last_seq: int
    head: str
    cut_bytes: int
    broken: str


@dataclass(frozen=True, slots=True)
class Durable:
    """The record ``token`` is on disk as record ``seq``."""

    token: int
    seq: int


@dataclass(frozen=True, slots=True)
class DiskFull:
    """The record ``token`` was refused: the disk is full and it was not reserved."""

    token: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The record ``token`` is not known to be on disk. With token 0: the writer could not start, or stops."""

    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """The writer's state, told at the start and when it changes."""

    full: bool
    failure: str
    reserve_left: int


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint is durable; ``line`` is what a witness keeps."""

    line: str


@dataclass(frozen=True, slots=True)
class WitnessTrouble:
    """The witness stopped keeping checkpoints, and why; an empty reason: it works again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The writer process ended. What was sent and never answered may or may not be in the log."""

    unanswered: tuple[int, ...]


Answer = Recovered | Durable | DiskFull | Failed | State | Checkpointed | WitnessTrouble | Gone


class WriterClient:
    """One writer process."""

    def __init__(
        self,
        folder: Path,
        key: Path,
        *,
        witness: Path | None = None,
        overrides: Mapping[str, int] | None = None,
        bounds: AuditBounds = AUDIT_BOUNDS,
    ) -> None:
        """Start it. `Recovered` (or `Failed` with token 0) is its first answer; records may be sent before.

        ``witness`` is a folder or file elsewhere. ``overrides`` changes fields of `AuditBounds` for the
        writer, where a site's disk asks for it.
        """
        self._bounds = bounds
        self._out = bytearray()
        self._parser = Parser(bounds.record_bytes)
        self._unanswered: dict[int, None] = {}
        self._dropped = 0
        self._gone = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            command = [sys.executable, "-P", "-m", "scanward.audit.process", str(theirs.fileno())]
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        except OSError as error:
            ours.close()
            raise AuditError(
                f"the writer process cannot be started: {error.strerror}",
                sys.executable,
                "check the installation",
            ) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        settings = {
            "folder": str(folder.absolute()),
            "key": str(key.absolute()),
            "witness": str(witness.absolute()) if witness else "",
            "bounds": dict(overrides or {}),
        }
        self._out += encode(Say.SETTINGS, 0, json.dumps(settings).encode("ascii"))
        self.flush()

    def fileno(self) -> int:
        """For ``loop.add_reader`` and ``add_writer``."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether something waits for `flush`."""
        return bool(self._out) and not self._gone

    @property
    def dropped(self) -> int:
        """Records refused since the last `send` that was taken."""
        return self._dropped

    def send(self, token: int, payload: bytes, reserved: bool = False) -> bool:
        """Hand over one record under a number of the caller's own (above 0); False when it was refused.

        It is refused when the writer is gone, and when too much waits for it: ``bounds.client_bytes``, of
        which ``client_reserved_bytes`` are for reserved records alone.
        """
        room = self._bounds.client_bytes - (0 if reserved else self._bounds.client_reserved_bytes)
        if self._gone or len(payload) > self._bounds.record_bytes or len(self._out) + len(payload) > room:
            self._dropped += 1
            return False
        if self._dropped:
            lost = {"kind": "audit.overflow", "dropped": self._dropped}
            self._out += encode(Say.APPEND_RESERVED, 0, json.dumps(lost).encode("ascii"))
            self._dropped = 0
        self._out += encode(Say.APPEND_RESERVED if reserved else Say.APPEND, token, payload)
        self._unanswered[token] = None
        self.flush()
        return True

    def checkpoint(self) -> None:
        """Ask for a checkpoint now."""
        if not self._gone:
            self._out += encode(Say.CHECKPOINT)
            self.flush()

    def flush(self) -> None:
        """Write what the socket takes."""
        try:
            while self._out and not self._gone:
                with memoryview(self._out) as view, view[:_READ] as piece:
                    sent = self._socket.send(piece)
                del self._out[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()  # the writer is gone; `received` says so when its last answers are read

    def received(self) -> list[Answer]:
        """What the writer answered since the last call."""
        answers: list[Answer] = []
        if self._gone:
            return answers
        self.flush()
        try:
            for _ in range(_READS_A_CALL):
                data = self._socket.recv(_READ)
                if not data:
                    self._lost(answers)
                    break
                answers += [a for m in self._parser.feed(data) if (a := self._answer(m)) is not None]
        except BlockingIOError:
            pass
        except (OSError, DecodeError, ValueError, KeyError):
            self._lost(answers)
        return answers

    def _lost(self, answers: list[Answer]) -> None:
        self._gone = True
        answers.append(Gone(tuple(self._unanswered)))
        self._unanswered.clear()
        self._out.clear()

    def _answer(self, message: Message) -> Answer | None:
        kind, token, body = message.kind, message.token, message.body
        if kind in (Say.DURABLE, Say.FULL, Say.FAILED):
            self._unanswered.pop(token, None)
            if kind is Say.FAILED:
                return Failed(token, body.decode("utf-8", errors="replace"))
            if not token:
                return None  # our own note of records that were dropped
            return Durable(token, NUMBER.unpack(body)[0]) if kind is Say.DURABLE else DiskFull(token)
        if kind is Say.RECOVERED:
            return Recovered(**json.loads(body))
        if kind is Say.STATE:
            return State(**json.loads(body))
        text = body.decode("utf-8", errors="replace")
        return Checkpointed(text) if kind is Say.CHECKPOINTED else WitnessTrouble(text)

    def close(self, timeout_s: float = 10.0) -> list[Answer]:
        """Let the writer finish (this one waits, so it is for the relay's end); its last answers.

        After ``timeout_s`` seconds the process is killed: what it did not make durable is lost.
        """
        answers: list[Answer] = []
        self._socket.settimeout(timeout_s)
        try:
            if self._out and not self._gone:
                self._socket.sendall(self._out)
            self._out.clear()
            self._socket.shutdown(socket.SHUT_WR)
            while not self._gone:
                data = self._socket.recv(_READ)
                if not data:
                    break
                answers += [a for m in self._parser.feed(data) if (a := self._answer(m)) is not None]
        except (OSError, DecodeError, ValueError, KeyError):
            pass  # hung or gone: what it did not answer is told below
        if not self._gone:
            self._lost(answers)
        self._socket.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_s)
        return answers
