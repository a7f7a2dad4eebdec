"""The emulated host on a CANopen wire: canopen's SDO client, heartbeat and SYNC.

    host = CanHost(profile, sheet, send)              # no thread, no bus: host.frame(...) brings what comes
    with BusHost(profile, sheet, bus) as running:      # with both, heartbeat and SYNC: running.host is the CanHost
        host.write(load)
        answer = host.trigger(0, patience=5.0)

It behaves as an ordinary host would: it writes what it wants, triggers, and when the device says "not in this state"
(0800 0022h) it tries again for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from scanward.codecs.canopen_chain import writes
from scanward.codecs.canopen_profile import (
    HEARTBEAT,
    SDO_ANSWER,
    SYNC,
    CanProfile,
    FrameClass,
    ObserveRule,
    Says,
)
from scanward.codecs.canopen_sdo import Abort, Address
from scanward.codecs.canopen_types import encode_raw
from scanward.commands.wire import Axis, Load, StopKind
from scanward.emulator.can_gantry import canopen_package, dictionary
from scanward.errors import LinkError
from scanward.transport.can import CanBus
from scanward.transport.can_frames import CanFrame

AGAIN_S = 0.05  # between two tries
HEARTBEAT_S = 0.1
_SILENCE = Abort.TIMED_OUT


@dataclass(frozen=True, slots=True)
class CanAnswer:
    """What became of a write, a trigger or a motion.

    Attributes
    ----------
    code : int
        0 when it was done, else the last abort code.
    tries : int
        How often it was sent.
    """

    code: int = 0
    tries: int = 1
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Carried out."""
        return self.code == 0

    @property
    def withheld(self) -> bool:
        """Not now."""
        return self.code == Abort.DEVICE_STATE


class CanHost:
    """One host.

    Parameters
    ----------
    send : callable
        Called with every frame that goes out.
    timeout : float
        Seconds that an SDO answer may take.

    Attributes
    ----------
    told : list of (Says, element)
        What the gantry's process data said, in order.
    """

    def __init__(
        self, profile: CanProfile, sheet: str, send: Callable[[CanFrame], None], timeout: float = 1.0
    ) -> None:
        canopen = canopen_package()
        self.profile = profile
        self._send = send
        self._aborted = canopen.SdoAbortedError
        self._silent = canopen.SdoCommunicationError
        od = dictionary(sheet, profile.node)
        self._network = canopen.Network()
        self._network.send_message = lambda number, data, remote=False: send(CanFrame(number, bytes(data)))
        self.sdo = canopen.sdo.SdoClient(0x600 + profile.node, SDO_ANSWER + profile.node, od)
        self.sdo.network = self._network
        self.sdo.RESPONSE_TIMEOUT = timeout
        self._network.subscribe(SDO_ANSWER + profile.node, self.sdo.on_response)
        self._written: dict[Address, bytes] = {}
        self.told: list[tuple[Says, int]] = []
        self._news = threading.Condition()

    def frame(self, frame: CanFrame) -> None:
        """One frame from the bus."""
        if not frame.plain:
            return
        if frame.id == SDO_ANSWER + self.profile.node:
            self._network.notify(frame.id, bytearray(frame.data), 0.0)
            return
        for rule in self.profile.observed.get(frame.id, ()):
            if rule.pattern.matches(frame.data):
                self._heard(rule, frame.data)
                return

    def _heard(self, rule: ObserveRule, data: bytes) -> None:
        element = int(rule.pattern.values(data).get("element", rule.first)) - rule.first
        with self._news:
            self.told.append((rule.says, element))
            self._news.notify_all()

    def wait(self, *says: Says, after: int = 0, timeout: float = 10.0) -> tuple[Says, int] | None:
        """The first that the gantry told of ``says`` from number ``after`` of ``told`` on; None after a while."""
        with self._news:
            self._news.wait_for(lambda: any(t[0] in says for t in self.told[after:]), timeout)
            return next((t for t in self.told[after:] if t[0] in says), None)

    # --- what a host does

    def download(
        self, address: Address, data: bytes, patience: float = 0.0, block: bool = False
    ) -> CanAnswer:
        """One entry, as often as the device says "not now" within ``patience`` seconds."""
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                if block:
                    with self.sdo.open(
                        *address, "wb", size=len(data), block_transfer=True, buffering=7
                    ) as file:
                        file.write(data)
                else:
                    self.sdo.download(*address, data, force_segment=len(data) > 4)
                code = 0
            except self._aborted as error:
                code = error.code
            except self._silent:
                code = _SILENCE
            seconds = time.monotonic() - began
            if code not in (Abort.DEVICE_STATE, _SILENCE) or seconds >= patience:
                return CanAnswer(code, tries, seconds)
            time.sleep(AGAIN_S)

    def upload(self, address: Address) -> bytes | int:
        """What an entry holds, or the abort code."""
        try:
            return bytes(self.sdo.upload(*address))
        except self._aborted as error:
            return int(error.code)
        except self._silent:
            return int(_SILENCE)

    def write(
        self,
        load: Load,
        identifiers: tuple[str, str] = ("", ""),
        everything: bool = False,
        patience: float = 0.0,
    ) -> CanAnswer:
        """Write a chain: only what differs from the last that was written, unless ``everything``."""
        began, tries = time.monotonic(), 0
        for address, data in writes(self.profile, load, identifiers).items():
            if not everything and self._written.get(address) == data:
                continue
            self._written.pop(address, None)
            answer = self.download(address, data, patience)
            tries += answer.tries
            if not answer.ok:
                return CanAnswer(answer.code, tries, time.monotonic() - began)
            self._written[address] = data
        return CanAnswer(0, tries, time.monotonic() - began)

    def trigger(self, element: int, patience: float = 0.0) -> CanAnswer:
        """Begin an element, by SDO."""
        for address, rule in self.profile.objects.items():
            if rule.kind is FrameClass.TRIGGER:
                number = encode_raw(rule.entry.kind, element + rule.first)
                return self.download(address, number, patience)
        raise LinkError("the profile has no trigger object", self.profile.name, "use trigger_by_data")

    def trigger_by_data(self, element: int) -> None:
        """Begin an element, by process data: nobody answers."""
        for number, rules in self.profile.patterns.items():
            for rule in rules:
                if rule.kind is FrameClass.TRIGGER:
                    self._send(CanFrame(number, rule.pattern.fill({"element": element + rule.first})))
                    return

    def motion(self, axis: Axis, target: float, speed: float, patience: float = 0.0) -> CanAnswer:
        """Move without scanning, by SDO: first the speed, then the target."""
        for address, rule in self.profile.objects.items():
            if rule.kind is FrameClass.MOTION and rule.axis is axis:
                if isinstance(rule.speed, tuple):
                    kind = self.profile.entries[rule.speed].kind
                    data = encode_raw(kind, rule.speed_scale.raw(speed, True))
                    if self._written.get(rule.speed) != data:
                        answer = self.download(rule.speed, data, patience)
                        if not answer.ok:
                            return answer
                        self._written[rule.speed] = data
                return self.download(
                    address, encode_raw(rule.entry.kind, rule.scale.raw(target, True)), patience
                )
        raise LinkError(f"the profile cannot move {axis}", self.profile.name, "add [[motion]]")

    def stop(self, what: StopKind = StopKind.ALL) -> None:
        """Send a stop of the closed list."""
        self._send(self.profile.stops[what][0])

    def forget(self) -> None:
        """Of what was written nothing is taken for granted any more."""
        self._written.clear()


class BusHost:
    """A `CanHost` on a bus, with heartbeat and, with a period, SYNC."""

    def __init__(
        self, profile: CanProfile, sheet: str, bus: CanBus, sync_s: float | None = None, timeout: float = 1.0
    ) -> None:
        self._bus = bus
        self._profile = profile
        self._sync_s = sync_s
        self._beaten = self._synced = float("-inf")
        self.host = CanHost(profile, sheet, self._sent, timeout)

    def __enter__(self) -> BusHost:
        self._wake(time.monotonic())
        self._bus.start(lambda frame, now: self.host.frame(frame), self._wake, lambda reason: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._bus.close()

    def _sent(self, frame: CanFrame) -> None:
        try:
            self._bus.send(frame)
        except LinkError:
            return  # as if it were lost on the wire: the client hears nothing and tries again

    def _wake(self, now: float) -> None:
        if self._profile.host is not None and now - self._beaten >= HEARTBEAT_S:
            self._beaten = now
            self._sent(CanFrame(HEARTBEAT + self._profile.host, b"\x05"))
        if self._sync_s is not None and now - self._synced >= self._sync_s:
            self._synced = now
            self._sent(CanFrame(SYNC))
