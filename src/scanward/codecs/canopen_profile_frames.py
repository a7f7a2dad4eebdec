"""The part of a profile that says what may cross: objects, exact frames, patterns, and what the gantry's data tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scanward.codecs.canopen_eds import Eds, EdsEntry
from scanward.codecs.canopen_patterns import Pattern, address_of, compile_pattern
from scanward.codecs.canopen_profile import (
    COMMUNICATION,
    HEARTBEAT,
    LSS,
    NMT,
    NMT_RESETS,
    SDO_ANSWER,
    SDO_REQUEST,
    SYNC,
    ChainMap,
    ExactRule,
    FrameClass,
    FrameRule,
    ObjectRule,
    ObserveRule,
    Says,
    Scale,
)
from scanward.codecs.canopen_profile_words import Table, scale_in, tables_in
from scanward.codecs.canopen_sdo import Address, address_text
from scanward.codecs.canopen_types import DataType, size_of
from scanward.commands.wire import Axis, GantryState, StopKind
from scanward.config import CanBounds
from scanward.errors import DecodeError, SettingsError
from scanward.transport.can_frames import STANDARD_IDS, CanFrame, frame_of

_HEARTBEAT_STATES = (0x00, 0x04, 0x05, 0x7F)  # boot-up, stopped, operational, pre-operational
_SYNC_COUNTS = range(1, 241)
_WHOLE = (DataType.UNSIGNED8, DataType.UNSIGNED16, DataType.UNSIGNED32)


@dataclass(slots=True)
class FrameTables:
    """What `read_frames` finds; see `CanProfile` for each."""

    exact: dict[tuple[int, bytes], ExactRule] = field(default_factory=dict)
    remote: dict[tuple[int, int], ExactRule] = field(default_factory=dict)
    patterns: dict[int, list[FrameRule]] = field(default_factory=dict)
    objects: dict[Address, ObjectRule] = field(default_factory=dict)
    observed: dict[int, list[ObserveRule]] = field(default_factory=dict)
    stops: dict[StopKind, list[CanFrame]] = field(default_factory=dict)


def read_frames(
    whole: Table, eds: Eds, chain: ChainMap, node: int, host: int | None, bounds: CanBounds
) -> FrameTables:
    """Every table of the profile that classifies; SettingsError when one makes no sense or two contradict."""
    made = FrameTables()
    _chain_objects(made, whole.table("chain"), eds, chain)
    for part in tables_in(whole, "parameter", bounds.patterns):
        _parameter(made, part, eds)
    for part in tables_in(whole, "prepare", bounds.patterns):
        entry = _object(part, eds)
        _add_object(
            made, part, ObjectRule(FrameClass.PREPARE, entry, value=part.integer("value", 0, 0xFFFFFFFF))
        )
        part.done()
    for part in tables_in(whole, "trigger", bounds.patterns):
        _trigger(made, part, eds)
    for part in tables_in(whole, "motion", bounds.patterns):
        _motion(made, part, eds)
    whole.table("chain").done()
    _exact_frames(made, whole, node, host, bounds)
    for part in tables_in(whole, "observe", bounds.patterns):
        _observe(made, part, eds)
    _check_whole(made, whole.where)
    return made


def _chain_objects(made: FrameTables, table: Table, eds: Eds, chain: ChainMap) -> None:
    own = [a for a in (chain.count, chain.triggers, chain.study, chain.patient, *chain.auto) if a is not None]
    for address in own:
        _add_object(
            made, table, ObjectRule(FrameClass.PARAMETER, eds.entries[address], not table.held_default)
        )
    for part in (*chain.shared, *(part for element in chain.fields for part in element)):
        inert = part.entry.address not in table.held
        _add_object(made, table, ObjectRule(FrameClass.PARAMETER, part.entry, inert))


def _parameter(made: FrameTables, part: Table, eds: Eds) -> None:
    """An inert entry that is no field, or process data that carry inert entries."""
    if not part.boolean("inert"):
        raise SettingsError(
            "not inert", part.where, "what acts at once is a motion, a trigger or a field of the chain"
        )
    if "object" in part:
        _add_object(made, part, ObjectRule(FrameClass.PARAMETER, _object(part, eds)))
    else:
        number = _identifier(part, "pdo")
        pattern = compile_pattern(part.anything("pattern"), eds, part.where, frozenset())
        for slot in pattern.slots:
            rule = made.objects.get(slot.address) if slot.address else None
            if rule is None or rule.kind is not FrameClass.PARAMETER or not rule.inert:
                raise SettingsError(f"{slot.name} is no inert parameter", part.where, "name it before, inert")
        made.patterns.setdefault(number, []).append(FrameRule(FrameClass.PARAMETER, pattern))
    part.done()


def _trigger(made: FrameTables, part: Table, eds: Eds) -> None:
    first = part.integer("first", 0, 255, 1)
    if "object" in part:
        entry = _object(part, eds)
        if entry.kind not in _WHOLE:
            raise SettingsError(
                f"a trigger in a {entry.kind.name}", part.where, "an element's number is u8, u16 or u32"
            )
        _add_object(made, part, ObjectRule(FrameClass.TRIGGER, entry, False, first))
    else:
        number = _identifier(part, "pdo")
        pattern = _acting(part, eds, frozenset({"element"}))
        if not any(slot.name == "element" and slot.kind in _WHOLE for slot in pattern.slots):
            raise SettingsError("a trigger of no element", part.where, 'put "element:u8" into the pattern')
        made.patterns.setdefault(number, []).append(FrameRule(FrameClass.TRIGGER, pattern, first))
    part.done()


def _motion(made: FrameTables, part: Table, eds: Eds) -> None:
    axis = Axis(part.choice("axis", [a.value for a in Axis]))
    scale, speed_scale = scale_in(part, "scale", "offset"), scale_in(part, "speed_scale")
    if "object" in part:
        entry = _object(part, eds)
        if (size_of(entry.kind) or 9) > 4:
            raise SettingsError(
                f"a motion in a {entry.kind.name}", part.where, "map a number of 4 bytes or less"
            )
        told = part.scalar("speed")
        speed: Address | float
        if isinstance(told, str):
            speed = address_of(told, part.where)
            rule = made.objects.get(speed)
            if rule is None or rule.kind is not FrameClass.PARAMETER or not rule.inert:
                raise SettingsError(f"{told} is no inert parameter", part.where, "add it as [[parameter]]")
            if size_of(rule.entry.kind) is None:
                raise SettingsError(f"{told} is no number", part.where, "name the entry that holds the speed")
        elif told is not None:
            speed = float(told)
        else:
            raise SettingsError("no speed", part.where, 'give a number, or an entry: speed = "2F10:04"')
        made_rule = ObjectRule(
            FrameClass.MOTION, entry, False, axis=axis, scale=scale, speed=speed, speed_scale=speed_scale
        )
        _add_object(made, part, made_rule)
    else:
        number = _identifier(part, "pdo")
        pattern = _acting(part, eds, frozenset({"target", "speed"}))
        named = {slot.name for slot in pattern.slots}
        fixed = part.number("speed")
        if "target" not in named or ("speed" in named) == (fixed is not None):
            raise SettingsError(
                "a motion without target or speed", part.where, 'put "target:i32" and a speed into it'
            )
        made.patterns.setdefault(number, []).append(
            FrameRule(
                FrameClass.MOTION,
                pattern,
                axis=axis,
                scale=scale,
                speed=None if fixed is None else float(fixed),
                speed_scale=speed_scale,
            )
        )
    part.done()


def _acting(part: Table, eds: Eds, names: frozenset[str]) -> Pattern:
    """The pattern of a trigger or motion, which changes no entry on its way."""
    pattern = compile_pattern(part.anything("pattern"), eds, part.where, names)
    if any(slot.address is not None for slot in pattern.slots):
        raise SettingsError("it writes an entry as well", part.where, "put entries into [[parameter]] frames")
    return pattern


def _exact_frames(made: FrameTables, whole: Table, node: int, host: int | None, bounds: CanBounds) -> None:
    for part in tables_in(whole, "stop", bounds.patterns):
        frame = _frame(part)
        kind = StopKind(part.choice("what", [k.value for k in StopKind]))
        if frame.remote or frame.id in (SYNC, *LSS) or SDO_ANSWER <= frame.id < SDO_REQUEST:
            raise SettingsError(f"{frame} can stop nothing", part.where, "name the gantry's stop frame")
        _never(frame, part.where)
        if part.boolean("send", False):
            made.stops.setdefault(kind, []).append(frame)
        _add_exact(made, part, frame, ExactRule(FrameClass.STOP, kind))
        part.done()
    for part in tables_in(whole, "housekeeping", bounds.patterns):
        frame = _frame(part)
        _never(frame, part.where)
        if SDO_ANSWER <= frame.id < HEARTBEAT or frame.id in LSS:
            raise SettingsError(f"{frame} is no housekeeping", part.where, "SDO and LSS frames are not")
        if frame.id == NMT and frame.data[:1] != b"\x01":
            raise SettingsError(
                f"{frame} changes what the device does", part.where, "of NMT only start (01h)"
            )
        _add_exact(made, part, frame, ExactRule(FrameClass.HOUSEKEEPING))
        part.done()
    housekeeping = ExactRule(FrameClass.HOUSEKEEPING)
    about = whole.table("profile")
    if about.choice("sync", ["none", "plain", "counter"], "plain") != "none":
        counted = about.choice("sync", ["none", "plain", "counter"], "plain") == "counter"
        for data in [bytes((n,)) for n in _SYNC_COUNTS] if counted else [b""]:
            made.exact.setdefault((SYNC, data), housekeeping)
    if host is not None:
        for state in _HEARTBEAT_STATES:
            made.exact.setdefault((HEARTBEAT + host, bytes((state,))), housekeeping)
    if about.boolean("node_guarding", False):
        for length in (0, 1):
            made.remote.setdefault((HEARTBEAT + node, length), housekeeping)


def _never(frame: CanFrame, where: str) -> None:
    if frame.extended:
        raise SettingsError(f"{frame} has an extended identifier", where, "CANopen uses 11 bits")
    if frame.id == NMT and frame.data[:1] and frame.data[0] in NMT_RESETS:
        raise SettingsError(f"{frame} resets the device", where, "NMT resets never pass the guard")


def _observe(made: FrameTables, part: Table, eds: Eds) -> None:
    number = part.integer("id", 0, STANDARD_IDS)
    says = Says(part.choice("says", [s.value for s in Says]))
    names = frozenset({"element", "CTDIvol", "DLP", "position"})
    pattern = compile_pattern(part.anything("pattern"), eds, part.where, names, loose=True)
    scales: dict[str, Scale] = {}
    for name, key in (("CTDIvol", "ctdivol_scale"), ("DLP", "dlp_scale"), ("position", "position_scale")):
        scales[name] = scale_in(part, key)
    made.observed.setdefault(number, []).append(
        ObserveRule(
            says,
            pattern,
            part.integer("first", 0, 255, 1),
            scales,
            StopKind(part.choice("what", [k.value for k in StopKind], StopKind.ALL.value)),
            GantryState(part.choice("state", [s.value for s in GantryState], GantryState.READY.value)),
        )
    )
    part.done()


# --- places and contradictions


def _object(part: Table, eds: Eds) -> EdsEntry:
    address = address_of(part.text("object"), part.where)
    entry = eds.entries.get(address)
    if entry is None or not entry.writable:
        raise SettingsError(
            f"no writable entry {address_text(address)} in the data sheet", part.where, "correct it"
        )
    return entry


def _add_object(made: FrameTables, part: Table, rule: ObjectRule) -> None:
    address = rule.entry.address
    if address[0] in COMMUNICATION or address[0] < COMMUNICATION.start:
        raise SettingsError(
            f"{address_text(address)} says how the device speaks",
            part.where,
            "1000h to 1FFFh are never written",
        )
    if address in made.objects:
        raise SettingsError(f"{address_text(address)} is two things at once", part.where, "name it once")
    made.objects[address] = rule


def _identifier(part: Table, key: str) -> int:
    """Of process data from the host: not NMT, SYNC, emergencies, SDO, heartbeat or LSS."""
    return part.integer(key, 0x180, 0x57F)


def _frame(part: Table) -> CanFrame:
    try:
        return frame_of(part.text("frame"))
    except DecodeError as error:
        raise SettingsError(error.what, part.where, error.todo) from error


def _add_exact(made: FrameTables, part: Table, frame: CanFrame, rule: ExactRule) -> None:
    if frame.remote:
        if (frame.id, frame.dlc) in made.remote:
            raise SettingsError(f"{frame} is there twice", part.where, "name it once")
        made.remote[frame.id, frame.dlc] = rule
        return
    if (frame.id, frame.data) in made.exact:
        raise SettingsError(f"{frame} is there twice", part.where, "name it once")
    if any(other.pattern.matches(frame.data) for other in made.patterns.get(frame.id, ())):
        raise SettingsError(f"{frame} also fits a pattern", part.where, "an exact frame is one thing only")
    if rule.kind is FrameClass.STOP and SDO_REQUEST <= frame.id < HEARTBEAT and not _whole_write(frame.data):
        raise SettingsError(
            f"{frame} is no whole SDO write", part.where, "an SDO stop is one expedited download"
        )
    made.exact[frame.id, frame.data] = rule


def _whole_write(data: bytes) -> bool:
    """One expedited download with its size: nothing before or after it is needed."""
    return len(data) == 8 and data[0] in (0x23, 0x27, 0x2B, 0x2F)


def _check_whole(made: FrameTables, where: str) -> None:
    if not made.stops.get(StopKind.ALL):
        raise SettingsError(
            "no stop that the guard can send", where, 'add [[stop]] with what = "all", send = true'
        )
    if not any(r.kind is FrameClass.TRIGGER for r in made.objects.values()) and not any(
        r.kind is FrameClass.TRIGGER for rules in made.patterns.values() for r in rules
    ):
        raise SettingsError("no trigger", where, "add [[trigger]]")
    told = {rule.says for rules in made.observed.values() for rule in rules}
    if missing := {Says.STARTED, Says.DONE, Says.ABORTED} - told:
        raise SettingsError(
            f"nothing tells {min(missing)}",
            where,
            "the guard must see begin and end of a beam: add [[observe]]",
        )
    _patterns_apart(made.patterns, where)


def _patterns_apart(patterns: Mapping[int, list[FrameRule]], where: str) -> None:
    """Two patterns of one identifier must differ in a fixed byte, or a frame would be two things."""
    for number, rules in patterns.items():
        for place, one in enumerate(rules):
            for other in rules[place + 1 :]:
                both = one.pattern.mask & other.pattern.mask
                alike = one.pattern.fixed & both == other.pattern.fixed & both
                if one.pattern.length == other.pattern.length and alike:
                    raise SettingsError(
                        f"two patterns of {number:03X}h fit one frame",
                        where,
                        "let them differ in a fixed byte",
                    )
