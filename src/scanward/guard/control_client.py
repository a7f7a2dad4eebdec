"""The other end of the control channel, for a terminal: blocking, on one local socket. docs/control.md describes it."""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanward.codecs.stream import command_from_json
from scanward.commands.wire import Axis, Element, Motion
from scanward.config import CONTROL_BOUNDS, ControlBounds
from scanward.errors import DecodeError, LinkError
from scanward.guard.arming import chain_digest, motion_digest
from scanward.guard.control_lines import PROTOCOL, act_line
from scanward.guard.operators import Act, signed
from scanward.keys import SigningKey

_DOWN = "see that the guard runs (`scanward guard`), and that you may open its socket"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the guard said of an act."""

    done: bool
    reason: str


class ControlClient:
    """One connection to a guard.

    Events that arrive while something else is awaited are kept for `events`.

    Raises
    ------
    LinkError
        When no guard answers, or it goes away.
    DecodeError
        When something else than a guard answers.
    """

    def __init__(self, path: Path, *, seconds: float = 5.0, bounds: ControlBounds = CONTROL_BOUNDS) -> None:
        self.path = path
        self._seconds = seconds
        self._most = bounds.queue_bytes
        self._idle = bounds.idle_seconds
        self._buffer = bytearray()
        self._events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._acts = 0
        self._said = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(path))
            hello = self._await("hello")
            if hello.get("protocol") != PROTOCOL:
                raise DecodeError(
                    f"the guard speaks protocol {hello.get('protocol')}, this {PROTOCOL}",
                    str(path),
                    "use the same version",
                )
            self.policy = str(hello.get("policy", ""))
            self.nonce = str(hello.get("nonce", ""))
            self.without_key = hello.get("emergency_without_key") is True
            self.state: dict[str, Any] = self._await("snapshot")["state"]
        except OSError as error:
            self._socket.close()
            raise LinkError(f"no guard answers: {error.strerror or error}", str(path), _DOWN) from error
        except (LinkError, DecodeError, KeyError, TypeError):
            self._socket.close()
            raise

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def close(self) -> None:
        """Go away."""
        self._socket.close()

    def act(self, act: Act, key: SigningKey | None) -> Answered:
        """Sign and send an act, and wait for the guard's answer; ``key`` None sends it unsigned.

        An act is signed the moment it is sent. Where the nonce has grown old meanwhile, it is signed on a fresh one.
        """
        answer = self._act(act, key)
        if answer.get("stale") is True:
            answer = self._act(act, key)
        return Answered(answer.get("done") is True, str(answer.get("reason", "")))

    def _act(self, act: Act, key: SigningKey | None) -> dict[str, Any]:
        self._acts += 1
        signature = signed(act, self.nonce, self.policy, key) if key else ""
        self._send(act_line(self._acts, act, signature))
        while True:
            answer = self._await("answer")
            if answer.get("id") == self._acts:
                self.nonce = str(answer.get("nonce", ""))
                return answer

    def refresh(self) -> dict[str, Any]:
        """The state as it is now."""
        self._send(b'{"type":"snapshot"}\n')
        self.state = self._await("snapshot")["state"]
        return self.state

    def events(self, seconds: float = 0.0) -> list[dict[str, Any]]:
        """Events that arrived, waiting at most ``seconds`` for the first; keeps the connection awake."""
        if time.monotonic() - self._said > self._idle / 3:
            self._send(b'{"type":"ping"}\n')
        if not self._events and b"\n" not in self._buffer:
            select.select([self._socket], [], [], seconds)
        while b"\n" in self._buffer or select.select([self._socket], [], [], 0)[0]:
            self._keep(self._line())
        found = list(self._events)
        self._events.clear()
        return found

    def _send(self, line: bytes) -> None:
        self._said = time.monotonic()
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise LinkError(f"the guard is gone: {error.strerror or error}", str(self.path), _DOWN) from error

    def _await(self, kind: str) -> dict[str, Any]:
        while True:
            said = self._line()
            if said.get("type") == kind:
                return said
            self._keep(said)

    def _keep(self, said: dict[str, Any]) -> None:
        if said.get("type") == "error":
            raise LinkError(
                f"the guard ended it: {said.get('what')}", str(self.path), str(said.get("todo", ""))
            )
        if said.get("type") == "event":
            self._events.append(said)

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                why = (
                    "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                )
                raise LinkError(f"the guard is gone: {why}", str(self.path), _DOWN) from error
            if not data:
                raise LinkError("the guard closed the connection", str(self.path), _DOWN)
            self._buffer += data
            if len(self._buffer) > 2 * self._most:
                raise DecodeError("a line without an end", str(self.path), "is it a guard's socket?")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DecodeError("not a guard's line", str(self.path), "is it a guard's socket?") from error
        if not isinstance(said, dict):
            raise DecodeError("not a guard's line", str(self.path), "is it a guard's socket?")
        return said


def shown_digest(held: dict[str, Any]) -> str:
    """The digest of the commands in a ``held`` event, computed from what is shown and not taken from the event.

    A terminal signs this one: a guard that shows one thing and holds another does not get a release.
    """
    try:
        motion = held.get("motion")
        if motion:
            return motion_digest(
                Motion(
                    str(motion["id"]), Axis(motion["axis"]), float(motion["target"]), float(motion["speed"])
                )
            )
        return chain_digest(
            tuple(Element(command_from_json(e["command"]), e["auto"] is True) for e in held["chain"]),
            int(held.get("triggers", 1)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(
            "a hold without its commands", "control channel", "refuse it at the guard"
        ) from error
