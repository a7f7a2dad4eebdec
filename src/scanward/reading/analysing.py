"""From a table of ratings to everything that is said of it: every method by what is random, claims, warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from scanward import __version__
from scanward.config import MRMC_BOUNDS
from scanward.errors import InputError, SettingsError
from scanward.reading.claims import ClaimOn, estimate_of, of_options, of_study, published
from scanward.reading.endpoints import Endpoint, endpoints, is_export, is_simulated
from scanward.reading.findings import SIMULATED, Absent, Cell, Finding, Measured, Result
from scanward.reading.merits import merit_of
from scanward.reading.mrmc.binormal import BinormalAUC
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.dbm import dbm
from scanward.reading.mrmc.decisions import Aim, Decision, corrected, decide
from scanward.reading.mrmc.designs import design_of
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Covariance, Estimates, Random
from scanward.reading.mrmc.table import Table
from scanward.reading.mrmc.ustatistics import one_shot
from scanward.reading.protocol import Design

__all__ = ["METHODS", "SIMULATED", "Absent", "Cell", "Finding", "Measured", "Request", "Result", "analyse"]

METHODS = ("OR", "DBM", "U")
COVARIANCES = (Covariance.JACKKNIFE, Covariance.DELONG, Covariance.UNBIASED)
RANDOMS = (Random.BOTH, Random.CASES, Random.READERS)
SCALE = (
    20  # points of a scale of ratings; binormal curves of more are fitted when asked for: each takes seconds
)
Step = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is analysed, and how. The first of each list is what claims rest on, where it can be had.

    ``merits``: names of `merits.merit_of`; none: empirical, and binormal where the ratings are a scale of at most
    `SCALE` points. ``treatments``: those to analyse, in this order; None for all. ``equivalence`` and ``margin`` are
    claims of their own and replace the protocol's.
    """

    methods: tuple[str, ...] = METHODS
    covariances: tuple[Covariance, ...] = COVARIANCES
    randoms: tuple[Random, ...] = RANDOMS
    merits: tuple[str, ...] = ()
    level: float = 0.95
    alpha: float = 0.05
    treatments: tuple[str, ...] | None = None
    equivalence: tuple[float, float] | None = None
    margin: float | None = None


def analyse(
    table: Table, request: Request | None = None, *, design: Design | None = None, step: Step | None = None
) -> Result:
    """Everything the ratings of one file give.

    Parameters
    ----------
    table : Table
        Of a study's export, or any other.
    design : Design, optional
        The study's, frozen before reading: its hypotheses and its alpha are what is decided.
    step : callable, optional
        Told what comes next, before each piece of work (there are `pieces`).

    Raises
    ------
    InputError
        No endpoint has positive and negative cases; a treatment that is not there; what `endpoints` refuses.
    SettingsError
        A method, figure of merit or level that is none.
    """
    request = _checked(request or Request())
    merits = [merit_of(name) for name in _merits(table, request)]
    found, remarks = endpoints(table)
    found = tuple(_selected(one, request, alone=not is_export(table)) for one in found)
    if not any(_both_kinds(one.ratings) for one in found):
        raise InputError(*_one_kind(found[0].ratings, table.source))
    findings = tuple(_finding(one, merits, request, step or _silent) for one in found)
    claims, missing, gone = _claims(found, request, design, export=is_export(table))
    decisions = tuple(_decided(claims, findings))
    untested = gone + sum(one.claim.primary for one in claims) - sum(one.primary for one in decisions)
    warnings = [*remarks, *missing, *_undecided(claims, decisions), *_against(design, table, request)]
    if table.unread:
        warnings.append(f"{table.unread} rows without a rating were left out")
    simulated = is_simulated(table) or (design is not None and design.simulated)
    return Result(
        source=table.source,
        sha256=table.sha256,
        title=design.title if design else "",
        simulated=simulated,
        version=__version__,
        level=request.level,
        findings=findings,
        decisions=corrected(decisions, untested=untested),
        decided_by="; ".join(dict.fromkeys(one.by for one in decisions)),
        warnings=tuple(warnings),
    )


def pieces(table: Table, request: Request) -> int:
    """How many pieces of work `analyse` tells of."""
    return len(endpoints(table)[0]) * len(_merits(table, request))


def _merits(table: Table, request: Request) -> tuple[str, ...]:
    if request.merits:
        return request.merits
    return ("empirical", "binormal") if len(set(table.columns["rating"])) <= SCALE else ("empirical",)


def _checked(request: Request) -> Request:
    for what, given, known in (
        ("method", request.methods, METHODS),
        ("covariance", request.covariances, tuple(Covariance)),
        ("random", request.randoms, RANDOMS),
    ):
        if not given:
            raise SettingsError(f"no {what}", what, f"there are {', '.join(known)}")
        for name in given:
            if name not in known:
                raise SettingsError(f"no {what} '{name}'", what, f"there are {', '.join(known)}")
    if len(request.merits) > MRMC_BOUNDS.merits:
        raise SettingsError(
            f"{len(request.merits)} figures of merit", "merit", f"give at most {MRMC_BOUNDS.merits}"
        )
    if not 0 < request.level < 1:
        raise SettingsError(f"level {request.level}", "level", "give a number between 0 and 1, such as 0.95")
    if not 0 < request.alpha < 0.5:
        raise SettingsError(f"alpha {request.alpha}", "alpha", "give a number above 0 and below 0.5")
    return request


def _silent(_: str) -> None:
    """Where nobody wants to know."""


def _selected(endpoint: Endpoint, request: Request, *, alone: bool) -> Endpoint:
    """The endpoint with the chosen treatments only. Of an export, an endpoint that has none of them stays whole."""
    chosen = request.treatments
    if chosen is None:
        return endpoint
    if not alone:
        chosen = tuple(name for name in chosen if name in endpoint.ratings.treatments)
        if not chosen:
            return endpoint
    return Endpoint(
        endpoint.name,
        endpoint.question,
        endpoint.arm,
        endpoint.part,
        endpoint.ratings.select(treatments=chosen),
        endpoint.positive,
    )


def _both_kinds(ratings: Ratings) -> bool:
    return bool(ratings.truth.any()) and not bool(ratings.truth.all())


def _one_kind(ratings: Ratings, source: str) -> tuple[str, str, str]:
    missing, there = ("negative", "positive") if ratings.truth.any() else ("positive", "negative")
    return (
        f"no {missing} cases among {len(ratings.cases)}",
        source,
        f"figures of merit compare {there} with {missing} cases: check the column truth",
    )


# --- one endpoint


def _finding(endpoint: Endpoint, merits: Sequence[Merit], request: Request, step: Step) -> Finding:
    ratings = endpoint.ratings
    if not _both_kinds(ratings):
        what, _, todo = _one_kind(ratings, "")
        return Finding(endpoint, (), (f"{what}: {todo}",))
    measured = []
    warnings = list(_warnings(ratings))
    for merit in merits:
        step(f"{endpoint.name}: {merit.name}")
        measured.append(_measured(ratings, merit, request))
        if isinstance(merit, BinormalAUC):
            warnings += merit.doubts(ratings)
    return Finding(endpoint, tuple(measured), tuple(warnings))


def _warnings(ratings: Ratings) -> Iterator[str]:
    if len(ratings.readers) == 1:
        yield "one reader: nothing can be said of a population of readers"
    if len(ratings.treatments) == 1:
        yield "one treatment: there is nothing to compare it with"
    if not ratings.fully_crossed:
        read = int((~np.isnan(ratings.score)).sum())
        yield f"{design_of(ratings)}: {read} of {ratings.score.size} possible ratings are there"
    if ratings.clustered:
        yield f"{len(ratings.cases)} cases of {len(ratings.patients)} patients: patients are what is resampled"


def _measured(ratings: Ratings, merit: Merit, request: Request) -> Measured:
    analyses: list[Analysis] = []
    absent: list[Absent] = []
    estimates: dict[Covariance, Estimates] = {}
    for covariance in request.covariances:
        try:
            estimates[covariance] = estimate(ratings, merit, covariance)
        except (InputError, SettingsError) as error:
            absent.append(Absent("OR", covariance, "", str(error)))

    def attempt(method: str, covariance: str, random: Random, run: Callable[[], Analysis]) -> None:
        try:
            analyses.append(run())
        except (InputError, SettingsError) as error:
            absent.append(Absent(method, covariance, random, str(error)))

    for method in request.methods:
        if method == "U" and not isinstance(merit, EmpiricalAUC):
            absent.append(
                Absent("U", "", "", f"the one-shot U-statistic is of the empirical AUC, not {merit.name}")
            )
        elif method == "U" and Random.BOTH not in request.randoms and len(ratings.readers) > 1:
            absent.append(Absent("U", "", "", "the one-shot U-statistic takes readers and cases as random"))
        elif method == "U":
            attempt("U", "", Random.BOTH, partial(one_shot, ratings, level=request.level))
        elif method == "DBM":
            for random in request.randoms:
                attempt(
                    "DBM", Covariance.JACKKNIFE, random, partial(dbm, ratings, merit, random, request.level)
                )
        else:
            design = design_of(ratings)
            for random in request.randoms:
                for covariance, one in estimates.items():
                    run = partial(obuchowski_rockette, one, random, level=request.level, design=design)
                    attempt("OR", covariance, random, run)
    return Measured(
        merit.name, merit.chance, tuple(_cells(ratings, merit, estimates)), tuple(analyses), tuple(absent)
    )


def _cells(ratings: Ratings, merit: Merit, estimates: dict[Covariance, Estimates]) -> Iterator[Cell]:
    first = next(iter(estimates.values()), None)
    value = first.value if first is not None else merit.values(ratings)
    read = ~np.isnan(ratings.score)
    for t, treatment in enumerate(ratings.treatments):
        for r, reader in enumerate(ratings.readers):
            variance = float(first.covariance[t, r, t, r]) if first is not None else math.nan
            yield Cell(
                treatment=treatment,
                reader=reader,
                positives=int((read[t, r] & ratings.truth).sum()),
                negatives=int((read[t, r] & ~ratings.truth).sum()),
                value=float(value[t, r]),
                se=math.sqrt(variance) if variance >= 0 else math.nan,
            )


# --- claims


def _claims(
    found: Sequence[Endpoint], request: Request, design: Design | None, *, export: bool
) -> tuple[tuple[ClaimOn, ...], tuple[str, ...], int]:
    """The claims, what is to be said of them, and how many primary hypotheses the table has nothing of."""
    if request.equivalence is not None or request.margin is not None:
        claims = of_options(found, request.alpha, equivalence=request.equivalence, margin=request.margin)
        return claims, () if claims else ("what was to be shown fits no endpoint of this table",), 0
    if design is not None and design.hypotheses:
        return of_study(design.hypotheses, found, design.alpha, [arm.name for arm in design.arms])
    if export:
        alpha = design.alpha if design else request.alpha
        claims, missing, gone = of_study(published(found), found, alpha)
        note = "no hypotheses were fixed before reading: those of the published study are tested"
        return claims, (note, *missing) if claims else missing, gone
    return (), (), 0


def _decided(claims: Sequence[ClaimOn], findings: Sequence[Finding]) -> Iterator[Decision]:
    """Every claim by the first analysis (of the first figure of merit) that can test it.

    One without spread cannot: where every reader is right, or rates all cases alike, nothing was measured of how far
    other cases would move the figure. One with the cases fixed is not fallen back on: it speaks of these cases alone.
    """
    for claim in claims:
        finding = next(one for one in findings if one.endpoint.name == claim.endpoint)
        analyses = finding.measured[0].analyses if finding.measured else ()
        for analysis in analyses:
            interval = estimate_of(claim, analysis)
            fallen = analysis.random is Random.READERS and analyses[0].random is not Random.READERS
            if interval is not None and interval.se > 0 and not fallen:
                decided = [decide(interval, claim.claim, endpoint=claim.endpoint, by=_words(analysis))]
                if claim.claim.aim is Aim.EQUIVALENCE:
                    decided += _of_these_readers(claim, analysis, analyses)
                yield max(decided, key=lambda one: math.inf if math.isnan(one.p) else one.p)
                break


def _of_these_readers(claim: ClaimOn, first: Analysis, analyses: Sequence[Analysis]) -> Iterator[Decision]:
    """The same claim of these very readers, where the first analysis speaks of readers in general.

    Few readers who happen to agree give a variance of readers below zero, which counts as none, and then the interval
    that speaks of all readers can be *narrower* than that of the ones who read. What holds of readers in general holds
    of these; so an equivalence must be shown of both (an intersection-union test, of level alpha: Berger,
    Technometrics 1982;24:295-300).
    """
    if first.random is not Random.BOTH:
        return
    for analysis in analyses:
        same = (analysis.method, analysis.covariance) == (first.method, first.covariance)
        if same and analysis.random is Random.CASES:
            interval = estimate_of(claim, analysis)
            if interval is not None and not math.isnan(interval.se):
                yield decide(interval, claim.claim, endpoint=claim.endpoint, by=_words(analysis))


def _undecided(claims: Sequence[ClaimOn], decisions: Sequence[Decision]) -> Iterator[str]:
    decided = {(one.endpoint, one.of, one.aim) for one in decisions}
    for claim in claims:
        of = f"{claim.treatment} - {claim.reference}" if claim.reference else claim.treatment
        if (claim.endpoint, of, claim.claim.aim) not in decided:
            yield f"{claim.claim.aim} of {of} ({claim.endpoint}) was not decided: no analysis can test it"
    for one in decisions:
        if math.isnan(one.p):
            yield f"{one.aim} of {one.of} ({one.endpoint}) could not be tested: no degrees of freedom"
    if len({one.by for one in decisions}) > 1:
        yield "not all claims rest on the same analysis: where the first cannot test a claim, the next one does"
    if any(f", {Random.READERS} random" in one.by for one in decisions):
        yield "cases fixed: what is shown is shown of these cases, not of others"
    if any(f", {Random.CASES} random" in one.by for one in decisions if one.aim is not Aim.EQUIVALENCE):
        yield "readers fixed: what is shown is shown of these readers, not of others"
    if any(f", {Random.CASES} random" in one.by for one in decisions if one.aim is Aim.EQUIVALENCE):
        yield "an equivalence was decided with readers fixed: that interval is the wider one, or the only one there is"


def _against(design: Design | None, table: Table, request: Request) -> Iterator[str]:
    """What differs from the frozen design: readers without ratings, another analysis than the usual one."""
    if design is None:
        return
    readers = len(set(table.columns["reader"]))
    if readers < design.readers:
        yield f"{readers} of the {design.readers} readers of the design have ratings"
    usual, merits = Request(), request.merits[:1] or ("empirical",)
    first = (request.methods[0], request.covariances[0], request.randoms[0], *merits)
    if first != (usual.methods[0], usual.covariances[0], usual.randoms[0], "empirical"):
        yield "the analysis that claims rest on was chosen now: the protocol fixes hypotheses and alpha, not that"


def _words(analysis: Analysis) -> str:
    return f"{analysis.method}, {analysis.covariance}, {analysis.random} random, {analysis.merit}"
