"""Logs of a CANopen gantry's bus -> commands: what the gantry was told, each time that a beam began.

The log is of one bus, with both directions in it: a listener's (``candump -L can1``), or the channel ``gantry`` of what
a guard recorded. Entries are followed as they are written and read; when the gantry tells that an element has started,
what memory holds by then is the command. What was never seen in the log is not guessed: such an element is left out,
and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanward.codecs.can_logs import Logged, read_asc, read_candump
from scanward.codecs.canopen_chain import assemble
from scanward.codecs.canopen_profile import HEARTBEAT, SDO_ANSWER, SDO_REQUEST, CanProfile, FrameClass, Says
from scanward.codecs.canopen_sdo import Address, address_text
from scanward.codecs.canopen_sdo_watch import SdoWatch, Seen
from scanward.commands.model import Command, Origin
from scanward.errors import DecodeError, InputError
from scanward.transport.can_frames import CanFrame


@dataclass(slots=True)
class CanRecording:
    """What a log told.

    Attributes
    ----------
    commands : list of Command
        In order of time; ``acquired_at`` on the log's clock.
    remarks : list of str
        What could not be used, and why.
    """

    commands: list[Command] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    frames: int = 0


class Listener:
    """Follows one gantry; ``frame`` gives the command that a frame shows to have begun, or what speaks against it."""

    def __init__(self, profile: CanProfile, hide: Callable[[str], str]) -> None:
        self._profile = profile
        self._hide = hide
        self._watch = SdoWatch()
        self._values: dict[Address, bytes] = {}

    def frame(self, frame: CanFrame) -> Command | str | None:
        """One frame of the bus, in either direction."""
        profile = self._profile
        if not frame.plain:
            return None
        if frame.id == SDO_REQUEST + profile.node:
            self._take(self._watch.request(frame.data))
        elif frame.id == SDO_ANSWER + profile.node:
            self._take(self._watch.answer(frame.data))
        elif frame.id == HEARTBEAT + profile.node and frame.data == b"\x00":
            self._values.clear()
        elif (rule := profile.pattern_of(frame)) is not None:
            if rule.kind is FrameClass.PARAMETER:
                self._values.update(rule.pattern.entries(frame.data))
        else:
            return self._observed(frame)
        return None

    def _take(self, seen: Seen | None) -> None:
        if seen is not None:
            self._values[seen.address] = seen.data

    def _observed(self, frame: CanFrame) -> Command | str | None:
        for rule in self._profile.observed.get(frame.id, ()):
            if rule.says is Says.STARTED and rule.pattern.matches(frame.data):
                return self._begun(int(rule.pattern.values(frame.data).get("element", 0)) - rule.first)
        return None

    def _begun(self, element: int) -> Command | str:
        profile, chain = self._profile, self._profile.chain
        if not 0 <= element < chain.elements:
            return f"element {element + 1} of a chain of {chain.elements}"
        # Only this element matters: the others may never have been written.
        fields = chain.fields[element]
        alone = replace(profile, chain=replace(chain, elements=1, count=None, fields=(fields,), auto=()))
        missing = [a for a in alone.chain.addresses(1) if a not in self._values]
        if missing:
            return f"{address_text(missing[0])} was not seen before element {element + 1} began"
        try:
            load = assemble(alone, self._values, "log", profile.device, self._hide)
        except DecodeError as error:
            return str(error)
        return replace(load.chain[0].command, order=float(element))


def read_can_log(
    path: Path, profile: CanProfile, hide: Callable[[str], str], channel: str | None = None
) -> CanRecording:
    """The commands in a log: ASC when its name ends so, candump otherwise.

    Parameters
    ----------
    hide : callable
        Turns identifiers into keyed hashes.
    channel : str or None
        The bus to look at; None takes ``gantry`` where a guard wrote the log, and every frame otherwise.

    Raises
    ------
    InputError
        A file that cannot be read; DecodeError for a broken line, with its number.
    """
    try:
        with path.open(encoding="ascii", errors="replace") as lines:
            read = read_asc if path.suffix.lower() == ".asc" else read_candump
            return listen(read(lines), profile, hide, channel, str(path))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check the path") from error


def listen(
    logged: Iterable[Logged],
    profile: CanProfile,
    hide: Callable[[str], str],
    channel: str | None = None,
    path: str = "",
) -> CanRecording:
    """The commands in frames that come in order of time; see `read_can_log`."""
    found = CanRecording()
    listener = Listener(profile, hide)
    for row, one in enumerate(_of_channel(logged, channel)):
        found.frames += 1
        told = listener.frame(one.frame)
        if isinstance(told, str):
            found.remarks.append(f"frame {row}: {told}")
        elif told is not None:
            found.commands.append(replace(told, acquired_at=one.time, origin=Origin(path, row)))
    return found


def _of_channel(logged: Iterable[Logged], channel: str | None) -> Iterator[Logged]:
    """A guard's log has both buses: the host's is left out."""
    for one in logged:
        if channel is None and one.channel == "host":
            continue
        if channel in (None, one.channel):
            yield one
