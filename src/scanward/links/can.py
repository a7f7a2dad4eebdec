"""The CANopen link: two buses, the guard in between (docs/can.md).

    link = CanLink(profile, CanBus("socketcan", "can0"), CanBus("socketcan", "can1"), hide)
    await link.start(relay)

Each bus is read in a thread of its own. A frame of the closed list (SYNC, heartbeat, node guarding, stops) is sent on
from that thread before anything else is done with it; everything else of the host goes through the session, under one
lock, in the order it came. What the gate must hear is carried to the loop; the gate's answers are sent from there.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from scanward.codecs.canopen_chain import Hide
from scanward.codecs.canopen_profile import CanProfile, FrameClass
from scanward.commands.wire import Stop, ToGantry, ToHost
from scanward.config import CAN_BOUNDS, CanBounds
from scanward.errors import LinkError
from scanward.links.base import Link, Side, Sink
from scanward.links.can_session import CanSession, is_relayed
from scanward.links.can_wire import Out
from scanward.transport.can import CanBus
from scanward.transport.can_frames import CanFrame

Tap = Callable[[Side, CanFrame, float, bool], None]
"""Told of every frame: on which side's bus, what, at which second (of `time.time`), and whether the link sent it.

Called from several threads; must not block.
"""


class CanLink(Link):
    """One gantry on one bus, its host on another.

    Parameters
    ----------
    profile : CanProfile
        From ``codecs.canopen_profile_toml.load_profile``.
    host, gantry : CanBus
        Open buses; ``close`` closes them.
    hide : callable
        Turns StudyInstanceUID, PatientID and the serial number into keyed hashes.
    tap : callable or None
        See `Tap`: for recording.
    closing : callable or None
        Called when nothing more will be told to ``tap``.

    Attributes
    ----------
    unsent : int
        Frames that a bus did not take.
    """

    def __init__(
        self,
        profile: CanProfile,
        host: CanBus,
        gantry: CanBus,
        hide: Hide,
        tap: Tap | None = None,
        closing: Callable[[], None] | None = None,
        bounds: CanBounds = CAN_BOUNDS,
    ) -> None:
        self._profile = profile
        self._host = host
        self._gantry = gantry
        self._session = CanSession(profile, hide, bounds)
        self._tap = tap
        self._closing = closing
        self._bounds = bounds
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sink: Sink | None = None
        self._said: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._scheduled = False
        self._closed = False
        self._switch: float | None = None
        self.unsent = 0
        self._told_unsent = 0

    async def start(self, sink: Sink) -> None:
        """Begin to read both buses."""
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(self._bounds.switch_s)  # or SYNC would wait for a loop that is at work
        self._gantry.start(self._from_gantry, lambda now: None, self._lost)
        self._host.start(self._from_host, self._tick, self._lost)

    async def close(self) -> None:
        """End both readers and close both buses."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._host.close)
        await loop.run_in_executor(None, self._gantry.close)
        if self._closing is not None:
            await loop.run_in_executor(None, self._closing)
        if self._switch is not None:
            sys.setswitchinterval(self._switch)
        self._sink = None

    def to_gantry(self, message: ToGantry) -> None:
        """Send; a stop goes out before anything that another thread is about to send."""
        if isinstance(message, Stop):
            self._send_all(self._gantry, self._session.stop_frames(message.what))
        with self._lock:
            self._do(self._session.to_gantry(message, time.monotonic(), isinstance(message, Stop)))

    def to_host(self, connection: int, message: ToHost) -> None:
        """Tell the host what CANopen can say of it."""
        with self._lock:
            self._do(self._session.to_host(connection, message, time.monotonic()))

    def drop(self, reason: str) -> None:
        """Stop the gantry, then fall silent on both buses; stops of the host still pass."""
        with self._lock:
            self._do(self._session.drop(time.monotonic()))

    # --- in the readers' threads

    def _from_host(self, frame: CanFrame, now: float) -> None:
        rule = self._profile.passes_at_once(frame)
        if rule is not None and not (self._session.dropped and rule.kind is not FrameClass.STOP):
            self._send_all(self._gantry, (frame,))
        if self._tap is not None:
            self._tap(Side.HOST, frame, time.time(), False)
        with self._lock:
            self._do(self._session.host_frame(frame, now, passed=rule is not None))

    def _from_gantry(self, frame: CanFrame, now: float) -> None:
        passed = not self._session.dropped and is_relayed(self._profile, frame)
        if passed:
            self._send_all(self._host, (frame,))
        if self._tap is not None:
            self._tap(Side.GANTRY, frame, time.time(), False)
        with self._lock:
            self._do(self._session.gantry_frame(frame, now, passed=passed))

    def _tick(self, now: float) -> None:
        with self._lock:
            if self.unsent != self._told_unsent:
                self._told_unsent = self.unsent
                self._session.unsent()
            self._do(self._session.tick(now))

    def _lost(self, reason: str) -> None:
        """A bus died: without it nothing can be guarded."""
        with self._lock:
            self._session.wire_lost(reason)
            self._do(self._session.drop(time.monotonic()))

    # --- either

    def _do(self, out: Out) -> None:
        """Send in order, and carry the messages to the loop. Under the lock."""
        self._send_all(self._gantry, out.gantry)
        self._send_all(self._host, out.host)
        if not out.said or self._closed or self._loop is None:
            return
        for said in out.said:
            # A flood of one stop waits as one: the frames themselves have all been sent.
            if not (len(self._said) > self._bounds.events // 2 and _is_stop(said) and self._said[-1] == said):
                self._said.append(said)
        if len(self._said) > self._bounds.events and not self._session.dropped:
            dropped = self._session.drop(
                time.monotonic()
            )  # the loop does not keep up: nothing may be lost silently
            self._send_all(self._gantry, dropped.gantry)
            self._said.extend(dropped.said)
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop was closed without closing the link
                self._closed = True

    def _drain(self) -> None:
        """On the loop: tell the sink."""
        with self._lock:
            said, self._said = self._said, deque()
            self._scheduled = False
        for method, arguments in said:
            if self._sink is None or self._closed:
                return
            getattr(self._sink, method)(*arguments)

    def _send_all(self, bus: CanBus, frames: tuple[CanFrame, ...] | list[CanFrame]) -> None:
        """A frame that a bus does not take is counted; what it was part of ends by its own time-out."""
        for frame in frames:
            try:
                bus.send(frame)
            except LinkError:
                self.unsent += 1
                continue
            if self._tap is not None:
                self._tap(Side.HOST if bus is self._host else Side.GANTRY, frame, time.time(), True)


def _is_stop(said: tuple[str, tuple[Any, ...]]) -> bool:
    return said[0] == "host_said" and isinstance(said[1][1], Stop)
