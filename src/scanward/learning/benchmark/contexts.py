"""The contexts that classifiers are asked about: what a command is for, and who lies on the table, as classes.

Four objective contexts and five patient contexts, told by a command under their DICOM keywords. Numbers of the patient
become classes that mean something in a clinic, since a classifier has to name them. A part of the context that nobody
told has no class; a class that learning did not have is told as rare (``Classes``).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanward.commands import Command
from scanward.layers.encoding import AGE_BANDS
from scanward.learning.benchmark.answers import Floats, Ints

# Children by the bands of the published paediatric tables (European Commission, Radiation Protection 185, 2018, and the
# ACR's, 2022), adults, and from 65 the older ones, who are scanned for other reasons.
AGE_EDGES = (*AGE_BANDS, 65.0)  # years
# Body CT of children is grouped at 5, 15, 30, 50 and 80 kg (Radiation Protection 185, 2018; so does ICRP 135, 2017),
# which covers adults of usual weight; 100 kg, ours, tells heavy adults from the rest.
WEIGHT_EDGES = (5.0, 15.0, 30.0, 50.0, 80.0, 100.0)  # kg
# Near the median height at one, five and ten years (WHO Child Growth Standards 2006, Growth Reference 2007); 1.60 and
# 1.75 m, ours, part adults into three.
HEIGHT_EDGES = (0.75, 1.10, 1.38, 1.60, 1.75)  # m
# Steps of 40 mm of water-equivalent diameter (AAPM Report 220, 2014), which is about what doubles the dose that the
# same noise takes; below them heads and small children.
DIAMETER_EDGES = (130.0, 170.0, 210.0, 250.0, 290.0, 330.0, 370.0)  # mm

MISSING = -1  # code of a context that nobody told
RARE = "(rare)"  # the class of everything that learning saw too seldom, or never
LEAST_OF_CLASS = 5  # commands below which a class is one of the rare ones: no classifier learns from fewer
MOST_CLASSES = (
    150  # beyond the most common of them, classes count as rare: bounds the time of every classifier
)
LEAST = 100  # commands with a known value from which a context is classified at all


@dataclass(frozen=True)
class ContextField:
    """One context.

    Attributes
    ----------
    name : as the report calls it
    field : DICOM keyword under which a command tells it
    edges : of the classes of a number, in the field's unit, ascending; none for a category
    """

    name: str
    field: str
    edges: tuple[float, ...] = ()

    def told(self, command: Command) -> str | None:
        """The class that the command's most trusted source tells; None where nobody told one."""
        if not self.edges:
            text = command.text(self.field)
            return (text.strip() or None) if text is not None else None
        number = command.number(self.field)
        if number is None or not math.isfinite(number):
            return None
        at = bisect_right(self.edges, number)
        low = f"{self.edges[at - 1]:g}" if at else "0"
        return f"{low} to under {self.edges[at]:g}" if at < len(self.edges) else f"{low} and more"


OBJECTIVE: tuple[ContextField, ...] = tuple(
    ContextField(n, n)
    for n in ("BodyPartExamined", "RequestedProcedureDescription", "ProtocolName", "ProtocolElementName")
)
PATIENT: tuple[ContextField, ...] = (
    ContextField("age class", "PatientAge", AGE_EDGES),
    ContextField("sex", "PatientSex"),
    ContextField("weight class", "PatientWeight", WEIGHT_EDGES),
    ContextField("height class", "PatientSize", HEIGHT_EDGES),
    ContextField("diameter class", "WaterEquivalentDiameter", DIAMETER_EDGES),
)
CONTEXTS: tuple[ContextField, ...] = OBJECTIVE + PATIENT


@dataclass(frozen=True)
class Classes:
    """The classes of one context, as learned from clean commands.

    The last class is always the rare one: every class with fewer than ``LEAST_OF_CLASS`` commands, and whatever is told
    later that was never seen. How likely that is, the rare ones among the clean commands say (new names do turn up, and
    more often where many were seen once); never are they impossible, nor as good as any: their share is at least one
    command in those seen.

    Attributes
    ----------
    context : which one
    names : of the classes, the rare one last; length C
    shares : how often each class is told, plus one command each, shape (C,); sums to 1
    """

    context: ContextField
    names: tuple[str, ...]
    shares: Floats

    @classmethod
    def learn(cls, context: ContextField, commands: Sequence[Command]) -> Classes | None:
        """From clean commands; None where too few tell it, or all tell the same."""
        counts = Counter(t for c in commands if (t := context.told(c)) is not None)
        known = sum(counts.values())
        common = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_CLASSES]
        kept = sorted(name for name, n in common if n >= LEAST_OF_CLASS and name != RARE)
        if known < LEAST or len(kept) < 2:
            return None
        seen = np.array([counts[n] for n in kept] + [known - sum(counts[n] for n in kept)], dtype=np.float64)
        return cls(context, (*kept, RARE), (seen + 1) / (known + len(seen)))

    def codes(self, commands: Sequence[Command]) -> Ints:
        """The class each command tells: shape (N,), index of ``names``, or ``MISSING``."""
        place = {name: i for i, name in enumerate(self.names)}
        rare = len(self.names) - 1
        told = (self.context.told(c) for c in commands)
        return np.array([MISSING if t is None else place.get(t, rare) for t in told], dtype=np.int64)
