"""Motions of a CANopen session. Pure.

A motion is withheld while it is judged. When the verdict comes while the host still waits for its SDO answer, the
motion is sent and the host never knows. When it comes later, the host was told to ask again (or its frame was dropped):
the approval is kept for that one repetition, for a short time, and a stop or any other motion ends it. So nothing moves
that the host no longer asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from scanward.codecs.canopen_profile import FrameClass
from scanward.codecs.canopen_sdo import Abort, Address, Transfer
from scanward.codecs.canopen_sdo_client import Outcome
from scanward.commands.wire import Axis, Cancel, Declined, Motion, Refused
from scanward.links.base import Side
from scanward.links.can_wire import Operation, Wire
from scanward.transport.can_frames import CanFrame

Key = tuple[Axis, float, float]


@dataclass(slots=True)
class _Asked:
    """A motion with the gate, or approved and waiting for the host (``approved_until``)."""

    name: str
    key: Key
    answer_until: float
    ticket: int
    approved_until: float | None = None
    refused: bool = False
    answered: bool = False


class Motions:
    """At most one motion at a time.

    Attributes
    ----------
    sent : str
        Id of the motion that was sent last.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: _Asked | None = None
        self._address: Address = (0, 0)
        self._data = b""
        self.sent = ""
        self._last = float("-inf")
        self._count = 0

    def asked(
        self,
        key: Key,
        ticket: int = 0,
        address: Address = (0, 0),
        data: bytes = b"",
        frame: CanFrame | None = None,
    ) -> None:
        """The host wants a motion, by SDO (``ticket``) or as process data (``frame``)."""
        wire, now = self._wire, self._wire.now
        old = self._asked
        if old is not None and old.key == key and not (old.refused and frame is None and self._stale()):
            if old.approved_until is not None:
                self._asked = None
                self._send(old.name, ticket, address, data, frame)
                return
            self._withhold(ticket, frame, Abort.LOCAL_CONTROL if old.refused else Abort.DEVICE_STATE)
            return
        if now - self._last < wire.bounds.load_interval_s:
            self._withhold(ticket, frame, Abort.DEVICE_STATE)
            return
        self.void("another motion was asked for")
        self._last = now
        self._count += 1
        name = f"can-m{self._count}"
        until = now + wire.bounds.answer_s
        self._asked = _Asked(name, key, until, ticket, answered=frame is not None)
        self._address, self._data = address, data
        if frame is not None:
            self._withhold(ticket, frame, 0)
        wire.host_said(Motion(name, *key))

    def _stale(self) -> bool:
        """A refused motion may be asked for again, by SDO, after a while: it is judged anew."""
        return self._wire.now - self._last > self._wire.bounds.grant_s

    def forward(self, motion: Motion) -> None:
        """Released."""
        old = self._asked
        if old is None or old.name != motion.id or old.approved_until is not None:
            self._wire.gantry_said(Declined(motion.id, "the host gave it up meanwhile"))
        elif old.answered:
            old.approved_until = self._wire.now + self._wire.bounds.grant_s
        else:
            self._asked = None
            self._send(old.name, old.ticket, self._address, self._data, None)

    def refused(self, said: Refused) -> None:
        """The gate refuses."""
        old = self._asked
        if old is not None and old.name == said.id:
            if not old.answered:
                self._wire.deny(old.ticket, Abort.DEVICE_STATE if said.again else Abort.LOCAL_CONTROL)
            old.answered, old.refused = True, True
            if said.again:
                self._asked = None

    def gave_up(self) -> None:
        """The host no longer waits for an answer."""
        if self._asked is not None and not self._asked.answered:
            self.void("the host gave it up")

    def void(self, reason: str) -> None:
        """Nothing that was asked for or approved is done any more."""
        old, self._asked = self._asked, None
        self._wire.channel.withdraw(FrameClass.MOTION)
        if old is None or old.refused:
            return
        if not old.answered:
            self._wire.deny(old.ticket, Abort.DEVICE_STATE)
        if old.approved_until is None:
            self._count += 1
            self._wire.host_said(Cancel(f"can-m{self._count}", old.name))
        else:
            self._wire.gantry_said(Declined(old.name, f"approved and not carried out: {reason}"))

    def cancelled(self, name: str) -> None:
        """The gate gives it up."""
        old = self._asked
        if old is not None and old.name == name:
            if not old.answered:
                self._wire.deny(old.ticket, Abort.DEVICE_STATE)
            self._asked = None

    def reset(self) -> None:
        """The gantry is gone."""
        old, self._asked = self._asked, None
        if old is not None and not old.answered:
            self._wire.deny(old.ticket, Abort.DEVICE_STATE)

    def tick(self) -> None:
        """Answers that are due, approvals that are over."""
        old, now = self._asked, self._wire.now
        if old is None:
            return
        if not old.answered and now > old.answer_until:
            old.answered = True
            self._wire.deny(old.ticket, Abort.DEVICE_STATE)
        if old.approved_until is not None and now > old.approved_until:
            self.void("the host did not ask again in time")

    def _send(self, name: str, ticket: int, address: Address, data: bytes, frame: CanFrame | None) -> None:
        wire = self._wire
        self.sent = name
        if frame is not None:
            wire.out.gantry.append(frame)
            return

        def done(outcome: Outcome) -> None:
            if outcome.code:
                wire.deny(ticket, outcome.code)
                wire.gantry_said(Declined(name, f"abort {outcome.code:08X}h"))
            else:
                wire.accept(ticket)

        operation = Operation(address, data, Transfer.EXPEDITED, done, FrameClass.MOTION)
        if not wire.channel.submit(operation):
            done(Outcome(address, code=Abort.DEVICE_STATE))

    def _withhold(self, ticket: int, frame: CanFrame | None, code: int) -> None:
        if frame is None:
            self._wire.deny(ticket, code)
        else:
            self._wire.report(Side.HOST, f"a motion in {frame.id:03X}h was withheld", frame.data)
