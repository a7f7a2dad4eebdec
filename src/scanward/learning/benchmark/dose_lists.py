"""A list of notification values, as dose-check software has one (NEMA XR 25; AAPM).

NEMA XR 25-2010 (DICOM PS3.3 C.34.10.2) sets a notification value of CTDIvol and one of DLP for every protocol element:
whoever exceeds one is asked before the scan. AAPM's recommendation (Notification and Alert Values for CT Scanners,
version 1.0, 2011) leaves the values to the site, above what it usually needs. Here they are learned, a quantile of
the site's clean commands: for each protocol element of each protocol, where that is rare or unknown for its body part
and age class, else for all commands. Protocols of a site's makers have names of their own, so the device is no
part of the list. The score is the largest log ratio of a told dose to its value.

Doses on different phantoms are never mixed: a CTDIvol of a head phantom is about twice that of a body phantom for the
same scan, and DLP is made of it. A command that tells no dose, or one on a phantom that no clean command had, has
nothing that a list could hold against it, and scores lowest.

The second method also holds a lower value against a command, which no software does by the standard.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.commands import Command
from scanward.learning.baselines import HeldBack, held_back_commands, low_rate_detection
from scanward.learning.benchmark.answers import Answer, Kind, Learned, Method, Tick
from scanward.learning.benchmark.contexts import PATIENT
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.worlds import World, commands_of

FIGURES = ("CTDIvol", "DLP")  # mGy, mGy cm
PHANTOM = "CTDIwPhantomType"
QUANTILES = (
    0.5,
    0.9,
    0.99,
    1.0,
)  # of the usual doses; a common margin above them would move no command past another
LEAST = 10  # commands below which a list of fewer details is asked
SMALLEST = 0.01  # mGy and mGy cm: the last digit of displayed doses; a smaller one counts as this
NOTHING_TOLD = (
    -100.0
)  # score of a command without dose, below every log ratio of two doses (e-100 is below any)
(AGE,) = (c for c in PATIENT if c.name == "age class")

Key = tuple[str | None, ...]


def keys_of(command: Command) -> tuple[Key, Key, Key]:
    """Entries of the list that speak of a command, the most special first, each of its phantom alone.

    Localizers and scans tell the same body part, so that the type of acquisition stands in the general entries.
    """
    phantom, kind = command.text(PHANTOM), command.text("AcquisitionType")
    return (
        ("element", phantom, command.text("ProtocolName"), command.text("ProtocolElementName")),
        ("part", phantom, kind, command.text("BodyPartExamined"), AGE.told(command)),
        ("all", phantom, kind),
    )


def log_dose(command: Command, figure: str) -> float | None:
    """Logarithm of a told dose; None where none is told that is a number."""
    told = command.number(figure)
    return math.log(max(told, SMALLEST)) if told is not None and math.isfinite(told) else None


@dataclass(frozen=True)
class DoseList:
    """Notification values: entry -> figure -> (lower, upper), logarithms."""

    values: Mapping[Key, Mapping[str, tuple[float, float]]]
    both: bool

    @classmethod
    def learn(cls, commands: Sequence[Command], quantile: float, both: bool) -> DoseList:
        """From clean commands; ``both`` sides, the lower value being the quantile of the same share from below."""
        doses: dict[Key, dict[str, list[float]]] = {}
        for command in commands:
            for figure in FIGURES:
                told = log_dose(command, figure)
                if told is not None:
                    for key in keys_of(command):
                        doses.setdefault(key, {}).setdefault(figure, []).append(told)
        values: dict[Key, dict[str, tuple[float, float]]] = {}
        for key, figures in doses.items():
            enough = {f: d for f, d in figures.items() if len(d) >= LEAST or key[0] == "all"}
            if enough:
                values[key] = {f: _sides(d, quantile) for f, d in enough.items()}
        return cls(values, both)

    def score(self, command: Command) -> float:
        """Largest log ratio of a told dose to its notification value; ``NOTHING_TOLD`` where there is none."""
        found = NOTHING_TOLD
        keys = keys_of(command)
        for figure in FIGURES:
            told = log_dose(command, figure)
            sides = next((v[figure] for k in keys if figure in (v := self.values.get(k, {}))), None)
            if told is not None and sides is not None:
                low, high = sides
                found = max(found, told - high, *((low - told,) if self.both else ()))
        return found

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """Scores alone: how far is too far, calibration says, as for every method."""
        return [[Answer(self.score(c)) for c in h] for h in histories]


def _sides(doses: Sequence[float], quantile: float) -> tuple[float, float]:
    low, high = np.quantile(doses, [1 - quantile, quantile])
    return float(low), float(high)


_held_back: Last[HeldBack] = Last()


def _learn(both: bool) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        began = time.perf_counter()
        held = _held_back.of(world, seed, lambda: held_back_commands(world.learn, seed))
        compared: list[tuple[dict[str, Any], float]] = []
        for i, quantile in enumerate(QUANTILES):
            tick(f"quantile {quantile:g}", i / (len(QUANTILES) + 1))
            found = DoseList.learn(held.early, quantile, both)
            clean, spoilt = ([found.score(c) for c in some] for some in (held.clean, held.spoilt))
            compared.append(({"quantile": quantile}, low_rate_detection(clean, spoilt)))
        chosen = max(compared, key=lambda pair: pair[1])[0]
        tick("all", len(QUANTILES) / (len(QUANTILES) + 1))
        kept = DoseList.learn(commands_of(world.learn), chosen["quantile"], both)
        facts = {
            "chosen": chosen,
            "compared": [list(pair) for pair in compared],
            "entries": len(kept.values),
            "protocol elements": sum(key[0] == "element" for key in kept.values),
            "seconds": round(time.perf_counter() - began, 2),
        }
        return Learned(kept, facts)

    return learn


DOSE_LISTS: tuple[Method, ...] = tuple(
    Method(
        name,
        Kind.RULES,
        _learn(both),
        about="CTDIvol and DLP against learned notification values of the protocol element (NEMA XR 25), "
        + end,
        group="dose check list",
    )
    for name, both, end in (
        ("dose check list", False, "too high alone"),
        ("dose check list, both sides", True, "too high or too low"),
    )
)
