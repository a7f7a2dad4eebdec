"""The judge of protocols in a process of its own: whatever a hostile object does to it, the answer is a refusal.

The parent holds sockets and records and never decodes a data set; the child holds the book, the bundle and the
decoders, with a bound on its memory. One object at a time. No answer within the deadline, or a child that died,
is a JudgeLost, the child is killed, and a new one begun for the next object.

What goes between them: a length-prefixed JSON header, then the object's bytes (``Connection.send_bytes``). What
comes out of the child is plain JSON and the object in *our* encoding, decoded once more and found to be what was
judged.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scanward.commands import Device
from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import DecodeError, LinkError, ScanwardError, SettingsError

_HEADER = 8  # bytes of the header's length, big endian
_LATER = 30.0  # s a new child has to read book and bundle


class JudgeLostError(LinkError):
    """The judge did not answer in time, or died."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """What a child needs to become a judge; read and verified by the child itself.

    Attributes
    ----------
    device : Device
        The scanner behind the link.
    book : tuple of Path
        Folders or files of approved protocols and approvals, which only the site may write to. Empty: every
        protocol is held. Not the bundle's book: its serial numbers are hashed, so digests cannot be compared.
    bundle : Path or None
    trusted : tuple of bytes
        Public keys (32 bytes) whose bundles are accepted.
    site_key : bytes or None
        Serial numbers are hashed with it, as in the recordings that the bundle was trained on.
    """

    device: Device
    book: tuple[Path, ...] = ()
    bundle: Path | None = None
    trusted: tuple[bytes, ...] = ()
    site_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class JudgeAnswer:
    """What the child says: facts about the object, opinions, and the object re-encoded."""

    sop_class: str
    sop_instance: str
    name: str
    digest: str
    opinions: tuple[Mapping[str, Any], ...]
    chain: tuple[Mapping[str, Any], ...]
    forward: bytes


class JudgeProcess:
    """Keeps one child and asks it. Thread-safe; `close` ends the child.

    Parameters
    ----------
    settings : JudgeSettings
    main : callable, optional
        What runs in the child (connection, settings, bounds); tests put a hanging one here.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        *,
        bounds: DicomBounds = DICOM_BOUNDS,
        main: Callable[[Connection, JudgeSettings, DicomBounds], None] | None = None,
    ) -> None:
        self._settings, self._bounds = settings, bounds
        self._main = main or _run
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._process: Any = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Begin, and wait until the child has read book and bundle.

        Raises
        ------
        ScanwardError
            What the child says is wrong with them.
        """
        with self._lock:
            self._begin()
            self._ready(_LATER)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def ask(self, header: Mapping[str, object], data: bytes) -> JudgeAnswer:
        """Judge one object.

        Raises
        ------
        DecodeError
            It is not what it claims to be.
        JudgeLostError
            No answer within ``judge_seconds`` (waiting for our turn and a new child's start included).
        """
        until = time.monotonic() + self._bounds.judge_seconds
        if not self._lock.acquire(timeout=self._bounds.judge_seconds):
            raise JudgeLostError("the judge is busy with other objects", "judge", "send again later")
        try:
            if self._process is None or not self._process.is_alive():
                self._begin()
                self._ready(until - time.monotonic())
            assert self._connection is not None
            try:
                self._connection.send_bytes(packed(header, data))
                answer, forward = self._receive(until - time.monotonic())
            except (OSError, EOFError) as error:
                self._end()
                raise JudgeLostError("the judge died", "judge", "see the object that killed it") from error
            if "error" in answer:
                raise _raised(answer["error"])
            lists = {name: tuple(answer[name]) for name in ("opinions", "chain")}
            return JudgeAnswer(forward=forward, **{**answer, **lists})
        finally:
            self._lock.release()

    def _begin(self) -> None:
        self._end()
        ours, theirs = self._context.Pipe()
        self._connection = ours
        self._process = self._context.Process(
            target=self._main, args=(theirs, self._settings, self._bounds), daemon=True, name="protocol-judge"
        )
        self._process.start()
        theirs.close()

    def _ready(self, seconds: float) -> None:
        try:
            answer, _ = self._receive(seconds)
        except (OSError, EOFError) as error:
            self._end()
            raise JudgeLostError("the judge died while starting", "judge", "start again") from error
        if "error" in answer:
            self._end()
            raise _raised(answer["error"])

    def _receive(self, seconds: float) -> tuple[dict[str, Any], bytes]:
        assert self._connection is not None
        if not self._connection.poll(max(seconds, 0.0)):
            self._end()
            raise JudgeLostError("the judge did not answer in time", "judge", "send again later")
        return unpacked(self._connection.recv_bytes(4 * self._bounds.protocol_bytes))

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(5.0)
            self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _run(connection: Connection, settings: JudgeSettings, bounds: DicomBounds) -> None:
    """The child. Its decoders and numpy are imported there, and not in the process that holds the sockets."""
    from scanward.guard.protocol_child import run

    run(connection, settings, bounds)


def packed(header: Mapping[str, object], data: bytes) -> bytes:
    """Header and object as one message."""
    plain = json.dumps(header).encode()
    return len(plain).to_bytes(_HEADER, "big") + plain + data


def unpacked(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of `packed`."""
    length = int.from_bytes(message[:_HEADER], "big")
    plain = json.loads(message[_HEADER : _HEADER + length])
    if not isinstance(plain, dict):
        raise DecodeError("a message between processes is no object", "judge", "start again")
    return plain, message[_HEADER + length :]


def _raised(error: Mapping[str, str]) -> ScanwardError:
    kinds: dict[str, type[ScanwardError]] = {"DecodeError": DecodeError, "SettingsError": SettingsError}
    kind = kinds.get(error["error"], LinkError)
    return kind(error["what"], error["where"], error["todo"])


def limit_memory(bounds: DicomBounds) -> None:
    """Bound this process' address space: a MemoryError in a child is a refusal, swapping is everybody's."""
    resource.setrlimit(resource.RLIMIT_AS, (bounds.judge_memory_bytes, bounds.judge_memory_bytes))
