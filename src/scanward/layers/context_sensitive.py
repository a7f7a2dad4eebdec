"""Layer 6, context-sensitive: does the command belong to this objective and this patient? Learned, supervised.

Three kinds of question: is each value usual in this protocol element, or a deviation that operators make; is
each number what this patient and these settings lead one to expect (both too much and too little); and does the
command look like the body region, procedure and patient it claims. Where context is missing the question is
left out: an unknown trauma patient must not be refused for being unknown.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, Context, LayerName, Objection, Opinion, Outcome, Severity, Told
from scanward.layers.base import Part
from scanward.layers.choices import Choice, fresh
from scanward.layers.classifier import Classifier
from scanward.layers.conditional import Conditional
from scanward.layers.encoding import AGE_BANDS, ELEMENT, MISSING, Encoder, View
from scanward.layers.expecting import Expecting, Prepared
from scanward.layers.exposure import Exposure
from scanward.layers.graph import Answers, Grove
from scanward.layers.phrases import (
    class_objection,
    code_objection,
    range_objection,
    value_objection,
    with_unit,
)
from scanward.layers.usual import UsualValues

UNUSUAL = 4.0  # nats from which a discrete value is named
FAR = 3.0  # spreads from which a number is named
AGAINST = 3.0  # nats by which another class must beat the claimed one to be named
LASTING = "PatientPosition"  # chosen once for an examination, unlike voltage or field of view
CUT = 50.0  # no number of spreads beyond this says more


def disputes(context: Context) -> list[Objection]:
    """An objection for each field of which two sources say different things: an alert of its own."""
    return [
        Objection(
            field,
            f"is not what all sources say ({', '.join(f'{t.source.value}: {_said(t)}' for t in told)})",
            told[0].value,
            "one value from all sources",
            severity=Severity.ALERT,
            weight=20.0,
        )
        for field, told in context.disagreements().items()
    ]


def _said(told: Told) -> str:
    return f"{told.value:.4g}" if isinstance(told.value, float) else told.value


@dataclass(frozen=True, slots=True)
class Residuals:
    """What this layer remembers of an examination.

    Residuals of the dose, which belong to the patient, and how surprising the position of the command before was.
    """

    total: float = 0.0
    number: int = 0
    lying: float = math.nan


@dataclass(frozen=True)
class ContextSensitiveLayer:
    """See the module.

    ``ages`` is (G + 1, bands) float32: nats of surprise at an age band in each protocol element (row 0: an element
    never seen), empty where ages are not learned.
    """

    encoder: Encoder
    usual: UsualValues
    ages: NDArray[np.float32]
    conditionals: tuple[Conditional, ...]
    choices: tuple[Choice, ...]
    classifiers: tuple[Classifier, ...]
    expectations: Grove  # trees of the conditionals, then of the choices
    suspicions: Grove  # trees of the classifiers
    exposure: Exposure | None = None  # what exposure control has to say of the other settings
    name: LayerName = LayerName.CONTEXT_SENSITIVE

    def start(self) -> Residuals:
        """Nothing seen yet."""
        return Residuals()

    def judge(self, state: Residuals, command: Command) -> tuple[Opinion, Residuals]:
        """Opinion on the command in its context."""
        view = self.encoder.view(command)
        ready = self.expecting.prepare(view)
        corrections = self.expectations.run(ready.features)
        suspicions = self.suspicions.run(ready.features[: 2 * len(view.codes)])
        return self.opinion(state, command, view, ready, corrections, suspicions)

    @cached_property
    def expecting(self) -> Expecting:
        """The conditionals side by side, and what the choices start from."""
        more = () if self.exposure is None else (self.exposure.model,)
        return Expecting(self.encoder, self.usual, (*self.conditionals, *more), self.choices)

    @cached_property
    def _plan(self) -> tuple[tuple[str, bool, str, str, str], ...]:
        """Of each field: kind, whether its absence counts, names of the features made of it."""
        return tuple(
            (f.kind, f.group == "machine", f"cs.z.{f.name}", f"cs.moved.{f.name}", f"cs.usual.{f.name}")
            for f in self.encoder.fields
        )

    def opinion(
        self,
        state: Residuals,
        command: Command,
        view: View,
        ready: Prepared,
        corrections: Answers,
        suspicions: Answers,
    ) -> tuple[Opinion, Residuals]:
        """The same, with what the trees answer to ``ready.features``."""
        encoder, usual = self.encoder, self.usual
        level, row = ready.level, ready.row
        surprise: list[float] = usual.surprises(encoder, view, level, row).tolist()
        moved: list[float] = ready.moved.tolist()
        spread: list[float] = usual.spread[level][row].tolist()
        features: dict[str, float] = {
            "cs.level": float(level),
            "cs.support": math.log1p(float(usual.support[level][row])),
        }
        objections: list[Objection] = []
        trees = sum(model.trees for model in self.conditionals)
        chosen = {
            choice.target: (name, lasting, choice, answer)
            for choice, (name, lasting), answer in zip(
                self.choices, self._chosen, corrections[trees:], strict=True
            )
        }
        widths = self.expecting.spreads(view, level, row)
        features.update(self._exposed(view, ready, moved, widths))
        lying = state.lying
        total = 0.0
        most = 0.0
        away = 0
        odd: list[float] = []
        far: list[float] = []
        for f, (kind, counts, z_name, moved_name, usual_name) in enumerate(self._plan):
            if kind == "continuous":
                # A distance in spreads where the group has its own, in the field's scale besides.
                by = moved[f]
                z = by / spread[f] if by == by else math.nan
                features[z_name] = max(-CUT, min(CUT, z)) if z == z else math.nan
                features[moved_name] = by
                continue
            if not counts and view.codes[f] == MISSING:
                features[usual_name] = math.nan
                continue
            nats = surprise[f]
            features[usual_name] = nats
            choice = chosen.get(f)
            if choice is not None:
                # What is chosen for this patient says more than what is usual in the protocol.
                nats = choice[2].nats(view, choice[3])
                if choice[1]:
                    nats, lying = fresh(nats, state.lying), nats
                    features["cs.choice.lying"] = lying
                features[choice[0]] = nats
            total += nats
            odd.append(nats)
            most = max(most, nats)
            if kind == "discrete":
                features[moved_name] = moved[f]
            if nats > UNUSUAL:
                away += 1
                objections.append(
                    value_objection(encoder, usual, f, view, "is not usual in this protocol", nats)
                    if choice is None
                    else code_objection(
                        encoder,
                        f,
                        view,
                        [choice[2].expected(view, choice[3])],
                        "is not what such a patient gets here",
                        nats,
                    )
                )
        years = self._age(view)
        features["cs.usual.PatientAge"] = years
        if not math.isnan(years):
            total += years
            odd.append(years)
            most = max(most, years)
            if years > UNUSUAL:
                away += 1
                objections.append(self._age_objection(view, years))
        features["cs.usual.sum"], features["cs.usual.max"] = total, most
        ranked = sorted(odd, reverse=True)
        features["cs.usual.second"] = ranked[1] if len(ranked) > 1 else 0.0
        features["cs.usual.third"] = ranked[2] if len(ranked) > 2 else 0.0
        features["cs.usual.away"] = float(away)
        score = total
        corrected = iter(corrections)  # those of the conditionals stand first
        # Exposure control's own expectation stands last, and has been asked.
        for model, (expect_name, gap_name), guess, width in zip(
            self.conditionals, self._names[0], ready.guesses, widths, strict=False
        ):
            expected = guess + (next(corrected)[0] if model.trees else 0.0)
            number = view.numbers[model.target]
            if math.isnan(number):
                features[expect_name] = math.nan
                features[gap_name] = math.nan
                continue
            z = max(-CUT, min(CUT, (number - expected) / width))
            features[expect_name] = z
            features[gap_name] = number - expected
            far.append(abs(z))
            score += 0.5 * min(abs(z), 12.0) ** 2 / len(self.conditionals)
            if abs(z) > FAR:
                side = "more" if z > 0 else "less"
                reason = f"is {side} than this patient and these settings lead one to expect"
                objections.append(
                    range_objection(
                        encoder, model.target, view, expected, width, reason, 0.5 * min(abs(z), 12.0) ** 2
                    )
                )
        far.sort(reverse=True)
        features["cs.expect.max"] = far[0] if far else 0.0
        features["cs.expect.second"] = far[1] if len(far) > 1 else 0.0
        features["cs.evidence"] = sum([n - 2.0 for n in odd if n > 2.0]) + sum(
            [0.5 * min(z, 8.0) ** 2 - 2.0 for z in far if z > 2.0]
        )
        features.update(self._exchanged(features))
        suspected = iter(suspicions)
        for classifier, against_name in zip(self.classifiers, self._names[1], strict=True):
            answer = classifier.against(view, next(suspected) if classifier.trees else None)
            features[against_name] = math.nan if answer is None else answer[0]
            if answer is not None and answer[0] > AGAINST:
                score += answer[0]
                reason = "is not what the command looks like it is for"
                objections.append(class_objection(encoder, classifier, view, answer[1], reason, answer[0]))
        dose = features.get("cs.expect.CTDIvol", features.get("cs.expect.XRayTubeCurrentInmA", math.nan))
        features["cs.earlier"] = state.total / state.number if state.number else math.nan
        features["cs.beyond_earlier"] = dose - features["cs.earlier"]
        known = not math.isnan(dose)
        state = Residuals(state.total + (dose if known else 0.0), state.number + known, lying)
        objections += disputes(command.context)
        outcome = Outcome.OBJECT if objections else Outcome.PASS
        found = tuple(sorted(objections, key=lambda o: -o.weight))
        return Opinion(self.name, outcome, found, score, features=features), state

    def _exposed(
        self, view: View, ready: Prepared, moved: list[float], widths: list[float]
    ) -> dict[str, float]:
        """What exposure control says of the current, and by it of its own settings."""
        if self.exposure is None:
            return {}
        told = self.exposure.opinion(view, ready.level, ready.row, moved, ready.guesses[-1], widths[-1])
        if told is None:
            return dict.fromkeys(
                ("cs.aec", "cs.aec.nats", *(fits for _, fits, _, _ in self._settings)), math.nan
            )
        found = {"cs.aec": told.spreads, "cs.aec.nats": told.nats}
        found.update((fits, told.fits[f]) for f, fits, _, _ in self._settings)
        return found

    def _exchanged(self, features: dict[str, float]) -> dict[str, float]:
        """Evidence that a setting was exchanged after the current had been set, in nats, and the most of it.

        Whoever chooses an unusual setting gets a current that goes with it: the surprise at the choice, plus by
        how much the current fits the usual one better.
        """
        found = {}
        for _, fits, chosen, exchanged in self._settings:
            if chosen in features:
                by = features[fits]
                found[exchanged] = features[chosen] + (by if by == by else 0.0)
        if found:
            found["cs.exchanged"] = max(found.values())
        return found

    @cached_property
    def _settings(self) -> list[tuple[int, str, str, str]]:
        """Of each setting of exposure control: field, and names of three features."""
        if self.exposure is None:
            return []
        names = [(f, self.encoder.fields[f].name) for f in self.exposure.settings.tolist()]
        return [(f, f"cs.aec.fits.{n}", f"cs.choice.{n}", f"cs.exchanged.{n}") for f, n in names]

    def _age(self, view: View) -> float:
        """Nats of surprise at the patient's age band in the protocol element; NaN where no age is told."""
        at, table = self._bands
        if at < 0 or math.isnan(view.numbers[at]):
            return math.nan
        return table[view.groups[ELEMENT] + 1][bisect_right(AGE_BANDS, view.numbers[at])]

    def _age_objection(self, view: View, nats: float) -> Objection:
        """An objection to the patient's age, with the band that is usual in the protocol element."""
        band = int(self.ages[view.groups[ELEMENT] + 1].argmin())
        edges = (0.0, *AGE_BANDS)
        high = edges[band + 1] if band + 1 < len(edges) else None
        text = f"{edges[band]:g} or more" if high is None else f"{edges[band]:g} to {high:g}"
        return Objection(
            "PatientAge",
            "is not an age that this protocol is used for",
            view.numbers[self.encoder.index["PatientAge"]],
            with_unit(text, "PatientAge"),
            edges[band],
            high,
            severity=Severity.ALERT,
            weight=nats,
        )

    @cached_property
    def _chosen(self) -> list[tuple[str, bool]]:
        """Names of the features of the choices, and whether each is made once for an examination."""
        names = [self.encoder.fields[c.target].name for c in self.choices]
        return [(f"cs.choice.{name}", name == LASTING) for name in names]

    @cached_property
    def _bands(self) -> tuple[int, list[list[float]]]:
        """Where the age is (-1: not learned), and ``ages`` as lists."""
        at = self.encoder.index.get("PatientAge", -1) if len(self.ages) else -1
        return at, [[float(nats) for nats in row] for row in self.ages]

    @cached_property
    def _names(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Names of the features of the conditionals and of the classifiers."""
        names = [f.name for f in self.encoder.fields]
        return (
            [(f"cs.expect.{names[m.target]}", f"cs.gap.{names[m.target]}") for m in self.conditionals],
            [f"cs.against.{names[c.target]}" for c in self.classifiers],
        )

    def part(self) -> Part:
        """For a bundle (the shared encoder travels apart)."""
        parts = {"usual": self.usual.part()}
        parts |= {"expectations": self.expectations.part(), "suspicions": self.suspicions.part()}
        parts |= {f"conditional{i}": m.part() for i, m in enumerate(self.conditionals)}
        parts |= {f"choice{i}": m.part() for i, m in enumerate(self.choices)}
        parts |= {f"classifier{i}": m.part() for i, m in enumerate(self.classifiers)}
        parts["ages"] = Part({}, {"nats": self.ages})
        if self.exposure is not None:
            parts["exposure"] = self.exposure.part()
        joined = Part.joined(parts)
        counts = {
            "conditionals": len(self.conditionals),
            "choices": len(self.choices),
            "classifiers": len(self.classifiers),
        }
        return Part({**joined.settings, **counts}, joined.arrays, joined.graphs)

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> ContextSensitiveLayer:
        """The inverse of :meth:`part`."""
        s = part.settings
        return cls(
            encoder,
            UsualValues.from_part(part.scoped("usual")),
            part.arrays["ages.nats"],
            tuple(
                Conditional.from_part(part.scoped(f"conditional{i}")) for i in range(int(s["conditionals"]))
            ),
            tuple(Choice.from_part(part.scoped(f"choice{i}")) for i in range(int(s["choices"]))),
            tuple(
                Classifier.from_part(part.scoped(f"classifier{i}"), encoder)
                for i in range(int(s["classifiers"]))
            ),
            Grove.from_part(part.scoped("expectations")),
            Grove.from_part(part.scoped("suspicions")),
            # Bundles of schema 1 have none.
            Exposure.from_part(part.scoped("exposure")) if "exposure" in s else None,
        )
