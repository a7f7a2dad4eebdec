"""A device profile from its TOML file and its electronic data sheet (docs/can.md has every key).

Strict on purpose: a key that is not known, an entry that the data sheet does not have, a unit that is not the
field's, a frame that is two things at once: each is refused with its place and the cure. What is not named in a profile
is refused when it comes over the wire.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanward.codecs.canopen_eds import Eds, EdsEntry, read_eds
from scanward.codecs.canopen_patterns import address_of
from scanward.codecs.canopen_profile import (
    CanProfile,
    ChainMap,
    FieldMap,
    Scale,
)
from scanward.codecs.canopen_profile_frames import FrameTables, read_frames
from scanward.codecs.canopen_profile_words import Table, scale_in, tables_in
from scanward.codecs.canopen_sdo import Address, address_text
from scanward.codecs.canopen_types import SHAPES, DataType
from scanward.commands.fields import CONTEXT_FIELDS, FIELDS, Kind, unit_of
from scanward.commands.model import Device, Role
from scanward.config import CAN_BOUNDS, CanBounds
from scanward.errors import InputError, SettingsError

KIND = "scanward.can-profile"  # first line of [profile], and what its signature is for


def load_profile(path: Path, bounds: CanBounds = CAN_BOUNDS) -> CanProfile:
    """The profile at ``path``; its data sheet lies beside it, under the name that the profile gives.

    Raises
    ------
    InputError
        SettingsError or DecodeError for a file that cannot be used, with its place.
    """
    text = _text(path, bounds.profile_bytes)
    name, _ = sheet_of(text, str(path))
    return read_profile(text, _text(path.parent / name, bounds.eds_bytes), str(path), bounds)


def sheet_of(text: str, where: str) -> tuple[str, str]:
    """Name of the data sheet, a file beside the profile, and its SHA-256 ("" when the profile names none)."""
    about = _whole(text, where).table("profile")
    name = about.text("eds")
    if Path(name).name != name or not name:
        raise SettingsError(
            f"no data sheet {name!r}", about.where, 'name a file beside the profile: eds = "x.eds"'
        )
    return name, about.text("eds_sha256", "")


def _whole(text: str, where: str) -> Table:
    try:
        return Table(tomllib.loads(text), where)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"not TOML: {error}", where, "see docs/can.md for the form") from error


def _text(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check the path") from error
    if len(data) > most:
        raise SettingsError(f"more than {most} bytes", str(path), "give the profile of one device")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError("not UTF-8", str(path), "save it as UTF-8") from error


def read_profile(text: str, sheet: str, where: str = "profile", bounds: CanBounds = CAN_BOUNDS) -> CanProfile:
    """The profile in ``text`` with the data sheet ``sheet``.

    Raises
    ------
    InputError
        SettingsError for the profile, DecodeError for the data sheet.
    """
    whole = _whole(text, where)
    about = whole.table("profile")
    node = about.integer("node", 1, 127)
    host = about.integer("host", 1, 127) if "host" in about else None
    about.choice("kind", [KIND])
    sheet_of(text, where)
    wanted = about.text("eds_sha256", "")
    if wanted and wanted != hashlib.sha256(sheet.encode()).hexdigest():
        raise SettingsError(
            "eds_sha256 is not that of the data sheet", about.where, "use sha256sum, and look again"
        )
    about.text("eds")
    eds = read_eds(sheet, node, bounds)
    device = _device(whole.table("device"))
    identity = _identity(whole, eds)
    chain = _chain(whole.table("chain"), eds, bounds)
    frames = read_frames(whole, eds, chain, node, host, bounds)
    name, version = about.text("name"), about.integer("version", 1, 1 << 53)
    about.done()
    whole.done()
    digest = hashlib.blake2b(digest_size=16)
    for part in (text, sheet):
        digest.update(hashlib.blake2b(part.encode()).digest())
    return _profile(name, version, node, host, device, identity, chain, frames, eds, digest.hexdigest())


def _profile(
    name: str,
    version: int,
    node: int,
    host: int | None,
    device: Device,
    identity: Mapping[int, int],
    chain: ChainMap,
    frames: FrameTables,
    eds: Eds,
    digest: str,
) -> CanProfile:
    return CanProfile(
        name,
        version,
        node,
        host,
        device,
        identity,
        chain,
        frames.exact,
        frames.remote,
        {number: tuple(rules) for number, rules in frames.patterns.items()},
        frames.objects,
        {number: tuple(rules) for number, rules in frames.observed.items()},
        eds.entries,
        {kind: tuple(found) for kind, found in frames.stops.items()},
        digest,
    )


def _device(table: Table) -> Device:
    maker, model = table.text("Manufacturer"), table.text("ManufacturerModelName")
    software = table.text("SoftwareVersions", "")
    table.done()
    return Device(maker, model, "", software)


_IDENTITY = {"vendor": 1, "product": 2, "revision": 3, "serial": 4}  # sub-indices of 1018h


def _identity(whole: Table, eds: Eds) -> dict[int, int]:
    """What 1018h must hold for this to be the device of the profile."""
    table = whole.table("identity")
    found = {}
    for name, sub in _IDENTITY.items():
        if name in table:
            found[sub] = table.integer(name, 0, 0xFFFFFFFF)
            if (0x1018, sub) not in eds.entries:
                raise SettingsError(
                    f"{name}: the data sheet has no 1018h:{sub:02X}", table.where, "leave it out"
                )
    table.done()
    if 1 not in found or 2 not in found:
        raise SettingsError("no vendor and product", table.where, "a profile is bound to a device: give both")
    return found


# --- the chain


def _entry(eds: Eds, address: Address, where: str, write: bool = True) -> EdsEntry:
    entry = eds.entries.get(address)
    if entry is None:
        raise SettingsError(
            f"no entry {address_text(address)} in the data sheet", where, "correct the address"
        )
    if entry.kind not in SHAPES:
        raise SettingsError(
            f"{address_text(address)} is a {entry.kind.name}", where, "map a number or a text"
        )
    if write and not (entry.writable and entry.readable):
        raise SettingsError(
            f"{address_text(address)} cannot be written and read", where, "what is judged must be read back"
        )
    return entry


def _chain(table: Table, eds: Eds, bounds: CanBounds) -> ChainMap:
    elements = table.integer("elements", 1, bounds.elements)
    step = address_of(table.text("step"), table.where)
    inert = table.boolean("inert")

    def one(key: str) -> Address | None:
        if key not in table:
            return None
        return _entry(eds, address_of(table.text(key), table.where), f"{table.where}.{key}").address

    count, triggers, study, patient = one("count"), one("triggers"), one("study"), one("patient")
    if elements > 1 and count is None:
        raise SettingsError("no count", table.where, "name the entry that holds the number of elements")
    auto: tuple[Address, ...] = ()
    if (first := one("auto")) is not None:
        auto = tuple(_entry(eds, _stepped(first, step, n), table.where).address for n in range(elements))
    by_element: list[list[FieldMap]] = [[] for _ in range(elements)]
    shared: list[FieldMap] = []
    seen: set[str] = set()
    for part in tables_in(table, "field", bounds.fields):
        name = part.text("name")
        if name in seen:
            raise SettingsError(f"{name} is there twice", part.where, "map each field once")
        seen.add(name)
        at = address_of(part.text("at"), part.where)
        alone = part.boolean("shared", False)
        for number in range(1 if alone else elements):
            entry = _entry(eds, _stepped(at, step, number) if not alone else at, part.where)
            made = _field(name, entry, None if alone else number, part)
            (shared if alone else by_element[number]).append(made)
        if not part.boolean("inert", inert):
            table.held.update(
                m.entry.address for m in (*shared, *(m for e in by_element for m in e)) if m.name == name
            )
        part.done()
    table.held_default = not inert
    if not by_element[0]:
        raise SettingsError("no field of an element", table.where, "add [[chain.field]]")
    used = [part.entry.address for e in by_element for part in e] + [part.entry.address for part in shared]
    used += [*auto, *(a for a in (count, triggers, study, patient) if a is not None)]
    if len(set(used)) < len(used):
        twice = next(address for address in used if used.count(address) > 1)
        raise SettingsError(
            f"{address_text(twice)} is two things at once", table.where, "map each entry once"
        )
    return ChainMap(
        elements, count, tuple(tuple(e) for e in by_element), tuple(shared), auto, triggers, study, patient
    )


def _stepped(address: Address, step: Address, number: int) -> Address:
    return address[0] + step[0] * number, address[1] + step[1] * number


def _field(name: str, entry: EdsEntry, element: int | None, part: Table) -> FieldMap:
    known = FIELDS.get(name)
    context = name in CONTEXT_FIELDS
    if known is None and not part.boolean("site_parameter", False):
        raise SettingsError(
            f"{name} is no known field", part.where, "correct it, or say site_parameter = true"
        )
    if element is None and not context:
        raise SettingsError(f"{name} is no context", part.where, "only parts of the context are shared")
    text = entry.kind is DataType.VISIBLE_STRING
    names = _names(part)
    if known is not None and (known.kind is Kind.NUMBER) == (text or bool(names)):
        raise SettingsError(
            f"{name} is a {known.kind}", part.where, "give numbers a scale, categories names or a text"
        )
    unit = part.text("unit", "")
    if known is not None and known.kind is Kind.NUMBER and unit != unit_of(name):
        raise SettingsError(
            f"{name} in {unit or 'no unit'}",
            part.where,
            f'its unit is unit = "{unit_of(name)}": scale it to that',
        )
    scale = scale_in(part, "scale", "offset")
    if (text or names) and scale != Scale():
        raise SettingsError(f"{name} has no scale", part.where, "leave scale and offset out")
    absent = part.scalar("absent")
    role = Role(part.choice("role", [r.value for r in Role], Role.COMMANDED.value))
    return FieldMap(name, entry, element, context, scale, names, absent, role)


def _names(part: Table) -> dict[int, str]:
    found: dict[int, str] = {}
    told: Mapping[str, Any] = part.plain("names")
    for key, value in told.items():
        if not key.isdecimal() or not isinstance(value, str) or not value or value in found.values():
            raise SettingsError(f"names: {key} = {value!r}", part.where, 'write each once: 1 = "SPIRAL"')
        found[int(key)] = value
    return found
