"""Held-out attacks on the order of an examination, on all of its scans, and on what is told of the patient.

What is forged is forged in every part that host and network can reach, under the same source labels; the localizer's
own measurement stays, unless the localizer itself has not been sent yet.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scanward.commands import OBJECTIVE_FIELDS, Command, Context, Examination, Source, Told, Value
from scanward.simulation.attacks import dose_attack, exposing, imaging, objective_of
from scanward.simulation.donors import Donors, kind_of
from scanward.simulation.elements import LOCALIZER

# A quarter more for everybody: below what a notification value asks about (commonly half again to twice the usual
# dose), and yet a quarter of all the cancers that a site's CT will cause.
CREEP_FACTOR = 1.25
# Contrast agent is given by the kilogram: 1.6 times is an overdose for the kidneys, a 1.6th does not show the vessel.
WEIGHT_FACTOR = 1.6
WEIGHT_LIMITS_KG = (0.5, 350.0)
# Children's protocols come in bands of four to five years (European diagnostic reference levels, RP 185): six more
# years put a child one band up at least.
YEARS_OLDER = 6.0
CHILD_YEARS = 13.0
TRIES = 200
ELEMENT = "ProtocolElementName"

Rng = np.random.Generator


def dose_creep(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """Every scan of the examination at 1.25 times its dose, all figures consistent; None when fewer than two can."""
    change, out, changed = dose_attack(CREEP_FACTOR).change, examination, set[int]()
    for i in range(len(examination.commands)):
        if exposing(examination, i) and (after := change(out, i, rng, donors)) is not None:
            out = after
            changed.add(i)
    return out if index in changed and len(changed) > 1 else None


def swapped(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """A scan sent before the command it follows: before its localizer, its bolus, or its native phase.

    Both keep their parameters and take each other's place in time. A scan that now precedes the first localizer no
    longer has what that localizer would have measured.
    """
    commands = list(examination.commands)
    first, second = commands[index - 1], commands[index]
    if first.parameters == second.parameters:
        return None
    sized = any(kind_of(c) == LOCALIZER for c in commands[: index - 1])
    early = replace(second, order=first.order, acquired_at=first.acquired_at)
    if kind_of(first) == LOCALIZER and not sized:
        parts = {
            name: kept
            for name, told in second.context.parts.items()
            if (kept := tuple(t for t in told if t.source is not Source.LOCALIZER))
        }
        early = replace(early, context=Context(parts))
    late = replace(first, order=second.order, acquired_at=second.acquired_at)
    commands[index - 1 : index + 1] = [early, late]
    return replace(examination, commands=tuple(commands))


def foreign(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """One scan of another objective's protocol, sent after this command under this patient's context.

    It is right in itself and brings the name of its own protocol element with it.
    """
    command = examination.commands[index]
    mine = objective_of(command)
    if not any(mine):
        return None
    for other in donors.pick(command, rng):
        theirs = objective_of(other)
        if not (all(a != b for a, b in zip(mine, theirs, strict=False)) and all(theirs)):
            continue
        follower = examination.commands[index + 1] if index + 1 < len(examination.commands) else None
        order = command.order + 1 if follower is None else (command.order + follower.order) / 2
        at = command.acquired_at
        if at is not None and follower is None:
            at = round(at + float(rng.uniform(30, 120)), 1)
        elif at is not None and follower is not None and follower.acquired_at is not None:
            at = round((at + follower.acquired_at) / 2, 1)
        event = hashlib.blake2b(f"{command.event}/foreign/{order}".encode(), digest_size=10).hexdigest()
        put_in = replace(
            command,
            parameters=dict(other.parameters),
            context=_with(command.context, {ELEMENT: other.context.get(ELEMENT)}),
            acquired_at=at,
            order=order,
            event=event,
        )
        commands = list(examination.commands)
        commands.insert(index + 1, put_in)
        return replace(examination, commands=tuple(commands))
    return None


def _with(context: Context, new: Mapping[str, Value | None]) -> Context:
    """A context with parts that are there told otherwise, by the same sources."""
    parts = dict(context.parts)
    for name, value in new.items():
        if name in parts and value is not None:
            parts[name] = tuple(Told(value, told.source) for told in parts[name])
    return Context(parts)


def _another(examination: Examination, rng: Rng, donors: Donors) -> list[Command]:
    """Commands of a random examination on the same device, none when it was on another."""
    if not donors.examinations:
        return []
    other = donors.examinations[int(rng.integers(len(donors.examinations)))]
    key = examination.commands[0].device.key
    return [c for c in other.commands if c.device.key == key]


def renamed_protocol(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The examination's own commands under another protocol's names: what looked wrong for this looks right for that.

    Procedure, protocol, body part and study are another examination's on the same device; each command gets the
    element name of that examination's command of the same type, in order.
    """
    mine = objective_of(examination.commands[index])
    for _ in range(TRIES if any(mine) else 0):
        others = _another(examination, rng, donors)
        theirs = objective_of(others[0]) if others else ()
        if not (theirs and all(theirs) and all(a != b for a, b in zip(mine, theirs, strict=False))):
            continue
        names: dict[str, list[Value | None]] = defaultdict(list)
        for other in others:
            names[kind_of(other)].append(other.context.get(ELEMENT))
        if any(kind_of(c) not in names for c in examination.commands):
            continue
        new = {n: others[0].context.get(n) for n in OBJECTIVE_FIELDS if n != ELEMENT}
        seen: dict[str, int] = defaultdict(int)
        commands = []
        for c in examination.commands:
            kind = kind_of(c)
            element = names[kind][min(seen[kind], len(names[kind]) - 1)]
            seen[kind] += 1
            commands.append(replace(c, context=_with(c.context, {**new, ELEMENT: element})))
        return replace(examination, commands=tuple(commands))
    return None


def renamed_part(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """Another body part of this device's work told for the whole examination, nothing else.

    Dose registries, notification values and hanging protocols go by it.
    """
    mine = examination.commands[index].context.get("BodyPartExamined")
    for _ in range(TRIES):
        others = _another(examination, rng, donors)
        part = others[0].context.get("BodyPartExamined") if others else None
        if part is not None and part != mine:
            return _all_told(examination, {"BodyPartExamined": part})
    return None


def _all_told(examination: Examination, new: Mapping[str, Value]) -> Examination:
    commands = tuple(replace(c, context=_with(c.context, new)) for c in examination.commands)
    return replace(examination, commands=commands)


def forged_weight(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The weight alone, 1.6 times as much or as little, in the steps in which it was told."""
    weight = examination.commands[index].context.get("PatientWeight")
    if not isinstance(weight, float) or weight <= 0:
        return None
    low, high = WEIGHT_LIMITS_KG
    factor = WEIGHT_FACTOR if rng.random() < 0.5 else 1 / WEIGHT_FACTOR
    factor = factor if low <= weight * factor <= high else 1 / factor
    new = round(weight * factor, 0 if weight == round(weight) else 1)
    return _all_told(examination, {"PatientWeight": float(new)}) if low <= new <= high else None


def forged_age(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """A child told to be six years older, nothing else: whoever looks the protocol up by age takes too much."""
    age = examination.commands[index].context.get("PatientAge")
    if not isinstance(age, float):
        return None
    return _all_told(examination, {"PatientAge": float(int(age + YEARS_OLDER))})


# --- where each makes sense -------------------------------------------------------------------------------
def of_several(examination: Examination, index: int) -> bool:
    """A scan of an examination with at least two."""
    many = sum(exposing(examination, i) for i in range(len(examination.commands)))
    return many > 1 and exposing(examination, index)


def follows(examination: Examination, index: int) -> bool:
    """A scan that follows something other than itself."""
    if index == 0 or not imaging(examination, index):
        return False
    before, this = examination.commands[index - 1], examination.commands[index]
    same = before.text(ELEMENT) is not None and before.text(ELEMENT) == this.text(ELEMENT)
    return not same and before.parameters != this.parameters


def named(examination: Examination, index: int) -> bool:
    """An objective is told."""
    return any(objective_of(examination.commands[index]))


def of_part(examination: Examination, index: int) -> bool:
    """A body part is told."""
    return examination.commands[index].context.get("BodyPartExamined") is not None


def weighed(examination: Examination, index: int) -> bool:
    """A weight is told."""
    return isinstance(examination.commands[index].context.get("PatientWeight"), float)


def of_child(examination: Examination, index: int) -> bool:
    """An age under 13 is told."""
    age = examination.commands[index].context.get("PatientAge")
    return isinstance(age, float) and age < CHILD_YEARS


__all__ = [
    "dose_creep",
    "follows",
    "foreign",
    "forged_age",
    "forged_weight",
    "named",
    "of_child",
    "of_part",
    "of_several",
    "renamed_part",
    "renamed_protocol",
    "swapped",
    "weighed",
]
