"""The catalogue of attacks on an emulated scanner: the published vectors and accidents, and what else there is.

Every entry finds its own victim, so that it has an effect where nobody stops it; what it did is measured in the
room. ``by_design`` are those that a guard must let pass: a stop is never held, and silence is no command.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scanward.commands import Examination
from scanward.emulator import scripts
from scanward.emulator.attack import (
    Attack,
    Effect,
    Felt,
    Find,
    Scene,
    Script,
    Supply,
    contrast_missed,
    hurt,
    less_dose,
    missed,
    more_dose,
    off_centre,
    safe_state,
    three_times,
    useless_images,
)
from scanward.emulator.host import chains_of
from scanward.simulation.dose import Ledger
from scanward.simulation.scanner import perform, phantom_cm, refusal
from scanward.simulation.wire_attacks import KNOW_YOUR_ENEMY, LEAST_MORE, WIRE, Wire, exposing

SLOW_CONTRAST = 7  # rotations of a monitoring, one a second
TRIES = 400  # victims looked at before an attack is given up
HARM: dict[str, Effect] = {
    "more": more_dose, "less": less_dose, "images": useless_images, "centre": off_centre, "table": hurt,
}  # fmt: skip
BY_DESIGN = frozenset({"stop_storm", "host_gone", "contrast_late"})


def _drawn(supply: Supply, rng: np.random.Generator) -> list[Examination]:
    order = rng.permutation(len(supply.examinations))[:TRIES]
    return [supply.examinations[int(i)] for i in order]


def changed(wire: Wire) -> Find:
    """A victim of a change of content."""

    def find(supply: Supply, rng: np.random.Generator) -> Scene | None:
        for clean in _drawn(supply, rng):
            made = wire.apply(clean, rng, supply.donors, supply.model)
            if made is not None and _alike(clean, made[0]):
                return Scene.of(clean, supply.model, *made)
        return None

    return find


def _alike(clean: Examination, attacked: Examination) -> bool:
    """Whether both are sent in the same loads."""
    shapes = [[len(chain) for chain in chains_of(e)] for e in (clean, attacked)]
    return shapes[0] == shapes[1]


def clean(wanted: Callable[[Examination], bool]) -> Find:
    """A victim of an attack on the protocol: any examination of a kind."""

    def find(supply: Supply, rng: np.random.Generator) -> Scene | None:
        for examination in _drawn(supply, rng):
            if wanted(examination):
                return Scene.of(examination, supply.model)
        return None

    return find


def _scans(examination: Examination) -> bool:
    return any(exposing(examination, i) for i in range(len(examination.commands)))


def _one_scan(examination: Examination) -> bool:
    """A localizer and one scan: little to go wrong by itself."""
    chains = chains_of(examination)
    return [len(c) for c in chains] == [1, 1] and exposing(examination, 1)


def _bolus(examination: Examination) -> bool:
    """Monitored for six seconds and more: a scan begun with the injection is over before the contrast comes."""
    counts = [
        c.number("NumberOfRotations") or 0.0
        for c in examination.commands
        if c.text("ProtocolElementName") == "Monitoring"
    ]
    chains = chains_of(examination)
    return min(counts, default=0.0) >= SLOW_CONTRAST and any(e.auto for chain in chains for e in chain)


def _other_patient(supply: Supply, rng: np.random.Generator) -> Scene | None:
    """A child on the table, and an adult's examination that would give it a quarter more at least."""
    children = [e for e in _drawn(supply, rng) if (e.commands[0].number("PatientAge") or 99) < 10]
    adults = [e for e in _drawn(supply, rng) if (e.commands[0].number("PatientAge") or 0) >= 30]
    for child in (e for e in children if _scans(e)):
        for adult in adults[:60]:
            index = max(range(len(adult.commands)), key=lambda i: exposing(adult, i) * (i + 1))
            if any(refusal(supply.model, c.parameters) for c in adult.commands):
                continue
            scene = Scene.of(child, supply.model, adult, index)
            given = Ledger()
            for command in adult.commands:
                done = perform(supply.model, command.parameters, scene.who)
                given.add(done.phantom_cm, done.low, done.high, done.ctdivol)
            phantom = phantom_cm(adult.commands[index].parameters)
            known = scene.expected.peak(phantom)
            if known > 0 and given.peak(phantom) >= 1.2 * LEAST_MORE * known:
                return scene
    return None


def slow_stop(scene: Scene, felt: Felt) -> bool:
    """A stop that took longer than it may, or never came through."""
    return bool(felt.facts["lost"]) or float(felt.facts["stop_s"]) > scripts.SOON_S


def _contents() -> list[Attack]:
    return [
        Attack(w.name, w.family, w.about, changed(w), scripts.content, HARM[w.harm], w.source)
        for w in WIRE.values()
    ]


def _protocol(
    name: str, family: str, about: str, find: Find, script: Script, effect: Effect, source: str = ""
) -> Attack:
    return Attack(name, family, about, find, script, effect, source)


_X8 = changed(WIRE["dose_x8"])

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        *_contents(),
        _protocol("mechanical_table", "vector 2", "the table driven up into the bore, the patient on it",
                  clean(_scans), scripts.raise_table, hurt, KNOW_YOUR_ENEMY),
        _protocol("denial_of_service", "vector 4", "bytes that are no message, before a scan",
                  clean(_one_scan), scripts.garbage, missed, KNOW_YOUR_ENEMY),
        _protocol("host_gone", "denial", "the host breaks off in a scan: the gantry goes safe by design",
                  clean(_one_scan), scripts.host_gone, safe_state),
        _protocol("half_open", "denial", f"{scripts.HALF_OPEN} connections that never say a word",
                  clean(_one_scan), scripts.half_open, missed),
        _protocol("flood", "denial", f"{scripts.FLOOD} loads at once, and then a stop is needed",
                  clean(_one_scan), scripts.flood, slow_stop),
        _protocol("stop_storm", "denial", "stops without end: passed on by design, and told",
                  clean(_one_scan), scripts.stop_storm, missed),
        _protocol("change_at_trigger", "order", "a clean load, another current at its trigger",
                  _X8, scripts.change_at_trigger, more_dose),
        _protocol("change_after_load", "order", "a clean load, an attacked one under its name",
                  _X8, scripts.change_after_load, more_dose),
        _protocol("early_trigger", "order", "load and trigger in one breath",
                  _X8, scripts.early_trigger, more_dose),
        _protocol("split_frames", "frames", "the load in pieces of a few bytes", _X8, scripts.split, more_dose),
        _protocol("duplicate_keys", "frames", "every figure twice: one for the guard, one for the gantry",
                  _X8, scripts.duplicate_keys, more_dose),
        _protocol("replay_triggers", "replay", "a clean examination's triggers sent four times more",
                  clean(_one_scan), scripts.replay_triggers, more_dose),
        _protocol("replay_examination", "replay", "an adult's recorded examination, a child on the table",
                  _other_patient, scripts.replay_examination, more_dose),
        _protocol("contrast_early", "injector", "the scan begun with the injection, out of its turn",
                  clean(_bolus), scripts.contrast_early, contrast_missed),
        _protocol("contrast_unmonitored", "injector", "the chain without its monitoring",
                  clean(_bolus), scripts.contrast_without, contrast_missed),
        _protocol("contrast_late", "injector", "monitoring begun when the contrast has passed",
                  clean(_bolus), scripts.contrast_late, contrast_missed),
        Attack("alert_fatigue", "people", f"{scripts.PROVOKED} odd and harmless loads, then dose x8; a tired operator",
               _X8, scripts.fatigue, more_dose, tires=True),
        _protocol("salami", "salami", f"the same clean chain up to {scripts.SALAMI} times more",
                  clean(_one_scan), scripts.salami, three_times),
    )
}  # fmt: skip
