"""Layer 7, procedure: does this command belong *here* in the examination? Learned, sequential, deep.

A gated recurrent network (GRU, Cho et al. 2014) reads the commands of an examination one by one and says how
surprising the next protocol element is, given what came before and what the examination is for. Its state is
passed in and out; only what was sent changes it. Retakes are normal clinical life: this layer alone never halts.
Without an examination identifier it abstains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, LayerName, Objection, Opinion, Outcome, Severity
from scanward.layers.base import Part
from scanward.layers.encoding import ELEMENT, MISSING, Encoder, View
from scanward.layers.steps import Steps

F32 = NDArray[np.float32]
STRANGE = 5.0  # nats from which the step is named
CONSTANT = (  # what does not change within an examination, or only for a reason
    "PatientPosition",
    "ProtocolName",
    "BodyPartExamined",
    "RequestedProcedureDescription",
    "StudyDescription",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "WaterEquivalentDiameter",
    "TableHeight",
)
INPUTS = 4  # numbers the network reads beside the element: gap in time, repeats, length ratio, dose ratio


@dataclass(frozen=True, slots=True)
class Course:
    """What has been sent in this examination so far."""

    hidden: F32 | None = None
    last: View | None = None
    time: float | None = None
    number: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)  # element -> times sent
    lengths: Mapping[str, float] = field(default_factory=dict)  # element -> longest range sent, mm
    element: str = ""
    token: int = 0  # group of the last element
    run: int = 0  # times the last element was sent in a row
    doubt: float = 0.0  # nats of the repeats in that row: a second repeat is judged with the first
    dose: float = (
        0.0  # accumulated CTDIvol of all scans, mGy (whatever the phantom: a number for ratios only)
    )


@dataclass(frozen=True)
class Gru:
    """Weights. T elements (0: never seen, last: the end), O objectives (0: none), H hidden units.

    Attributes
    ----------
    element : (T, E), objective : (O, E)
    wx : (E + INPUTS, 3 H), wh : (H, 3 H), bx : (3 H,), bh : (3 H,) in the order reset, update, new
    out : (H + E, T), bias : (T,)
        The next element is read from the state and the objective of the command at hand.
    """

    element: F32
    objective: F32
    wx: F32
    wh: F32
    bx: F32
    bh: F32
    out: F32
    bias: F32

    @property
    def width(self) -> int:
        """H."""
        return int(self.wh.shape[0])

    def step(self, hidden: F32, element: int, numbers: F32) -> F32:
        """State after one more command (PyTorch's GRUCell equations)."""
        h = self.width
        x = np.concatenate((self.element[element], numbers)) @ self.wx + self.bx
        r = hidden @ self.wh + self.bh
        gates = x[: 2 * h] + r[: 2 * h]
        gates = 1 / (1 + np.exp(-gates))
        reset, update = gates[:h], gates[h:]
        new = np.tanh(x[2 * h :] + reset * r[2 * h :])
        out: F32 = ((1 - update) * new + update * hidden).astype(np.float32)
        return out

    def next_logs(self, hidden: F32, objective: int) -> F32:
        """(T,) log probabilities of the next element."""
        logits: F32 = np.concatenate((hidden, self.objective[objective])) @ self.out
        logits += self.bias
        logits -= np.maximum.reduce(logits)
        logits -= np.log(np.add.reduce(np.exp(logits)))
        return logits


@dataclass(frozen=True)
class ProcedureLayer:
    """See the module. ``objectives`` maps what an examination is for to a row of the network."""

    encoder: Encoder
    gru: Gru
    steps: Steps
    objectives: Mapping[str, int]
    name: LayerName = LayerName.PROCEDURE

    def start(self) -> Course:
        """Nothing sent yet."""
        return Course()

    def judge(self, state: Course, command: Command) -> tuple[Opinion, Course]:
        """Opinion on the command's place in the examination."""
        if command.examination is None:
            return Opinion(self.name, Outcome.ABSTAIN, reason="no examination identifier"), state
        view = self.encoder.view(command)
        token = view.groups[ELEMENT] + 1
        element = command.text("ProtocolElementName") or command.text("AcquisitionType") or ""
        key = f"{view.groups[ELEMENT]}\x1f{element}"
        hidden = state.hidden if state.hidden is not None else np.zeros(self.gru.width, dtype=np.float32)
        logs = self.gru.next_logs(hidden, self.objectives.get(objective_of(command), 0))
        nats = float(-logs[token])
        repeats = state.seen.get(key, 0)
        group = view.groups[ELEMENT]
        again = state.element == key
        run = state.run if again else 0
        last = state.token if state.number else self.steps.beginning(group)
        counted = self.steps.nats(last, group, repeats, run)
        doubt = state.doubt + counted if run else 0.0
        length = command.number("ScanLength")
        before = state.lengths.get(key)
        ratio = math.log(max(length, 1.0) / max(before, 1.0)) if length is not None and before else math.nan
        dose = max(command.number("CTDIvol") or 0.0, 0.0)
        gap = math.nan
        if state.time is not None and command.acquired_at is not None:
            gap = math.log1p(max(0.0, command.acquired_at - state.time))
        features = {
            "proc.next": nats,
            "proc.step": counted,
            "proc.doubt": doubt,
            "proc.position": float(state.number),
            "proc.repeats": float(repeats),
            "proc.again": float(again),
            "proc.length_ratio": ratio,
            "proc.gap": gap,
            "proc.dose_share": math.log((dose + 0.01) / (state.dose + 0.01)) if state.number else math.nan,
        }
        changed = self._changes(state.last, view, features)
        numbers = np.array(
            [
                0.0 if math.isnan(gap) else gap / 5.0,
                min(repeats, 5) / 2.0,
                0.0 if math.isnan(ratio) else max(-3.0, min(3.0, ratio)),
                math.log1p(dose) / 4.0,
            ],
            dtype=np.float32,
        )
        new = Course(
            self.gru.step(hidden, token, numbers),
            view,
            command.acquired_at if command.acquired_at is not None else state.time,
            state.number + 1,
            {**state.seen, key: repeats + 1},
            state.lengths if length is None else {**state.lengths, key: max(length, before or 0.0)},
            key,
            group,
            run + 1,
            doubt,
            state.dose + dose,
        )
        objections: list[Objection] = []
        if max(nats, counted) > STRANGE:
            best = int(np.argmax(logs))
            expected = self._name(best)
            what = (
                f"comes a further time (sent {repeats} times before)" if repeats else "does not follow here"
            )
            objections.append(
                Objection(
                    "ProtocolElementName",
                    what,
                    element,
                    expected,
                    severity=Severity.ALERT,
                    weight=max(nats, counted),
                )
            )
        objections += [
            Objection(name, "changed within the examination", severity=Severity.ALERT, weight=3.0)
            for name in changed
        ]
        outcome = Outcome.OBJECT if objections else Outcome.PASS
        return Opinion(self.name, outcome, tuple(objections), nats, features=features), new

    def _changes(self, last: View | None, view: View, features: dict[str, float]) -> list[str]:
        """Fields that differ from the previous command; fills the features ``proc.change.*``."""
        changed = []
        for name, feature, at, category in self._constant:
            change = math.nan
            if last is not None and last.codes[at] != MISSING and view.codes[at] != MISSING:
                differs = float(last.codes[at] != view.codes[at])
                change = differs if category else view.numbers[at] - last.numbers[at]
                if abs(change) > 1e-9 and name != "TableHeight":
                    changed.append(name)
            features[feature] = change
        return changed

    @cached_property
    def _constant(self) -> list[tuple[str, str, int, bool]]:
        """Name, feature, index and whether it is a category, of each learned field in ``CONSTANT``."""
        index, fields = self.encoder.index, self.encoder.fields
        return [
            (name, f"proc.change.{name}", index[name], fields[index[name]].kind == "category")
            for name in CONSTANT
            if name in index
        ]

    def _name(self, token: int) -> str:
        if token == 0:
            return "an element never seen"
        if token == len(self.gru.bias) - 1:
            return "the end of the examination"
        for key, at in self.encoder.groups[ELEMENT].items():
            if at == token - 1:
                return " ".join(part for part in key.split("\x1f")[1:3] if part)
        return ""

    def part(self) -> Part:
        """For a bundle (the shared encoder travels apart)."""
        names = ("element", "objective", "wx", "wh", "bx", "bh", "out", "bias")
        arrays = {name: np.asarray(getattr(self.gru, name)) for name in names}
        network = Part({"objectives": dict(self.objectives)}, arrays)
        return Part.joined({"network": network, "steps": self.steps.part()})

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> ProcedureLayer:
        """The inverse of :meth:`part`."""
        network = part.scoped("network")
        objectives = {str(k): int(v) for k, v in network.settings["objectives"].items()}
        return cls(encoder, Gru(**network.arrays), Steps.from_part(part.scoped("steps")), objectives)


def objective_of(command: Command) -> str:
    """What the examination is for, in the words of whoever said it best."""
    return (
        command.text("RequestedProcedureDescription")
        or command.text("StudyDescription")
        or command.text("ProtocolName")
        or ""
    )
