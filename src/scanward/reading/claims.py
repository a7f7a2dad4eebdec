"""What a study set out to show, as claims on estimates of its endpoints.

The question lesion is about the difference modified - genuine: superiority means that it is not 0, non-inferiority that
it is above -margin, equivalence that it lies between ``low`` and ``high`` where 0 is between them, else within +-margin
(a hypothesis's defaults, 0.45 to 0.55, are about one AUC). Any other question is about the figure of one arm: different
from ``null``, above ``null`` - margin, between ``low`` and ``high``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scanward.errors import InputError
from scanward.reading.endpoints import GENUINE, MODIFIED, Endpoint
from scanward.reading.mrmc import decisions
from scanward.reading.mrmc.decisions import Aim, Claim
from scanward.reading.mrmc.results import Analysis, Interval
from scanward.reading.protocol import Hypothesis


@dataclass(frozen=True)
class ClaimOn:
    """A claim on one estimate: of ``treatment``, or, where ``reference`` is named, of treatment - reference."""

    endpoint: str
    treatment: str
    reference: str
    claim: Claim


def published(found: Sequence[Endpoint]) -> tuple[Hypothesis, ...]:
    """The two endpoints of the published study in every arm: the area falls, and nobody can tell (0.45 to 0.55)."""
    lesions = [one.arm for one in found if one.question == "lesion" and not one.part]
    arms = [arm for one in found if one.question == "manipulation" for arm in one.ratings.treatments]
    return (
        *(Hypothesis(question="lesion", aim="superiority", arm=arm) for arm in lesions),
        *(Hypothesis(question="manipulation", aim="equivalence", arm=arm) for arm in arms),
    )


def of_study(
    hypotheses: Iterable[Hypothesis], found: Sequence[Endpoint], alpha: float, arms: Sequence[str] = ()
) -> tuple[tuple[ClaimOn, ...], tuple[str, ...], int]:
    """The claims of a protocol's hypotheses; those that the table has nothing of, in words; how many are primary.

    A hypothesis without an arm holds for every arm, each a claim of its own: of those of the table, and, where ``arms``
    (the design's) are given, also of those that the table has nothing of, so that leaving an arm out of the table or
    of the analysis makes the others no easier to show.
    """
    claims: list[ClaimOn] = []
    missing: list[str] = []
    gone = 0
    for one in hypotheses:
        claimed: set[str] = set()
        for endpoint in found:
            if endpoint.question != one.question or endpoint.part:
                continue
            if one.question == "lesion":
                both = {GENUINE, MODIFIED} <= set(endpoint.ratings.treatments)
                if both and one.arm in ("", endpoint.arm):
                    claims.append(ClaimOn(endpoint.name, MODIFIED, GENUINE, _of_difference(one, alpha)))
                    claimed.add(endpoint.arm)
            else:
                these = [arm for arm in endpoint.ratings.treatments if one.arm in ("", arm)]
                claims += [ClaimOn(endpoint.name, arm, "", _of_one(one, alpha)) for arm in these]
                claimed.update(these)
        wanted = [one.arm] if one.arm else list(arms)
        absent = [arm for arm in wanted if arm not in claimed]
        if not wanted and not claimed:
            absent = ["every arm"]
        gone += one.primary * len(absent)
        missing += [f"hypothesis '{one.question}, {arm}': the table has nothing of it" for arm in absent]
    return tuple(claims), tuple(missing), gone


def of_options(
    found: Sequence[Endpoint],
    alpha: float,
    *,
    equivalence: tuple[float, float] | None = None,
    margin: float | None = None,
) -> tuple[ClaimOn, ...]:
    """Claims asked for on the command line.

    ``equivalence`` (low, high) is about differences where 0 lies between the two, else about single treatments.
    ``margin``: no treatment is worse than the first (of the question lesion: modified than genuine) by more. Of an
    export, differences are asked of the question lesion and single treatments of the others; parts are left out.
    """
    claims: list[ClaimOn] = []
    for endpoint in found:
        if endpoint.part:
            continue
        names = endpoint.ratings.treatments
        # Of the lesion question the reference is what was not modified, in whatever order treatments were chosen.
        reference = GENUINE if endpoint.question == "lesion" and GENUINE in names else names[0]
        others = [name for name in names if name != reference]
        differences = [(name, reference) for name in others] if endpoint.question in ("", "lesion") else []
        singles = [name for name in names if endpoint.question != "lesion"]
        if equivalence is not None:
            claim = decisions.equivalence(*equivalence, alpha)
            if claim.low < 0 < claim.high:
                claims += [ClaimOn(endpoint.name, a, b, claim) for a, b in differences]
            else:
                claims += [ClaimOn(endpoint.name, name, "", claim) for name in singles]
        if margin is not None:
            claim = decisions.non_inferiority(margin, alpha=alpha)
            claims += [ClaimOn(endpoint.name, a, b, claim) for a, b in differences]
    return tuple(claims)


def estimate_of(claim: ClaimOn, analysis: Analysis) -> Interval | None:
    """The interval of an analysis that a claim is about; None where the analysis has none."""
    if not claim.reference:
        return next((one for one in analysis.treatments if one.of == claim.treatment), None)
    for one in analysis.differences:
        if one.of == f"{claim.treatment} - {claim.reference}":
            return one
        if one.of == f"{claim.reference} - {claim.treatment}":
            return replace(
                one,
                of=f"{claim.treatment} - {claim.reference}",
                estimate=-one.estimate,
                low=-one.high,
                high=-one.low,
            )
    return None


def _of_difference(one: Hypothesis, alpha: float) -> Claim:
    aim = _aim(one)
    if aim is Aim.SUPERIORITY:
        return decisions.superiority(0.0, alpha, primary=one.primary)
    if aim is Aim.NON_INFERIORITY:
        return decisions.non_inferiority(one.margin, 0.0, alpha, primary=one.primary)
    low, high = (one.low, one.high) if one.low < 0 < one.high else (-one.margin, one.margin)
    return decisions.equivalence(low, high, alpha, primary=one.primary)


def _of_one(one: Hypothesis, alpha: float) -> Claim:
    aim = _aim(one)
    if aim is Aim.SUPERIORITY:
        return decisions.superiority(one.null, alpha, primary=one.primary)
    if aim is Aim.NON_INFERIORITY:
        return decisions.non_inferiority(one.margin, one.null, alpha, primary=one.primary)
    return decisions.equivalence(one.low, one.high, alpha, primary=one.primary)


def _aim(one: Hypothesis) -> Aim:
    try:
        return Aim(one.aim)
    except ValueError:
        raise InputError(f"aim {one.aim[:40]!r}", "hypothesis", f"there are {', '.join(Aim)}") from None
