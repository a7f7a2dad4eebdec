"""What an attack is here: a victim, a script over the wire, and what counts as its effect.

Attacks act on emulated scanners alone. ``Bench.host`` refuses an address that is not this machine's, an other end
whose hello does not say "Simulated", and one without the room of an emulated gantry behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanward.commands import Device, Examination
from scanward.commands.wire import Element
from scanward.emulator.host import Answer, Host, chains_of
from scanward.emulator.play import Played, RoomDoor, patient_of, study_of
from scanward.emulator.wires import Tls, is_loopback
from scanward.errors import SettingsError
from scanward.simulation.constants import Model
from scanward.simulation.donors import Donors
from scanward.simulation.dose import Ledger
from scanward.simulation.elements import LOCALIZER, STATIONARY
from scanward.simulation.scanner import MARK, OnTable, model_named, perform, phantom_cm
from scanward.simulation.wire_attacks import LEAST_MORE, MOST_LESS


@dataclass(frozen=True)
class Supply:
    """Whom there is to attack: clean examinations of one simulated device, and what the attacker has seen."""

    device: Device
    model: Model
    examinations: tuple[Examination, ...]
    donors: Donors

    @classmethod
    def of(cls, device: Device, examinations: Sequence[Examination], donors: Donors) -> Supply:
        """Those of ``examinations`` that are of ``device``; SettingsError when it is no simulated one."""
        model = model_named(device.manufacturer, device.model)
        if model is None or not device.manufacturer.startswith(MARK):
            raise SettingsError(
                f"{device.manufacturer} {device.model} is no simulated device",
                "",
                "attacks act on those alone",
            )
        own = tuple(e for e in examinations if e.commands and e.commands[0].device.key == device.key)
        return cls(device, model, own, donors)


@dataclass(frozen=True)
class Scene:
    """One victim.

    Attributes
    ----------
    clean, attacked : Examination
        What was ordered, and what the attacker's host sends; the same for attacks on the protocol.
    index : int
        The command the attack is about.
    who : OnTable
        Who really lies there.
    expected : Ledger
        The dose of the clean examination.
    """

    clean: Examination
    attacked: Examination
    index: int
    model: Model
    who: OnTable
    expected: Ledger

    @classmethod
    def of(
        cls, clean: Examination, model: Model, attacked: Examination | None = None, index: int | None = None
    ) -> Scene:
        """The scene of a clean examination; ``index`` is the last scan that makes images unless told."""
        who = patient_of(clean)
        ledger = Ledger()
        for command in clean.commands:
            done = perform(model, command.parameters, who)
            ledger.add(done.phantom_cm, done.low, done.high, done.ctdivol)
        last = max(i for i, c in enumerate(clean.commands) if _images(c.parameters) or i == 0)
        return cls(clean, attacked or clean, last if index is None else index, model, who, ledger)

    @property
    def phantom(self) -> int:
        """Phantom (cm) on which the attacked command's dose is told."""
        return phantom_cm(self.attacked.commands[self.index].parameters)

    @property
    def expected_dose(self) -> float:
        """Largest dose of one place (mGy) that the clean examination gives on that phantom."""
        return self.expected.peak(self.phantom)

    def chains(self, examination: Examination | None = None) -> list[tuple[Element, ...]]:
        """The loads of an examination (the attacked one unless told)."""
        return chains_of(examination or self.attacked)

    @property
    def study(self) -> str:
        """Its StudyInstanceUID."""
        return study_of(self.clean.identifier)


def _images(told: Any) -> bool:
    return told.get("AcquisitionType") not in (LOCALIZER, STATIONARY)


@dataclass(frozen=True)
class Bench:
    """One scanner to attack: where its link is (the gantry's own, or a guard's in front of it), and its room."""

    address: tuple[str, int]
    room: RoomDoor
    device: Device
    tls: Tls | None = None

    @asynccontextmanager
    async def host(self, *, stops: bool = True) -> AsyncIterator[Host]:
        """A host on the wire; SettingsError for whatever is not an emulated scanner on this machine."""
        if not is_loopback(self.address[0]):
            raise SettingsError("attacks act on this machine alone", self.address[0], "use 127.0.0.1")
        behind = (await self.room.ask("report")).get("device", "")
        if behind != f"{self.device.manufacturer} {self.device.model}" or not behind.startswith(MARK):
            raise SettingsError(
                f"the room behind it is of {behind or 'nothing'}",
                "",
                "attacks act on emulated gantries alone",
            )
        host = await Host.open(*self.address, self.device, self.tls, stops=stops)
        try:
            yield host
        finally:
            await host.close()


@dataclass
class Felt:
    """What the room felt of it, and what the host was answered."""

    report: dict[str, Any]
    played: Played
    facts: dict[str, Any] = field(default_factory=dict)

    def dose(self, scene: Scene) -> float:
        """Largest dose of one place (mGy) on the attacked command's phantom."""
        told = self.report["dose"].get(str(scene.phantom), {})
        return float(told.get("peak_mGy", 0.0))

    @property
    def scans(self) -> list[dict[str, Any]]:
        """Whole scans that make images."""
        return [a for a in self.report["acquired"] if _images(a["parameters"]) and not a["aborted"]]


Script = Callable[[Bench, Scene, np.random.Generator, Supply], Awaitable[Felt]]
Find = Callable[[Supply, np.random.Generator], "Scene | None"]
Effect = Callable[[Scene, Felt], bool]


@dataclass(frozen=True)
class Attack:
    """One attack on an emulated scanner.

    ``tires`` marks one that works on the operator: who answers then reads the first few holds and no more.
    """

    name: str
    family: str
    about: str
    find: Find
    script: Script
    effect: Effect
    source: str = ""
    tires: bool = False


@dataclass(frozen=True)
class Outcome:
    """One attack, once, on one bench.

    ``stopped_by`` is the guard's layer or rule; empty where nothing stopped it.
    """

    attack: str
    effect: bool
    dose: float
    expected: float
    seconds: float
    answer: Answer | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def stopped_by(self) -> str:
        """Layer that refused, or "gate" where the refusal names none; empty when nothing was refused."""
        answer = self.answer
        if answer is None or answer.ok or answer.message is None:
            return ""
        return answer.layer or ("hold" if answer.held else "gate")

    def as_json(self) -> dict[str, Any]:
        """For tables and files."""
        answer = self.answer
        return {
            "name": self.attack,
            "effect": self.effect,
            "dose_mGy": round(self.dose, 2),
            "ordered_mGy": round(self.expected, 2),
            "stopped_by": self.stopped_by,
            "reason": "" if answer is None else answer.reason or answer.held,
            "seconds": round(self.seconds, 3),
            "facts": self.facts,
        }


_PLACE = (
    "AcquisitionType",
    "AcquisitionStartLocation",
    "ScanLength",
    "ConvolutionKernel",
)  # tells scans apart
_SHOWING = ("ReconstructionDiameter", "ConvolutionKernel", "SliceThickness")


# --- effects ----------------------------------------------------------------------------------------------
def more_dose(scene: Scene, felt: Felt) -> bool:
    """A quarter more than ordered, at the worst place."""
    given = felt.dose(scene)
    return given > 0 and given >= LEAST_MORE * scene.expected_dose


def less_dose(scene: Scene, felt: Felt) -> bool:
    """The attacked scan was done with at most 60 % of the dose: its images miss what they were made for."""
    clean = perform(scene.model, scene.clean.commands[scene.index].parameters, scene.who)
    told = scene.attacked.commands[scene.index].parameters
    done = [a for a in felt.scans if all(a["parameters"].get(n) == told.get(n) for n in _PLACE)]
    return any(a["ctdivol"] <= MOST_LESS * clean.ctdivol for a in done)


def useless_images(scene: Scene, felt: Felt) -> bool:
    """The attacked scan was done as the attacker wanted it reconstructed."""
    told, ordered = (e.commands[scene.index].parameters for e in (scene.attacked, scene.clean))
    names = [n for n in _SHOWING if told.get(n) != ordered.get(n)]
    return bool(names) and any(all(a["parameters"].get(n) == told[n] for n in names) for a in felt.scans)


def off_centre(scene: Scene, felt: Felt) -> bool:
    """A scan was done with the patient 40 mm and more off the isocentre."""
    return any(abs(a["off_centre"]) > 40 for a in felt.scans)


def hurt(scene: Scene, felt: Felt) -> bool:
    """The table pressed the patient against the bore."""
    return bool(felt.report["collisions"])


def missed(scene: Scene, felt: Felt) -> bool:
    """Fewer whole scans than ordered."""
    wanted = sum(_images(c.parameters) for c in scene.clean.commands)
    return len(felt.scans) < wanted


def safe_state(scene: Scene, felt: Felt) -> bool:
    """The gantry went to its safe state, and somebody has to walk to it."""
    return bool(felt.report["state"] == "safe")


def contrast_missed(scene: Scene, felt: Felt) -> bool:
    """Contrast was given and no scan met it."""
    return bool(felt.report["injected"]) and not any(a["in_contrast"] for a in felt.scans)


def three_times(scene: Scene, felt: Felt) -> bool:
    """Three times the dose ordered, by however many scans."""
    return felt.dose(scene) >= 3 * scene.expected_dose
