"""A CANopen wire in memory: canopen's client and node at its ends, the session in the middle, no thread, no clock."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from scanward.codecs.canopen_profile import CanProfile
from scanward.codecs.canopen_profile_toml import load_profile
from scanward.codecs.canopen_sdo import HEAD
from scanward.commands import Command, Context, Role, Source, Told
from scanward.commands.wire import Element, Load, Motion, Trigger
from scanward.emulator.can_gantry import CanGantry
from scanward.emulator.can_host import CanHost
from scanward.emulator.gantry import Gantry
from scanward.links.can_session import CanSession
from scanward.links.can_wire import Out
from scanward.simulation.constants import MODELS
from scanward.transport.can_frames import CanFrame, frame_of

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "can"
HEARTBEAT = frame_of("701#05")
HOST_BEAT = frame_of("77F#05")
STUDY, PATIENT = "1.2.826.0.1.3680043.8.498.77", "PID-1234"


@cache
def profile() -> CanProfile:
    return load_profile(EXAMPLES / "emulated-ct.toml")


@cache
def sheet() -> str:
    return (EXAMPLES / "emulated-ct.eds").read_text("utf-8")


def hide(text: str) -> str:
    return "h" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def scan(**changes: float | str) -> Command:
    """A head scan that the emulated gantry can do."""
    told: dict[str, float | str] = {
        "AcquisitionType": "SPIRAL",
        "KVP": 120.0,
        "XRayTubeCurrentInmA": 200.0,
        "RevolutionTime": 0.5,
        "SpiralPitchFactor": 0.8,
        "SingleCollimationWidth": 0.6,
        "TotalCollimationWidth": 38.4,
        "ScanLength": 200.0,
        "AcquisitionStartLocation": 0.0,
        "AcquisitionEndLocation": -200.0,
        "CTDIvol": 9.76,
        "CTDIwPhantomType": "IEC Body Dosimetry Phantom",
        "ConvolutionKernel": "Br40",
        "FilterType": "WEDGE_3",
        **changes,
    }
    context = {"ProtocolName": "Chest routine", "PatientAge": 63.0, "BodyPartExamined": "CHEST"}
    return Command(
        told,
        Context({name: (Told(value, Source.HOST),) for name, value in context.items()}),
        role=Role.COMMANDED,
        roles={"CTDIvol": Role.FORECAST},
    )


def load_of(*commands: Command, autos: tuple[int, ...] = (), triggers: int = 1) -> Load:
    chain = tuple(Element(c, n in autos) for n, c in enumerate(commands or (scan(),)))
    return Load("L", "", "", chain, triggers)


def write_frame(address: tuple[int, int], data: bytes, node: int = 1) -> CanFrame:
    """An expedited download."""
    assert 1 <= len(data) <= 4
    return CanFrame(0x600 + node, HEAD.pack(0x23 | (4 - len(data)) << 2, *address) + data.ljust(4, b"\0"))


def read_frame(address: tuple[int, int]) -> CanFrame:
    return CanFrame(0x601, HEAD.pack(0x40, *address) + bytes(4))


class Bench:
    """Host, session, gantry.

    Attributes
    ----------
    gate : callable or None
        Called with every message of host or gantry; by default everything is released.
    at_gantry, at_host : list of CanFrame
        What reached each end, in order.
    said : list of (method, arguments)
        What the sink was told.
    """

    def __init__(self, blocks: bool = False, up: bool = True, made: CanProfile | None = None) -> None:
        self.profile = made or profile()
        self.now = 100.0
        self.session = CanSession(self.profile, hide)
        self.at_gantry: list[CanFrame] = []
        self.at_host: list[CanFrame] = []
        self.said: list[tuple[str, tuple[Any, ...]]] = []
        self.gate: Callable[[Any], None] | None = self.release
        self._queue: deque[tuple[str, Any]] = deque()
        self._running = False
        self.gantry = Gantry(MODELS[1], self.profile.device)
        self.node = CanGantry(self.profile, sheet(), self.gantry, lambda f: self._push("gantry", f), blocks)
        self.host = CanHost(self.profile, sheet(), lambda f: self._push("host", f), timeout=0.05)
        self.deaf = False  # the gantry does not answer
        if up:
            self.beat()

    # --- the loop

    def _push(self, side: str, frame: CanFrame) -> None:
        self._queue.append((side, frame))
        self.run()

    def run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._queue:
                side, what = self._queue.popleft()
                if side == "gate":
                    if self.gate is not None:
                        self.gate(what)
                elif side == "host":
                    self.deliver(self.session.host_frame(what, self.now))
                else:
                    self.deliver(self.session.gantry_frame(what, self.now))
        finally:
            self._running = False

    def deliver(self, out: Out) -> None:
        for frame in out.gantry:
            self.at_gantry.append(frame)
            if not self.deaf:
                self.node.frame(frame, self.now)
        for frame in out.host:
            self.at_host.append(frame)
            self.host.frame(frame)
        for method, arguments in out.said:
            self.said.append((method, arguments))
            if method in ("host_said", "gantry_said"):
                self._queue.append(("gate", arguments[-1]))
        self.run()

    # --- hands

    def beat(self) -> None:
        """Both ends are heard."""
        self._push("host", HOST_BEAT)
        self._push("gantry", HEARTBEAT)

    def send(self, frame: CanFrame | str) -> list[CanFrame]:
        """A frame of the host; what came back to it."""
        before = len(self.at_host)
        self._push("host", frame_of(frame) if isinstance(frame, str) else frame)
        return self.at_host[before:]

    def gantry_sends(self, frame: CanFrame | str) -> None:
        self._push("gantry", frame_of(frame) if isinstance(frame, str) else frame)

    def to_gantry(self, message: Any) -> None:
        self.deliver(self.session.to_gantry(message, self.now))

    def to_host(self, message: Any) -> None:
        self.deliver(self.session.to_host(self.connection, message, self.now))

    def pass_time(self, seconds: float, step: float = 0.05, beat: bool = True) -> None:
        """Both ends and the session live on."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step)
            if beat:
                self._push("host", HOST_BEAT)
            self.node.tick(self.now)
            self.deliver(self.session.tick(self.now))

    def release(self, message: Any) -> None:
        """A gate that releases everything at once."""
        if isinstance(message, Load | Trigger | Motion):
            self.to_gantry(message)

    # --- eyes

    @property
    def connection(self) -> int:
        return next(a[0] for m, a in reversed(self.said) if m == "host_up")

    def messages(self, kind: type[Any]) -> list[Any]:
        return [a[-1] for m, a in self.said if m in ("host_said", "gantry_said") and isinstance(a[-1], kind)]

    def reports(self) -> list[str]:
        return [a[1] for m, a in self.said if m == "malformed"]

    def writes_at_gantry(self, index: int) -> list[bytes]:
        return [data for address, data in self.node.writes if address[0] == index]
