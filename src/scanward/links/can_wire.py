"""What the parts of a CANopen session share: outputs, reports, the channel to the gantry, and the host's open request.

All of it is pure: frames and ``now`` in, frames and calls of the sink out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scanward.codecs.canopen_chain import Mirror
from scanward.codecs.canopen_profile import SDO_ANSWER, SDO_REQUEST, CanProfile
from scanward.codecs.canopen_sdo import Abort, Address, Transfer
from scanward.codecs.canopen_sdo_client import Outcome, SdoClient
from scanward.codecs.canopen_sdo_server import SdoServer
from scanward.commands.wire import FromGantry, FromHost
from scanward.config import CanBounds
from scanward.links.base import Side, digest_of
from scanward.transport.can_frames import CanFrame

Done = Callable[[Outcome], None]


@dataclass(slots=True)
class Out:
    """What is to be done: frames for each side, in order, and calls of the sink (method, arguments)."""

    gantry: list[CanFrame] = field(default_factory=list)
    host: list[CanFrame] = field(default_factory=list)
    said: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Operation:
    """One transfer towards the gantry; ``data`` None reads. ``tag`` names what it is for."""

    address: Address
    data: bytes | None
    transfer: Transfer
    done: Done
    tag: str


class Channel:
    """The one SDO channel to the gantry, and what waits for it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._client = SdoClient(wire.bounds)
        self._waiting: deque[Operation] = deque()
        self._now: Operation | None = None

    def submit(self, operation: Operation) -> bool:
        """Do it when its turn comes; False when too many wait already."""
        if len(self._waiting) >= self._wire.bounds.requests:
            return False
        self._waiting.append(operation)
        self.pump()
        return True

    def pump(self) -> None:
        """Begin the next transfer when the channel is free."""
        while self._now is None and self._waiting:
            operation = self._now = self._waiting.popleft()
            now = self._wire.now
            if operation.data is None:
                frames = self._client.upload(operation.address, operation.transfer, now)
            else:
                frames = self._client.download(operation.address, operation.data, operation.transfer, now)
            self._wire.send_gantry(frames)

    def frame(self, data: bytes) -> None:
        """One SDO frame from the gantry."""
        sent = self._client.frame(data, self._wire.now)
        self._wire.send_gantry(sent.frames)
        self._ended(sent.outcome)

    def tick(self) -> None:
        """Time passes."""
        sent = self._client.tick(self._wire.now)
        self._wire.send_gantry(sent.frames)
        self._ended(sent.outcome)

    def _ended(self, outcome: Outcome | None) -> None:
        if outcome is not None and self._now is not None:
            operation, self._now = self._now, None
            operation.done(outcome)
            self.pump()

    def withdraw(self, *tags: str) -> None:
        """What waits under these tags is not done any more; what was sent already cannot be called back."""
        kept: deque[Operation] = deque()
        gone: list[Operation] = []
        for operation in self._waiting:
            (gone if operation.tag in tags else kept).append(operation)
        self._waiting = kept
        for operation in gone:
            operation.done(Outcome(operation.address, code=Abort.DEVICE_STATE))

    def interrupted(self) -> None:
        """A frame of somebody else ended the transfer that was going on."""
        self._client.reset()
        if self._now is not None:
            operation, self._now = self._now, None
            operation.done(Outcome(operation.address, code=Abort.GENERAL))
        self.pump()

    def reset(self) -> None:
        """The gantry is gone: nothing is done any more."""
        self._client.reset()
        gone = [*([self._now] if self._now else []), *self._waiting]
        self._now = None
        self._waiting.clear()
        for operation in gone:
            operation.done(Outcome(operation.address, code=Abort.TIMED_OUT))


class Reports:
    """Refusals for the log: each kind at once, then at most one a second with its count."""

    def __init__(self, bounds: CanBounds) -> None:
        self._bounds = bounds
        self._since: dict[tuple[Side, str], float] = {}
        self._more: dict[tuple[Side, str], int] = {}
        self.total = 0

    def add(self, out: Out, side: Side, reason: str, data: bytes, now: float) -> None:
        """One refusal."""
        self.total += 1
        key = (side, reason)
        if key not in self._since:
            if len(self._since) >= self._bounds.reports:
                key = (side, "further refusals")
            if key not in self._since:
                self._since[key] = now
                out.said.append(("malformed", (side, reason, digest_of(data))))
                return
        self._more[key] = self._more.get(key, 0) + 1

    def tick(self, out: Out, now: float) -> None:
        """Say the counts whose second is over."""
        for key in [k for k, since in self._since.items() if now - since >= self._bounds.report_s]:
            count = self._more.pop(key, 0)
            if count:
                self._since[key] = now
                out.said.append(("malformed", (key[0], f"{key[1]} ({count} times more)", "")))
            else:
                del self._since[key]


class Wire:
    """Shared state of one session.

    Attributes
    ----------
    gantry_up : bool
        It was heard, and is the device of the profile.
    now : float
        Monotonic seconds of the input that is being handled.
    ticket : int
        Number of the host's open SDO request; an answer with an older one is not sent.
    """

    def __init__(self, profile: CanProfile, bounds: CanBounds, server: SdoServer) -> None:
        self.profile = profile
        self.bounds = bounds
        self.now = 0.0
        self.out = Out()
        self.mirror = Mirror()
        self.server = server
        self.channel = Channel(self)
        self.reports = Reports(bounds)
        self.connection = 0
        self.gantry_up = False
        self.ticket = 0

    def take(self) -> Out:
        """Everything that came up since the last time."""
        out, self.out = self.out, Out()
        return out

    # --- frames

    def send_gantry(self, frames: Sequence[bytes]) -> None:
        """SDO frames to the gantry."""
        number = SDO_REQUEST + self.profile.node
        self.out.gantry += [CanFrame(number, data) for data in frames]

    def send_host(self, frames: Sequence[bytes]) -> None:
        """SDO frames to the host."""
        number = SDO_ANSWER + self.profile.node
        self.out.host += [CanFrame(number, data) for data in frames]

    # --- messages

    def host_said(self, message: FromHost) -> None:
        """For the gate."""
        self.out.said.append(("host_said", (self.connection, message)))

    def gantry_said(self, message: FromGantry) -> None:
        """For the gate."""
        self.out.said.append(("gantry_said", (message,)))

    def report(self, side: Side, reason: str, data: bytes = b"") -> None:
        """Something was refused."""
        self.reports.add(self.out, side, reason, data, self.now)

    # --- the host's open request

    def accept(self, ticket: int) -> None:
        """Done as asked."""
        if ticket == self.ticket:
            self.send_host(self.server.complete_download())

    def give(self, ticket: int, data: bytes) -> None:
        """Here is what was asked for."""
        if ticket == self.ticket:
            self.send_host(self.server.complete_upload(data))

    def deny(self, ticket: int, code: int) -> None:
        """Not done; ``code`` says why."""
        if ticket == self.ticket:
            self.send_host(self.server.fail(code))

    # --- reading several entries

    def read_all(
        self, addresses: Sequence[Address], tag: str, done: Callable[[dict[Address, bytes] | None, str], None]
    ) -> None:
        """Read one entry after the other; ``done`` gets the values, or None and what went wrong.

        "No data" is an empty text. Others' transfers take their turn between two of these.
        """
        found: dict[Address, bytes] = {}
        left = deque(addresses)

        def step(outcome: Outcome | None) -> None:
            if outcome is not None:
                if outcome.code and not (outcome.by_gantry and outcome.code == Abort.NO_DATA):
                    index, sub = outcome.address
                    done(None, f"{index:04X}h:{sub:02X} cannot be read (abort {outcome.code:08X}h)")
                    return
                found[outcome.address] = outcome.data or b""
            if not left:
                done(found, "")
                return
            operation = Operation(left.popleft(), None, Transfer.EXPEDITED, step, tag)
            if not self.channel.submit(operation):
                done(None, "too many transfers wait for the gantry")

        step(None)
