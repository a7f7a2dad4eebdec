"""From object dictionary entries to a chain and back: what the guard knows of the gantry's memory. Pure.

The mirror holds the bytes of entries as the gantry has confirmed them: written and acknowledged, or read by the guard
itself. What is only believed is not in it, and is read before it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scanward.codecs.canopen_profile import CanProfile, FieldMap
from scanward.codecs.canopen_sdo import Address, address_text
from scanward.codecs.canopen_types import decode_raw
from scanward.commands.model import Command, Context, Device, Role, Source, Told, Value
from scanward.commands.wire import Element, Load, Loaded
from scanward.errors import DecodeError

Hide = Callable[[str], str]
"""Turns an identifier into its keyed hash."""

_MOST_TRIGGERS = 1000  # as on the stream link


class Mirror:
    """Bytes of entries that the gantry has confirmed."""

    def __init__(self) -> None:
        self._values: dict[Address, bytes] = {}

    def known(self, address: Address) -> bytes | None:
        """What is confirmed; None when nothing is."""
        return self._values.get(address)

    def confirm(self, address: Address, data: bytes) -> None:
        """The gantry acknowledged, or answered, ``data``."""
        self._values[address] = data

    def forget(self, address: Address) -> None:
        """Something was sent there and is not confirmed."""
        self._values.pop(address, None)

    def clear(self) -> None:
        """The gantry started anew: nothing is known."""
        self._values.clear()

    def values(self) -> dict[Address, bytes]:
        """Everything that is confirmed, as a copy."""
        return dict(self._values)


def elements_in(profile: CanProfile, values: Mapping[Address, bytes]) -> int:
    """How many elements the chain has; DecodeError when that is none, or more than there are."""
    chain = profile.chain
    if chain.count is None:
        return 1
    found = decode_raw(profile.entries[chain.count].kind, values[chain.count])
    if not isinstance(found, int) or not 1 <= found <= chain.elements:
        raise DecodeError(
            f"a chain of {found} elements", address_text(chain.count), f"write 1 to {chain.elements}"
        )
    return found


def assemble(
    profile: CanProfile, values: Mapping[Address, bytes], name: str, device: Device, hide: Hide
) -> Load:
    """The load that the entries spell.

    Parameters
    ----------
    values : mapping of Address to bytes
        Every entry of `ChainMap.addresses`, and the count.
    name : str
        The load's id.

    Raises
    ------
    DecodeError
        When an entry is no value of its field, with its address.
    """
    chain = profile.chain
    count = elements_in(profile, values)
    study = _text(profile, chain.study, values)
    examination = hide(study) if study else ""
    patient = _text(profile, chain.patient, values)
    triggers = 1
    if chain.triggers is not None:
        told = decode_raw(profile.entries[chain.triggers].kind, values[chain.triggers])
        if not isinstance(told, int) or not 1 <= told <= _MOST_TRIGGERS:
            raise DecodeError(
                f"{told} triggers", address_text(chain.triggers), f"write 1 to {_MOST_TRIGGERS}"
            )
        triggers = told
    shared = {part.name: value for part in chain.shared if (value := _value(part, values)) is not None}
    elements = []
    for number in range(count):
        found = [(part, _value(part, values)) for part in chain.fields[number]]
        context: dict[str, Value] = dict(shared)
        context.update({part.name: value for part, value in found if part.context and value is not None})
        parameters = {part.name: value for part, value in found if not part.context and value is not None}
        if not parameters:
            raise DecodeError(f"element {number + 1} of the chain is empty", "", "write its fields first")
        roles = {
            part.name: part.role
            for part, value in found
            if part.name in parameters and part.role is not Role.COMMANDED
        }
        command = Command(
            parameters,
            Context({field: (Told(value, Source.HOST),) for field, value in context.items()}),
            device,
            Role.COMMANDED,
            roles,
            examination or None,
            order=float(number),
        )
        elements.append(Element(command, _auto(profile, number, values)))
    return Load(name, examination, hide(patient) if patient else "", tuple(elements), triggers)


def echo(profile: CanProfile, values: Mapping[Address, bytes], name: str) -> Loaded:
    """What the gantry holds, as it was read back; DecodeError when it holds nonsense."""
    found = []
    for number in range(elements_in(profile, values)):
        machine = [part for part in profile.chain.fields[number] if not part.context]
        found.append({p.name: value for p in machine if (value := _value(p, values)) is not None})
    return Loaded(name, tuple(found))


def writes(profile: CanProfile, load: Load, identifiers: tuple[str, str] = ("", "")) -> dict[Address, bytes]:
    """The entries that spell ``load``, in the order in which a host writes them: the inverse of `assemble`.

    Parameters
    ----------
    identifiers : (str, str)
        StudyInstanceUID and PatientID themselves; a load holds only their hashes.

    Raises
    ------
    DecodeError
        When the profile has no entry for a field of the load, or the entry cannot hold its value.
    """
    chain = profile.chain
    if not 1 <= len(load.chain) <= chain.elements:
        raise DecodeError(f"a chain of {len(load.chain)} elements", "the profile", f"1 to {chain.elements}")
    made: dict[Address, bytes] = {}
    for address, text in ((chain.study, identifiers[0]), (chain.patient, identifiers[1])):
        if address is not None:
            made[address] = text.encode("ascii") or b"\0"
    context = load.chain[0].command.context
    for part in chain.shared:
        made[part.entry.address] = part.data(context.get(part.name))
    for number, element in enumerate(load.chain):
        fields = {part.name: part for part in chain.fields[number]}
        if missing := element.command.parameters.keys() - fields.keys():
            raise DecodeError(f"no entry for {min(missing)}", "the profile", "map it as [[chain.field]]")
        for name, part in fields.items():
            told = element.command.context.get(name) if part.context else element.command.parameters.get(name)
            made[part.entry.address] = part.data(told)
        if chain.auto:
            made[chain.auto[number]] = bytes((element.auto,))
    if chain.triggers is not None:
        kind = profile.entries[chain.triggers].kind
        made[chain.triggers] = load.triggers.to_bytes(1 if kind.name == "UNSIGNED8" else 2, "little")
    if chain.count is not None:
        made[chain.count] = bytes((len(load.chain),))
    return made


def _value(part: FieldMap, values: Mapping[Address, bytes]) -> Value | None:
    try:
        return part.value(values[part.entry.address])
    except DecodeError as error:
        where = f"{part.name} in {address_text(part.entry.address)}"
        raise DecodeError(error.what, where, error.todo) from error


def _text(profile: CanProfile, address: Address | None, values: Mapping[Address, bytes]) -> str:
    if address is None:
        return ""
    return str(decode_raw(profile.entries[address].kind, values[address])).strip()


def _auto(profile: CanProfile, number: int, values: Mapping[Address, bytes]) -> bool:
    if not profile.chain.auto:
        return False
    address = profile.chain.auto[number]
    return bool(decode_raw(profile.entries[address].kind, values[address]))
