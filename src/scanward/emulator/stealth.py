"""How much dose can an attacker add unseen who has the bundle itself?

The attacker owns the host, knows the device, and asks a copy of the judge before sending anything. For one scan of
a clean examination it looks for the change with the largest true dose (as the gantry would give it to this
patient) that the judge releases: first along the ways a console offers to give more (reference, fixed current,
tube voltage, time, another time), then by small steps from the best of them. The objective, largest effect by what
stays unseen, is that of arXiv 1810.03808.

The judge asked is a bundle's onion with its default policy: a release there is the attacker's best guess at what
the guard will do. What the guard then does is measured on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from scanward.commands import Command, Examination, Value, Verdict
from scanward.emulator.attack import Attack, Felt, Scene, Supply
from scanward.emulator.host import element_of
from scanward.emulator.scripts import content
from scanward.layers.onion import Onion
from scanward.simulation.constants import Model
from scanward.simulation.donors import Donors, recompute
from scanward.simulation.dose import Ledger
from scanward.simulation.physics import max_ma
from scanward.simulation.scanner import perform, refusal
from scanward.simulation.wire_attacks import STEALTH, aec, dose, number, put, steered, without_aec

FACTORS = tuple(float(f) for f in np.geomspace(8.0, 1.03, 26))  # tried from the largest down
STEPS = 60  # small steps from the best
NOTICED = 1.10  # an attack that adds less than a tenth had no effect worth the name
AGAIN = 3  # times a scan is repeated at most


@dataclass(frozen=True)
class Hidden:
    """The best that was found.

    Attributes
    ----------
    examination : Examination
        What to send; the clean one when nothing more was released.
    factor : float
        Its largest dose of one place over that of the clean examination.
    way : str
        How it was found; empty when nothing was.
    asked : int
        How often the judge was asked.
    """

    examination: Examination
    index: int
    factor: float
    way: str
    asked: int


def as_sent(command: Command, order: int) -> Command:
    """A command as it comes out of the stream link at the guard: told by the host alone, without times."""
    sent = element_of(command).command
    return replace(sent, acquired_at=None, event=None, order=float(order), device=command.device)


class Searcher:
    """Asks a copy of the judge on behalf of an attacker."""

    def __init__(self, onion: Onion, model: Model, donors: Donors, rng: np.random.Generator) -> None:
        self.onion, self.model, self.donors, self.rng = onion, model, donors, rng
        self.asked = 0

    def released(self, examination: Examination, start: int = 0) -> bool:
        """Whether every command from ``start`` on is released, each after those before it."""
        state = self.onion.start()
        for order, command in enumerate(examination.commands):
            judgement, state = self.onion.judge(state, as_sent(command, order))
            self.asked += 1
            if order >= start and judgement.verdict is not Verdict.RELEASE:
                return False
        return True

    def peak(self, scene: Scene, examination: Examination) -> float:
        """Largest true dose of one place (mGy) on the attacked phantom; 0 when the hardware refuses."""
        ledger = Ledger()
        for command in examination.commands:
            if refusal(self.model, command.parameters):
                return 0.0
            done = perform(self.model, command.parameters, scene.who)
            ledger.add(done.phantom_cm, done.low, done.high, done.ctdivol)
        return ledger.peak(scene.phantom)

    def search(self, scene: Scene) -> Hidden:
        """The largest dose unseen, for the scene's command."""
        self.asked = 0
        clean, index = scene.clean, scene.index
        base = max(self.peak(scene, clean), 1e-9)
        best = Hidden(clean, index, 1.0, "", 0)
        if not self.released(clean):
            return replace(best, asked=self.asked)
        for way, made in self._ways(clean, index):
            for factor in FACTORS:
                if factor <= best.factor * 1.01:
                    break
                tried = made(factor)
                if tried is None:
                    continue
                reached = self.peak(scene, tried) / base
                if reached > best.factor * 1.01 and self.released(tried, index):
                    best = Hidden(tried, index, reached, way, 0)
                    break
        for _ in range(STEPS):
            tried = self._step(best.examination, index)
            if tried is None:
                continue
            reached = self.peak(scene, tried) / base
            if reached > best.factor * 1.002 and self.released(tried, index):
                best = Hidden(tried, index, reached, best.way or "steps", 0)
        return replace(best, asked=self.asked)

    # --- the ways -----------------------------------------------------------------------------------------
    def _ways(
        self, clean: Examination, index: int
    ) -> Iterator[tuple[str, Callable[[float], Examination | None]]]:
        yield "reference", lambda f: dose(f)(clean, index, self.rng, self.donors)
        yield "fixed current", lambda f: self._fixed(clean, index, f)
        yield "tube voltage", lambda f: self._voltage(clean, index, f)
        yield "again", lambda f: self._again(clean, index, f)

    def _fixed(self, clean: Examination, index: int, factor: float) -> Examination | None:
        """AEC off and a round number of mA, as operators choose it."""
        command = clean.commands[index]
        told = without_aec(dict(command.parameters), self.model)
        ma, kvp = number(told, "XRayTubeCurrentInmA"), number(told, "KVP")
        if ma is None or kvp is None:
            return None
        step = 25.0 if ma * factor >= 100 else 10.0
        told["XRayTubeCurrentInmA"] = min(
            max_ma(self.model, kvp), max(10.0, round(ma * factor / step) * step)
        )
        return put(clean, index, recompute(command, told, self.donors))

    def _voltage(self, clean: Examination, index: int, factor: float) -> Examination | None:
        """One step up in voltage, the reference so that the dose grows by the factor."""
        command = clean.commands[index]
        kvp = command.number("KVP")
        higher = [v for v in self.model.kvps if kvp is not None and v > kvp]
        if not higher:
            return None
        told: dict[str, Value] = {**command.parameters, "KVP": higher[0]}
        stepped = put(clean, index, recompute(command, told, self.donors))
        before, after = command.number("CTDIvol"), stepped.commands[index].number("CTDIvol")
        if not before or not after:
            return None
        made = dose(factor * before / after)(stepped, index, self.rng, self.donors)
        if made is None:
            return None
        return put(
            made, index, steered(stepped.commands[index], dict(made.commands[index].parameters), self.model)
        )

    def _again(self, clean: Examination, index: int, factor: float) -> Examination | None:
        """The same scan once more, or twice."""
        times = round(factor) - 1
        if not 1 <= times <= AGAIN:
            return None
        commands = list(clean.commands)
        commands[index + 1 : index + 1] = [commands[index]] * times
        return replace(clean, commands=tuple(commands))

    def _step(self, examination: Examination, index: int) -> Examination | None:
        """A small step: a little more dose, a little more range, one option further."""
        command = examination.commands[index]
        told = dict(command.parameters)
        ma, kvp = number(told, "XRayTubeCurrentInmA"), number(told, "KVP")
        if ma is None or kvp is None:
            return None
        match int(self.rng.integers(4)):
            case 0:
                return dose(float(self.rng.uniform(1.02, 1.25)))(examination, index, self.rng, self.donors)
            case 1:
                told["XRayTubeCurrentInmA"] = min(
                    max_ma(self.model, kvp), ma + self.model.ma_step * int(self.rng.integers(1, 8))
                )
            case 2:
                most = number(told, "AECMaximumTubeCurrent")
                if most is None:
                    return None
                told["AECMaximumTubeCurrent"] = min(max_ma(self.model, kvp), most + 10.0)
            case _:
                length = number(told, "ScanLength")
                if length is None or told.get("AcquisitionType") != "SPIRAL":
                    return None
                told["ScanLength"] = self.donors.rounded(command, "ScanLength", length * 1.03)
        made = put(examination, index, recompute(command, told, self.donors))
        return put(made, index, steered(command, dict(made.commands[index].parameters), self.model))


# --- as an attack on the wire -------------------------------------------------------------------------------
def stealth_attack(onion: Onion) -> Attack:
    """The best hidden overdose of a random victim, sent over the wire."""

    def find(supply: Supply, rng: np.random.Generator) -> Scene | None:
        for _ in range(4):
            scene = random_scene(supply, rng)
            if scene is None:
                return None
            hidden = Searcher(onion, supply.model, supply.donors, rng).search(scene)
            if hidden.factor > 1.0:
                return replace(scene, attacked=hidden.examination)
        return scene

    return Attack(
        "stealth", "stealth", "the largest dose that a copy of the judge lets pass", find, content, noticed,
        STEALTH,
    )  # fmt: skip


def random_scene(supply: Supply, rng: np.random.Generator) -> Scene | None:
    """Any examination with a scan steered by AEC, and its last such scan."""
    for i in rng.permutation(len(supply.examinations)):
        clean = supply.examinations[int(i)]
        places = [p for p in range(len(clean.commands)) if aec(clean, p)]
        if places:
            return Scene.of(clean, supply.model, index=places[-1])
    return None


def noticed(scene: Scene, felt: Felt) -> bool:
    """A tenth more than ordered, at the worst place."""
    return felt.dose(scene) >= NOTICED * scene.expected_dose
