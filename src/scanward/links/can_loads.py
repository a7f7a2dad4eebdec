"""The load of a CANopen session: from the host's first trigger to the last element's end. Pure.

A chain lies in the gantry's memory, entry by entry; nobody says "load". So the first trigger (or a ``prepare`` write)
is withheld and makes the load: what is not confirmed is read, the chain is assembled and put to the gate. When the gate
forwards it, every entry is read back: that is the gantry's echo. From then on a trigger goes to the gate as a trigger.

Any write in between, of whatever value, voids: the gate hears a `Cancel` before the write is passed on. While an
element runs, or will start by itself, or contrast is under way, nothing may be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from scanward.codecs.canopen_chain import Hide, assemble, echo, elements_in
from scanward.codecs.canopen_profile import FrameClass
from scanward.codecs.canopen_sdo import Abort, Address, Transfer
from scanward.codecs.canopen_sdo_client import Outcome
from scanward.commands.model import Device
from scanward.commands.wire import Cancel, Declined, Load, Refused, Trigger
from scanward.errors import DecodeError
from scanward.links.base import Side
from scanward.links.can_wire import Operation, Wire
from scanward.transport.can_frames import CanFrame


class Phase(Enum):
    """How far a load has come."""

    ASSEMBLING = auto()  # entries are being read
    JUDGING = auto()  # with the gate
    WRITING = auto()  # what was withheld goes to the gantry
    READING_BACK = auto()
    LOADED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class Current:
    """The load at hand; ``withheld`` are writes that wait for its release."""

    name: str
    phase: Phase = Phase.ASSEMBLING
    message: Load | None = None
    withheld: dict[Address, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Asked:
    """One trigger of the host. ``frame`` for process data, else the write under ``ticket``.

    Attributes
    ----------
    until : float
        When the host is told to ask again.
    sent : bool
        It went to the gantry.
    """

    name: str
    element: int
    until: float
    ticket: int = 0
    address: Address = (0, 0)
    data: bytes = b""
    frame: CanFrame | None = None
    sent: bool = False


class Loads:
    """The load, its trigger, and what runs in the gantry.

    Attributes
    ----------
    running : int or None
        The element whose trigger was sent and whose end was not seen.
    injected : bool
        Contrast is under way and no element has ended since.
    beam_load : str
        Which load the gantry's messages speak of.
    """

    def __init__(self, wire: Wire, device: Callable[[], Device], hide: Hide) -> None:
        self._wire = wire
        self._device = device
        self._hide = hide
        self.current: Current | None = None
        self.trigger: Asked | None = None
        self.running: int | None = None
        self.injected = False
        self.beam_load = ""
        self._last = float("-inf")
        self._count = 0

    @property
    def locked(self) -> bool:
        """Nothing may be written now."""
        return self.running is not None or self.injected

    def reset(self) -> None:
        """The gantry is gone, or both sides are dropped: nothing of this goes on."""
        self._end_trigger(Abort.DEVICE_STATE)
        self.current = None
        self.running, self.injected, self.beam_load = None, False, ""

    # --- from the host

    def changed(self) -> None:
        """An entry is about to be written: what was loaded is not what will be there."""
        load, self.current = self.current, None
        self._withdraw_trigger()
        if load is not None and load.phase not in (Phase.ASSEMBLING, Phase.REFUSED):
            self._wire.host_said(Cancel(self._next("c"), load.name))

    def stopped(self) -> None:
        """A stop went by: the gate voids what was armed by itself."""
        self._withdraw_trigger()
        self.current = None

    def gave_up(self) -> None:
        """The host no longer waits for its trigger."""
        if self.trigger is not None and self.trigger.frame is None:
            self._withdraw_trigger()

    def prepare(self) -> None:
        """The host wants its chain judged before the first trigger."""
        if self.current is None or self.current.phase is Phase.REFUSED:
            self.current = None
            self._begin({})

    def held_write(self, ticket: int, address: Address, data: bytes) -> None:
        """An entry that acts at once: the chain with it is judged before it is written."""
        wire = self._wire
        load = self.current
        if wire.mirror.known(address) == data:
            wire.accept(ticket)  # it is in force already
        elif load is not None and load.withheld.get(address) == data:
            wire.deny(ticket, Abort.LOCAL_CONTROL if load.phase is Phase.REFUSED else Abort.DEVICE_STATE)
        else:
            self.changed()
            self._begin({address: data})
            wire.deny(ticket, Abort.DEVICE_STATE)

    def triggered(
        self,
        element: int,
        ticket: int = 0,
        address: Address = (0, 0),
        data: bytes = b"",
        frame: CanFrame | None = None,
    ) -> None:
        """A trigger: withheld and made a load, or put to the gate."""
        load = self.current
        if load is None:
            self._begin({})
            self._withhold(ticket, frame, Abort.DEVICE_STATE)
        elif load.phase is Phase.REFUSED:
            self._withhold(ticket, frame, Abort.LOCAL_CONTROL)
        elif load.phase is not Phase.LOADED or self.trigger is not None:
            self._withhold(ticket, frame, Abort.DEVICE_STATE)
        elif load.message is None or not 0 <= element < len(load.message.chain):
            self._withhold(ticket, frame, Abort.VALUE)
        else:
            until = self._wire.now + self._wire.bounds.answer_s
            self.trigger = Asked(self._next("t"), element, until, ticket, address, data, frame)
            self._wire.host_said(Trigger(self.trigger.name, load.name, element))

    def _withhold(self, ticket: int, frame: CanFrame | None, code: int) -> None:
        if frame is None:
            self._wire.deny(ticket, code)
        else:
            self._wire.report(Side.HOST, f"a trigger in {frame.id:03X}h was withheld", frame.data)

    # --- from the gate

    def forward_load(self, load: Load) -> None:
        """Released: write what was withheld, then read everything back."""
        current = self.current
        if current is None or current.name != load.id or current.phase is not Phase.JUDGING:
            self._wire.gantry_said(Declined(load.id, "the host changed it meanwhile"))
            return
        current.phase = Phase.WRITING
        self._write(current, list(current.withheld.items()))

    def forward_trigger(self, trigger: Trigger) -> None:
        """Released: send it, unless the host gave up or anything changed."""
        asked, load, wire = self.trigger, self.current, self._wire
        if (
            asked is None
            or asked.name != trigger.id
            or asked.sent
            or load is None
            or load.name != trigger.load
        ):
            wire.gantry_said(Declined(trigger.id, "the host gave it up, or changed the chain, meanwhile"))
            return
        asked.sent = True
        self.running, self.beam_load = asked.element, load.name
        if asked.frame is not None:
            wire.out.gantry.append(asked.frame)
            self.trigger = None
            return

        def done(outcome: Outcome) -> None:
            if self.trigger is asked:
                self.trigger = None
            if not outcome.code:
                wire.accept(asked.ticket)
                return
            wire.deny(asked.ticket, outcome.code)
            if outcome.code != Abort.TIMED_OUT or outcome.by_gantry:
                self.running = None  # it said no; a gantry that says nothing may have begun
            wire.gantry_said(Declined(asked.name, f"abort {outcome.code:08X}h"))

        operation = Operation(asked.address, asked.data, Transfer.EXPEDITED, done, FrameClass.TRIGGER)
        if not wire.channel.submit(operation):
            done(Outcome(asked.address, code=Abort.DEVICE_STATE, by_gantry=True))

    def cancelled(self, load: str) -> None:
        """The gate gives the load up."""
        if self.current is not None and self.current.name == load:
            self._withdraw_trigger()
            self.current = None

    def refused(self, said: Refused) -> None:
        """The gate refuses a load or a trigger."""
        load = self.current
        if self.trigger is not None and said.id == self.trigger.name:
            self._end_trigger(Abort.DEVICE_STATE if said.again else Abort.LOCAL_CONTROL)
            if not said.again:
                self.current = None  # what is asked for next is a new load
        elif load is not None and said.id == load.name:
            self._end_trigger(Abort.DEVICE_STATE)
            load.phase = Phase.REFUSED
            if said.again:
                self.current = None

    # --- from the gantry

    def started(self, element: int) -> None:
        """The beam of an element is on."""
        self.running = element

    def ended(self, element: int, aborted: bool) -> None:
        """An element ended; the next may start by itself."""
        self.injected = False
        self.running = None
        load = self.current
        if load is None or load.name != self.beam_load or load.message is None:
            return
        chain = load.message.chain
        if aborted:
            self.current = None
        elif element + 1 < len(chain):
            self.running = element + 1 if chain[element + 1].auto else None
        elif load.message.triggers == 1:
            self.current = None

    def safe(self) -> None:
        """Beam and motion are off, and what was loaded is void."""
        self.running, self.injected = None, False

    # --- time

    def tick(self) -> None:
        """A host does not wait for ever: it is told to ask again, and this trigger will not be sent."""
        asked = self.trigger
        if asked is not None and not asked.sent and self._wire.now > asked.until:
            self._end_trigger(Abort.DEVICE_STATE)

    # --- inside

    def _begin(self, withheld: dict[Address, bytes]) -> None:
        """Assemble a load; not more often than a host has reason to ask."""
        wire = self._wire
        if wire.now - self._last < wire.bounds.load_interval_s:
            return
        self._last = wire.now
        load = self.current = Current(self._next("l"), withheld=withheld)
        count = wire.profile.chain.count
        self._read(load, () if count is None else (count,), lambda: self._read_chain(load))

    def _read(self, load: Current, addresses: tuple[Address, ...], then: Callable[[], None]) -> None:
        """Read what is not confirmed, then go on, if the load still stands."""
        wire = self._wire
        missing = [a for a in addresses if wire.mirror.known(a) is None and a not in load.withheld]

        def done(found: Mapping[Address, bytes] | None, problem: str) -> None:
            if self.current is not load:
                return
            if found is None:
                self._unreadable(load, problem)
                return
            for address, data in found.items():
                wire.mirror.confirm(address, data)
            then()

        wire.read_all(missing, "read", done)

    def _read_chain(self, load: Current) -> None:
        profile = self._wire.profile
        try:
            elements = elements_in(profile, self._values(load))
        except DecodeError as error:
            self._unreadable(load, str(error))
            return
        self._read(load, profile.chain.addresses(elements), lambda: self._assembled(load))

    def _assembled(self, load: Current) -> None:
        try:
            load.message = assemble(
                self._wire.profile, self._values(load), load.name, self._device(), self._hide
            )
        except DecodeError as error:
            self._unreadable(load, str(error))
            return
        load.phase = Phase.JUDGING
        self._wire.host_said(load.message)

    def _values(self, load: Current) -> dict[Address, bytes]:
        return {**self._wire.mirror.values(), **load.withheld}

    def _unreadable(self, load: Current, problem: str) -> None:
        """A chain that cannot be judged is not loaded."""
        if load.phase is not Phase.ASSEMBLING:
            self._wire.gantry_said(Declined(load.name, problem[:200]))
        self._wire.report(Side.HOST, f"a chain that cannot be judged: {problem[:200]}")
        self._end_trigger(Abort.DEVICE_STATE)
        self.current = None

    def _write(self, load: Current, left: list[tuple[Address, bytes]]) -> None:
        wire = self._wire
        if not left:
            load.phase = Phase.READING_BACK
            self._read_back(load)
            return
        address, data = left[0]

        def done(outcome: Outcome) -> None:
            if outcome.code:
                wire.mirror.forget(address)
            else:
                wire.mirror.confirm(address, data)
            if self.current is not load:
                return
            if outcome.code:
                self._unreadable(load, f"the gantry refuses {address[0]:04X}h:{address[1]:02X}")
            else:
                self._write(load, left[1:])

        wire.mirror.forget(address)
        if not wire.channel.submit(Operation(address, data, Transfer.EXPEDITED, done, FrameClass.TRIGGER)):
            self._unreadable(load, "too many transfers wait for the gantry")

    def _read_back(self, load: Current) -> None:
        wire, profile = self._wire, self._wire.profile
        assert load.message is not None
        count = () if profile.chain.count is None else (profile.chain.count,)
        addresses = (*count, *profile.chain.addresses(len(load.message.chain)))

        def done(found: dict[Address, bytes] | None, problem: str) -> None:
            if self.current is not load or load.message is None:
                return
            try:
                if found is None:
                    raise DecodeError(problem)
                for address, data in found.items():
                    wire.mirror.confirm(address, data)
                said = echo(profile, found, load.name)
                held = assemble(profile, found, load.name, self._device(), self._hide)
            except DecodeError as error:
                self._unreadable(load, str(error))
                return
            if held == load.message:
                load.phase = Phase.LOADED
                wire.gantry_said(said)
                return
            # The gate compares parameters itself and raises the alarm; of the rest it hears here.
            self.current = None
            wire.report(Side.GANTRY, _difference(load.message, held))
            if said.chain != tuple(element.command.parameters for element in load.message.chain):
                wire.gantry_said(said)
            else:
                wire.gantry_said(Declined(load.name, _difference(load.message, held)))

        wire.read_all(addresses, "read", done)

    def _withdraw_trigger(self) -> None:
        self._end_trigger(Abort.DEVICE_STATE)
        self._wire.channel.withdraw(FrameClass.TRIGGER)

    def _end_trigger(self, code: int) -> None:
        """Tell the host that its trigger was not carried out; one that was sent ends by the gantry's answer."""
        asked = self.trigger
        if asked is not None and not asked.sent:
            self.trigger = None
            self._wire.deny(asked.ticket, code) if asked.frame is None else None

    def _next(self, kind: str) -> str:
        self._count += 1
        return f"can-{kind}{self._count}"


def _difference(judged: Load, held: Load) -> str:
    """In which fields what the gantry holds is not what was judged."""
    names: set[str] = set()
    for one, other in zip(judged.chain, held.chain, strict=False):
        a, b = one.command.parameters, other.command.parameters
        names |= {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
    fields = ", ".join(sorted(names)) or "context, order or identifiers"
    return f"the gantry does not hold what was judged ({fields})"
