"""A policy from TOML: every error names its line and the cure; what weakens must be spelled ``unsafe_...``.

An empty policy refuses, a mistyped key refuses, a table with a gap refuses. What cannot be written: anything that
releases HALT of form, a learned layer that halts, a cap without a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from scanward.commands import (
    FIELDS,
    LEARNED_LAYERS,
    RULE_LAYERS,
    Device,
    Group,
    LayerName,
    Mode,
    Severity,
    Verdict,
)
from scanward.commands.wire import Axis
from scanward.config import POLICY_BOUNDS, PolicyBounds
from scanward.errors import KeyFileError, PolicyError
from scanward.guard.events import Envelope
from scanward.guard.policy import Policy
from scanward.guard.policy_floor import PolicyFloor
from scanward.guard.policy_signing import POLICY, read_signed
from scanward.guard.policy_terms import (
    GRAVITY,
    OLDEST,
    CapRow,
    EmergencyRules,
    Interventional,
    ModePolicy,
    Operator,
    Right,
    Times,
    TwoPersons,
)
from scanward.guard.profile import AxisRange, DeviceProfile
from scanward.guard.profile_read import device_of, envelopes, head, refuse_other
from scanward.guard.toml_lines import Section, parse
from scanward.keys import VerifyKey

# Encodings of the points of small order (and of those beyond the field's prime): no private half is needed to make
# a signature that such a key verifies (RFC 8032 section 8.9; the list of libsodium's ge25519_has_small_order).
_P = (1 << 255) - 19
_SMALL_ORDER = frozenset(
    n.to_bytes(32, "little")
    for n in (
        0,
        1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
        ),
        _P - 1,
        _P,
        _P + 1,
    )
)
_STRICT = {Severity.ALERT: Verdict.ALERT, Severity.HALT: Verdict.HALT}


def load_policy(
    path: Path,
    trusted: Sequence[VerifyKey],
    profile: DeviceProfile,
    *,
    device: Device | None = None,
    floor: PolicyFloor | None = None,
    bounds: PolicyBounds = POLICY_BOUNDS,
) -> Policy:
    """Read, verify and accept a policy, for use with ``profile``.

    1. signature by a trusted key over the very bytes that are parsed; 2. parse; 3. device; 4. version floor.

    Raises
    ------
    PolicyError
        Refused, with what, where (file and line) and what to do.
    """
    text = read_signed(path, POLICY, trusted, bounds)
    policy = parse_policy(text.data, text.where, profile, text.digest, bounds)
    refuse_other(policy.device, device, text.where)
    if floor is not None:
        floor.accept(POLICY, policy.device, policy.version, policy.digest)
    return policy


def parse_policy(
    data: bytes, where: str, profile: DeviceProfile, digest: str = "", bounds: PolicyBounds = POLICY_BOUNDS
) -> Policy:
    """The policy in ``data``; PolicyError naming line and cure when there is none."""
    top, _ = parse(data, where, bounds.file_bytes, PolicyError)
    head(top, POLICY)
    weak: list[str] = []
    name = top.text("name", most=200, pattern=r".*\S.*")
    version = top.whole("version", low=1)
    device = device_of(top.section("device", needed=True))
    refuse_other(profile.device, device, where)
    operators = _operators(top.section("operators"), bounds)
    times = _times(top.section("times", needed=True), bounds)
    modes = _modes(top.section("modes", needed=True), weak, bounds)
    emergency = _emergency(top.section("emergency", needed=True), operators, weak, bounds)
    session = _interventional(top.section("interventional"), bounds) if "interventional" in top else None
    two = _two_persons(top.section("two_persons"), operators, times, bounds) if "two_persons" in top else None
    runtime = _runtime(top.section("runtime"), profile)
    motion = _motion(top.section("motion"), profile)
    flags = {
        key: _weak_flag(top, key, weak)
        for key in ("unsafe_shadow", "unsafe_release_without_operator", "unsafe_emergency_without_log")
    }
    top.done()
    return Policy(
        name, version, digest, device, profile, operators, modes, times, emergency, session, runtime, motion, two,
        **flags, weakenings=tuple(weak),
    )  # fmt: skip


def _weak_flag(section: Section, key: str, weak: list[str]) -> bool:
    given = bool(section.flag(key, False))
    if given:
        weak.append(".".join((*(str(p) for p in section.path), key)))
    return given


# --- people


def _operators(section: Section, bounds: PolicyBounds) -> dict[str, Operator]:
    found: dict[str, Operator] = {}
    keys: dict[bytes, str] = {}
    for identifier, row in section.named_sections(most=bounds.operators):
        if not identifier.isascii() or not identifier.replace("-", "").replace("_", "").isalnum():
            raise row.fail("an operator's id has letters, digits, - and _", None, "rename it")
        digits = row.text("key", pattern=r"[0-9a-f]{64}")
        try:
            key = VerifyKey(bytes.fromhex(digits))
        except KeyFileError as error:
            raise row.fail(error.what, "key", "copy it from `scanward policy key NAME.pub`") from error
        if key.raw[:31] + bytes([key.raw[31] & 0x7F]) in _SMALL_ORDER:
            raise row.fail("a key for which anybody can sign", "key", "make a pair with `scanward keys new`")
        if key.raw in keys:
            raise row.fail(
                f"{keys[key.raw]!r} has the same key: acts could not be told apart", "key", "one key each"
            )
        keys[key.raw] = identifier
        rights = row.texts("may")
        unknown = [r for r in rights if r not in list(Right)]
        if unknown or not rights:
            raise row.fail(
                f"{unknown[0] if unknown else 'nothing'!r} is no right", "may", f"use of {', '.join(Right)}"
            )
        found[identifier] = Operator(
            identifier,
            row.text("name", identifier, most=100),
            key,
            frozenset(Right(r) for r in rights),
            row.day("last_day", None),
        )
        row.done()
    return found


# --- times


def _times(section: Section, bounds: PolicyBounds) -> Times:
    most = bounds.seconds
    times = Times(
        judge_seconds=section.number("judge_seconds", 2.0, low=0.05, high=bounds.judge_seconds, unit="s"),
        record_seconds=section.number("record_seconds", 5.0, low=0.01, high=60.0, unit="s"),
        committed_record_seconds=section.number("committed_record_seconds", 0.2, low=0.0, high=5.0, unit="s"),
        confirm_seconds=section.number("confirm_seconds", 5.0, low=0.05, high=60.0, unit="s"),
        hold_seconds=section.number("hold_seconds", low=1.0, high=most, unit="s"),
        arming_seconds=section.number("arming_seconds", low=1.0, high=most, unit="s"),
        committed_seconds=section.number("committed_seconds", 1800.0, low=1.0, high=most, unit="s"),
        beam_seconds=section.number("beam_seconds", 180.0, low=0.1, high=3600.0, unit="s"),
    )
    section.done()
    return times


# --- modes


def _modes(section: Section, weak: list[str], bounds: PolicyBounds) -> dict[Mode, ModePolicy]:
    modes: dict[Mode, ModePolicy] = {}
    for mode in Mode:
        if mode is Mode.CLINICAL or mode.value in section:
            row = section.section(mode.value, needed=True)
            modes[mode] = _mode(row, mode, weak, bounds)
    section.done()
    return modes


def _mode(row: Section, mode: Mode, weak: list[str], bounds: PolicyBounds) -> ModePolicy:
    minutes = math.inf
    if mode is not Mode.CLINICAL:
        minutes = row.number("minutes", low=1.0, high=bounds.mode_minutes, unit="min")
    table = row.section("verdicts")
    verdicts: dict[tuple[LayerName, Severity], Verdict] = {}
    for layer in RULE_LAYERS:
        inner = table.section(layer.value)
        for severity in (Severity.ALERT, Severity.HALT):
            if layer is LayerName.FORM and severity is Severity.HALT:
                verdicts[layer, severity] = _form_halts(inner)
            else:
                verdicts[layer, severity] = _verdict(inner, severity.name.lower(), _STRICT[severity], weak)
        inner.done()
    alone: dict[LayerName, Verdict] = {}
    for layer in LEARNED_LAYERS:
        inner = table.section(layer.value)
        alone[layer] = inner.choice("alone", Verdict, Verdict.RELEASE)
        if alone[layer] is Verdict.HALT:
            raise inner.fail("a learned layer alone never halts", "alone", 'use "RELEASE" or "ALERT"')
        inner.done()
    dispute = _verdict(table, "dispute", Verdict.ALERT, weak)
    if mode is Mode.CLINICAL:
        beyond = _verdict(table, "beyond_budget", Verdict.ALERT, weak)
    else:  # what was calibrated on patients promises nothing about phantoms: no weakening
        beyond = table.choice("beyond_budget", Verdict, Verdict.RELEASE)
    if beyond is Verdict.HALT:
        raise table.fail("the learned layers never halt", "beyond_budget", 'use "ALERT"')
    table.done()
    caps = _caps(row, bounds)
    row.done()
    return ModePolicy(verdicts, alone, dispute, beyond, caps, minutes)


def _form_halts(inner: Section) -> Verdict:
    if "unsafe_halt" in inner:
        raise inner.fail("nothing releases what form halts", "unsafe_halt", "take the line out")
    if inner.choice("halt", Verdict, Verdict.HALT) is not Verdict.HALT:
        raise inner.fail("nothing releases what form halts", "halt", 'write halt = "HALT", or nothing')
    return Verdict.HALT


def _verdict(inner: Section, key: str, strict: Verdict, weak: list[str]) -> Verdict:
    """``key`` may be as strict as the finding or stricter; weaker only as ``unsafe_key``, by one step."""
    name = ".".join((*(str(p) for p in inner.path), f"unsafe_{key}"))
    if f"unsafe_{key}" in inner:
        if key in inner:
            raise inner.fail(f"{key} and unsafe_{key} contradict each other", key, "keep one of them")
        given = inner.choice(f"unsafe_{key}", Verdict)
        if GRAVITY[given] >= GRAVITY[strict]:
            raise inner.fail(f"{given} weakens nothing", f"unsafe_{key}", f"write {key} = {given.value!r}")
        if GRAVITY[given] < GRAVITY[strict] - 1:
            raise inner.fail("what halts is not released unseen", f"unsafe_{key}", 'use "ALERT"')
        weak.append(f"{name} = {given.value}")
        return Verdict(given)
    given = inner.choice(key, Verdict, strict)
    if GRAVITY[given] < GRAVITY[strict]:
        raise inner.fail(
            f"{given} is weaker than the finding",
            key,
            f"write {strict.value!r}, or unsafe_{key} = {given.value!r}",
        )
    return Verdict(given)


def _caps(row: Section, bounds: PolicyBounds) -> tuple[CapRow, ...]:
    rows: list[CapRow] = []
    for cap in row.sections("caps", most=bounds.rows):
        phantom = cap.whole("phantom_cm")
        if phantom not in (16, 32):
            raise cap.fail("there are phantoms of 16 and of 32 cm", "phantom_cm", "give 16 or 32")
        low, high = cap.pair("age")
        if not 0 <= low < high:
            raise cap.fail("an age band has years", "age", f"write age = [0, {OLDEST:g}] for everybody")
        made = CapRow(
            phantom,
            low,
            high,
            cap.number("alert_CTDIvol", low=0.001, high=5000, unit="mGy"),
            cap.number("alert_DLP", low=0.001, high=100000, unit="mGy.cm"),
            cap.number("absolute_CTDIvol", low=0.001, high=5000, unit="mGy"),
            cap.number("absolute_DLP", low=0.001, high=100000, unit="mGy.cm"),
        )
        for name, alert, absolute in (
            ("CTDIvol", made.alert_ctdivol, made.absolute_ctdivol),
            ("DLP", made.alert_dlp, made.absolute_dlp),
        ):
            if alert > absolute:
                raise cap.fail("above the absolute cap: it could never alert", f"alert_{name}", "lower it")
        cap.done()
        rows.append(made)
    for phantom in (16, 32):
        _refuse_gaps(row, phantom, sorted((r.age_low, r.age_high) for r in rows if r.phantom == phantom))
    return tuple(rows)


def _refuse_gaps(row: Section, phantom: int, bands: list[tuple[float, float]]) -> None:
    at = 0.0
    for low, high in bands:
        if low > at:
            raise row.fail(
                f"no cap for {at:g} to {low:g} years on the {phantom} cm phantom", "caps", "add one"
            )
        if low < at:
            raise row.fail(
                f"two caps for {low:g} years on the {phantom} cm phantom", "caps", "keep one of them"
            )
        at = high
    if at < OLDEST:
        raise row.fail(
            f"no cap from {at:g} years on, on the {phantom} cm phantom",
            "caps" if bands else None,
            f"add [[{'.'.join(map(str, row.path))}.caps]] up to age {OLDEST:g}",
        )


# --- the rest


def _emergency(
    section: Section, operators: Mapping[str, Operator], weak: list[str], bounds: PolicyBounds
) -> EmergencyRules:
    most = section.number("most_minutes", low=1.0, high=bounds.emergency_minutes, unit="min")
    rules = EmergencyRules(
        section.number("minutes", most, low=1.0, high=most, unit="min"),
        most,
        section.flag("one_examination", True),
        section.whole("loads", 10, low=1, high=1000),
        _weak_flag(section, "unsafe_without_key", weak),
    )
    able = rules.unsafe_without_key or any(Right.EMERGENCY in o.rights for o in operators.values())
    if not able and not _weak_flag(section, "unsafe_no_emergency", weak):
        raise section.fail(
            "nobody could begin it",
            None,
            'give an operator may = ["emergency"], or say unsafe_no_emergency = true',
        )
    if able and "unsafe_no_emergency" in section:
        section.flag("unsafe_no_emergency")
        raise section.fail("somebody may begin it", "unsafe_no_emergency", "take the line out")
    section.done()
    return rules


def _interventional(section: Section, bounds: PolicyBounds) -> Interventional:
    session = Interventional(
        section.whole("triggers", low=2, high=bounds.triggers),
        section.number("CTDIvol", low=0.001, high=5000, unit="mGy"),
        section.number("DLP", low=0.001, high=100000, unit="mGy.cm"),
    )
    section.done()
    return session


def _two_persons(
    section: Section, operators: Mapping[str, Operator], times: Times, bounds: PolicyBounds
) -> TwoPersons:
    names = section.texts("layers", ())
    unknown = [name for name in names if name not in list(LayerName)]
    if unknown:
        raise section.fail(f"{unknown[0]!r} is no layer", "layers", f"use of {', '.join(LayerName)}")
    rules = TwoPersons(
        frozenset(LayerName(name) for name in names),
        frozenset(section.texts("disputes", ())),
        section.number("p_value_below", 0.0, low=0.0, high=1.0),
        section.number("dose_factor", math.inf, low=1.0, high=1000.0),
        section.number(
            "hold_seconds", times.hold_seconds, low=times.hold_seconds, high=bounds.seconds, unit="s"
        ),
    )
    section.done()
    known = {name for name, field in FIELDS.items() if field.group in (Group.PATIENT, Group.OBJECTIVE)}
    if strange := sorted(rules.disputes - known - {"PatientID"}):
        todo = "name parts of the context, e.g. PatientID, PatientAge"
        raise section.fail(f"nobody tells {strange[0]!r}", "disputes", todo)
    if rules == TwoPersons(seconds=rules.seconds):
        raise section.fail("nothing needs two persons", None, "say what does, or take the table out")
    able = [o.id for o in operators.values() if Right.RELEASE in o.rights]
    if len(able) < 2:
        raise section.fail(
            f"{len(able) or 'no'} operator may release: what needs two would always be refused",
            None,
            'give a second operator may = ["release"], or take the table out',
        )
    return rules


def _runtime(section: Section, profile: DeviceProfile) -> dict[str, Envelope]:
    names = section.keys()
    found = envelopes(section, around_zero=True)
    for name in names:
        widest = profile.runtime.get(name)
        if widest is None:
            raise section.fail(
                "the device profile lets it change at no trigger",
                name,
                "take it out, or name it in the profile",
            )
        if found[name].low < widest.low or found[name].high > widest.high:
            raise section.fail(
                f"wider than the device profile's [{widest.low:g}, {widest.high:g}]", name, "narrow it"
            )
    return found


def _motion(section: Section, profile: DeviceProfile) -> dict[Axis, AxisRange]:
    found: dict[Axis, AxisRange] = {}
    for axis in Axis:
        if axis.value in section:
            row = section.section(axis.value)
            low, high = row.pair("range")
            found[axis] = AxisRange(low, high, row.number("speed", low=0.001, high=2000.0, unit="per s"))
            if axis not in profile.axes:
                raise row.fail("the device profile has no such axis", None, "take it out")
            row.done()
    section.done()
    return found


def still_valid(operator: Operator, today: date) -> bool:
    """Whether an operator's key is good on ``today`` (UTC)."""
    return operator.last_day is None or today <= operator.last_day
