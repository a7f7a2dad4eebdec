"""What a study of this size can show: power of every hypothesis, and what it would need for the power asked for.

Lesion question: variance components of a published study or of a pilot, scaled to the study's cases; the effect is the
true change of the area, modified - genuine. Manipulation question: one area an arm; the variance is that of readers who
guess, which is the largest there is (an area farther from 0.5 is estimated with less). Pictures are counted as
independent, though two of them are twins: that makes the power a little too low rather than too high.

The primary hypotheses are planned at alpha / their number, what Holm asks of the first of them: the family's power is
at least that of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc import decisions
from scanward.reading.mrmc.components import PUBLISHED, Components, at_chance
from scanward.reading.mrmc.power import Plan, Question, cases_needed, planned, readers_needed
from scanward.reading.mrmc.results import Random
from scanward.reading.planning import View
from scanward.reading.protocol import Design, Hypothesis, Pathology

LESION_EFFECT = -0.1  # change of the area that is worth knowing; the published study found -0.43 and 0.06
MANIPULATION_EFFECT = 0.1  # above chance


@dataclass(frozen=True)
class Planned:
    """One hypothesis in one arm. ``more_cases``, ``more_readers``: what reaches ``wanted``; None: nothing does."""

    name: str
    effect: float
    alpha: float
    wanted: float
    achieved: Plan
    more_cases: int | None
    more_readers: int | None
    source: str

    @property
    def enough(self) -> bool:
        """Whether the study has the power asked for."""
        return self.achieved.power >= self.wanted


def sample_size(design: Design, views: Sequence[View]) -> list[Planned]:
    """Power of each hypothesis with the readers and pictures that the study has.

    Raises
    ------
    SettingsError
        Variance components that are not known or make no sense.
    """
    primary = sum(len(_arms(design, one)) for one in design.hypotheses if one.primary)
    found = []
    for hypothesis in design.hypotheses:
        for arm in _arms(design, hypothesis):
            counts = _counts(views, arm, hypothesis.question)
            if min(counts) < 1:
                raise InputError(
                    "only one kind of pictures, so that no area can be estimated",
                    f"hypothesis {hypothesis.question} {hypothesis.aim}, arm {arm}",
                    "bring women with and without cancer, originals and modified twins",
                )
            alpha = design.alpha / primary if hypothesis.primary else design.alpha
            found.append(_planned(design, hypothesis, arm, counts, alpha))
    return found


def as_mapping(plans: Sequence[Planned]) -> dict[str, float | str]:
    """What stands in the protocol, flat: "lesion superiority, low: power" and so on."""
    found: dict[str, float | str] = {}
    for plan in plans:
        achieved = plan.achieved
        values: Mapping[str, float | str | None] = {
            "effect": plan.effect,
            "alpha": plan.alpha,
            "readers": float(achieved.readers),
            "cases": float(achieved.cases),
            "se": achieved.se,
            "df": str(achieved.df) if achieved.df == float("inf") else achieved.df,
            "power": achieved.power,
            "power wanted": plan.wanted,
            "cases needed": "none is enough" if plan.more_cases is None else float(plan.more_cases),
            "readers needed": "none is enough" if plan.more_readers is None else float(plan.more_readers),
            "variance": plan.source,
        }
        found |= {f"{plan.name}: {key}": value for key, value in values.items() if value is not None}
    return found


def _arms(design: Design, hypothesis: Hypothesis) -> list[str]:
    return [hypothesis.arm] if hypothesis.arm else [arm.name for arm in design.arms]


def _counts(views: Sequence[View], arm: str, question: str) -> tuple[int, int]:
    """Positives and negatives of one treatment."""
    here = [view for view in views if view.arm == arm]
    if question == "manipulation":
        modified = sum(view.modified for view in here)
        return modified, len(here) - modified
    counts = [
        (
            sum(v.modified is version and v.case.pathology is Pathology.CANCER for v in here),
            sum(v.modified is version and v.case.pathology is not Pathology.CANCER for v in here),
        )
        for version in (False, True)
    ]
    return min(counts)  # unpaired, the two treatments may differ by one


def _planned(
    design: Design, hypothesis: Hypothesis, arm: str, counts: tuple[int, int], alpha: float
) -> Planned:
    positives, negatives = counts
    one = hypothesis.question == "manipulation"
    components = (
        at_chance(
            reader_sd=design.planning.reader_sd,
            correlation=design.planning.correlation,
            positives=positives,
            negatives=negatives,
        )
        if one
        else lesion_components(design)
    )
    if not one and design.pairing != "paired":
        components = replace(components, cov1=0.0, cov3=0.0)  # other women in the other treatment
    random = Random(design.planning.random) if design.readers > 1 else Random.CASES
    cases = positives + negatives
    effect = _effect(hypothesis) if hypothesis.effect is None else hypothesis.effect
    question = Question(
        claim=_claim(hypothesis, alpha), effect=effect, random=random, one=one, share=positives / cases
    )
    achieved = planned(components, question, design.readers, cases)
    more = cases_needed(components, question, design.readers, design.power)
    readers = readers_needed(components, question, cases, design.power)
    return Planned(
        name=f"{hypothesis.question} {hypothesis.aim}, {arm}",
        effect=effect,
        alpha=alpha,
        wanted=design.power,
        achieved=achieved,
        more_cases=None if more is None else more.cases,
        more_readers=None if readers is None else readers.readers,
        source=components.source,
    )


def lesion_components(design: Design) -> Components:
    """Variance components of the lesion question.

    Raises
    ------
    SettingsError
        An unknown name, or numbers that are no components.
    """
    planning = design.planning
    if not planning.components:
        if planning.published not in PUBLISHED:
            raise SettingsError(
                f"no published components '{planning.published[:40]}'",
                "planning.published",
                f"use one of: {', '.join(PUBLISHED)}",
            )
        return PUBLISHED[planning.published]
    known = {field.name for field in fields(Components)} - {"source"}
    needed = known - {"auc", "of_positives"}
    given = set(planning.components)
    if not needed <= given <= known:
        wrong = sorted((given - known) | (needed - given))
        raise SettingsError(
            f"components: {', '.join(wrong)} missing or unknown",
            "planning.components",
            f"give {', '.join(sorted(needed))} (and auc)",
        )
    try:
        return Components(**planning.components, source="given in the design")
    except InputError as error:
        raise SettingsError(error.what, "planning.components", error.todo) from error


def _claim(hypothesis: Hypothesis, alpha: float) -> decisions.Claim:
    """As `scanward.reading.claims` will put it to the ratings."""
    lesion = hypothesis.question == "lesion"
    null = 0.0 if lesion else hypothesis.null
    if hypothesis.aim == "equivalence":
        low, high = _bounds(hypothesis)
        return decisions.equivalence(low, high, alpha)
    if hypothesis.aim == "non-inferiority":
        return decisions.non_inferiority(hypothesis.margin, null, alpha)
    return decisions.superiority(null, alpha)


def _bounds(hypothesis: Hypothesis) -> tuple[float, float]:
    if hypothesis.question == "lesion" and not hypothesis.low < 0 < hypothesis.high:
        return -hypothesis.margin, hypothesis.margin
    return hypothesis.low, hypothesis.high


def _effect(hypothesis: Hypothesis) -> float:
    """The true value planned for where the design names none."""
    lesion = hypothesis.question == "lesion"
    if hypothesis.aim == "equivalence":
        return sum(_bounds(hypothesis)) / 2
    null = 0.0 if lesion else hypothesis.null
    if hypothesis.aim == "non-inferiority":
        return null
    return null + (LESION_EFFECT if lesion else MANIPULATION_EFFECT)
