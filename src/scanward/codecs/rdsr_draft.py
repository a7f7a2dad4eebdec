"""An event while it is being read: what reports say, before rules for known writers have had their turn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scanward.codecs.rdsr_concepts import SIGNED_FIELDS
from scanward.codecs.rdsr_units import UnitError, convert
from scanward.codecs.sr_tree import Item
from scanward.commands import Command, Role, Source, Value


class EventRejected(ValueError):
    """This event cannot become a command; the message is the reason. Never leaves the codecs."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one event of a report: a command, or the reason why not."""

    row: int
    command: Command | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DoseReport:
    """Every event of one report, in its order, and what a user should know of the reading."""

    results: tuple[Decoded, ...]
    notes: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[Command, ...]:
        """The events that became commands."""
        return tuple(r.command for r in self.results if r.command is not None)


@dataclass(slots=True)
class Draft:
    """One event, still open to correction by the quirk rules.

    ``units`` remembers the unit as written, ``several`` the numbers of a field that was given more than one
    number, ``screen_read`` that the report was made from a picture of the dose screen.
    """

    row: int
    parameters: dict[str, Value] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    several: dict[str, tuple[float, ...]] = field(default_factory=dict)
    context: dict[str, Value] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    comment: str = ""
    uid: str = ""
    started: float | None = None
    screen_read: bool = False

    def number(self, name: str) -> float | None:
        """A numeric parameter, or None."""
        value = self.parameters.get(name)
        return value if isinstance(value, float) else None

    def set_number(self, name: str, value: float) -> None:
        """Set a number; EventRejected when it was set before to another one, or cannot be true."""
        if not math.isfinite(value):
            raise EventRejected(f"{name} is not a finite number")
        if value < 0 and name not in SIGNED_FIELDS:
            raise EventRejected(f"{name} is negative")
        before = self.parameters.get(name)
        if before is not None and before != value:
            raise EventRejected(f"{name} is given twice, with different values")
        self.parameters[name] = value

    def take(self, item: Item, name: str, unit: str, role: Role | None = None) -> None:
        """Take the number of a NUM item; nothing when it says it has none.

        Raises EventRejected for a unit that is not known or does not fit, and for what is no number.
        """
        if item.empty:
            return
        if not item.numbers:
            raise EventRejected(f"{name} cannot be read as a number")
        try:
            numbers = tuple(convert(number, item.unit, unit) for number in item.numbers)
        except UnitError as error:
            raise EventRejected(f"{name}: {error}") from error
        self.units[name] = item.unit
        if len(numbers) > 1:
            for number in numbers:
                if not math.isfinite(number) or number < 0:
                    raise EventRejected(f"{name} is not a finite number of the right sign")
            self.several[name] = numbers
            return
        self.set_number(name, numbers[0])
        if role is not None:
            self.roles[name] = role
