"""``scanward study power``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import print_json, print_table, progress
from scanward.cli.study_analyse import RANDOMS, pair
from scanward.errors import InputError, SettingsError

if TYPE_CHECKING:
    from scanward.reading.mrmc.components import Components
    from scanward.reading.mrmc.decisions import Claim
    from scanward.reading.mrmc.power import Plan, Question

_OR = {"Var(R)": "reader", "Var(TR)": "treatment_reader", "Var(error)": "error"} | {
    f"Cov{number}": f"cov{number}" for number in (1, 2, 3)
}
_DBM = {
    "Var(R)": "reader",
    "Var(C)": "case",
    "Var(TR)": "treatment_reader",
    "Var(TC)": "treatment_case",
    "Var(RC)": "reader_case",
    "Var(TRC)": "rest",
}


@click.command("power", short_help="How many readers and cases a study needs.")
@click.option("--pilot", type=click.Path(path_type=Path), help="Ratings of a pilot study (as for analyse).")
@click.option("--endpoint", help="Which endpoint of the pilot.  [default: its first]")
@click.option(
    "--published", type=click.Choice(["van-dyke"]), help="Variance components of a published study."
)
@click.option(
    "--components",
    metavar="NAME=VALUE,...",
    help="Components from print: Var(R), Var(TR), Var(error), Cov1, Cov2, Cov3 (OR) or Var(R), Var(C), Var(TR), "
    "Var(TC), Var(RC), Var(TRC) (DBM, Var(TRC) with Var(error)); always positives and cases.",
)
@click.option(
    "--chance",
    metavar="SD,CORRELATION",
    help="No pilot: readers who guess; spread of their true AUCs, correlation of the errors of two readers.",
)
@click.option(
    "--claim",
    "aim",
    type=click.Choice(["superiority", "non-inferiority", "equivalence"]),
    default="superiority",
    show_default=True,
    help="What is to be shown.",
)
@click.option("--one", is_flag=True, help="Of the figure of one treatment, not of a difference of two.")
@click.option("--effect", type=float, help="The true value planned for.  [default: 0; with --one 0.5]")
@click.option(
    "--null",
    type=float,
    help="What superiority is tested against, and where a margin starts.  [default: 0; with --one 0.5]",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.05,
    show_default=True,
    help="Of non-inferiority, and of equivalence where --equivalence is not given.",
)
@click.option("--equivalence", metavar="LOW,HIGH", help="Bounds of equivalence.  [default: null +- margin]")
@click.option(
    "--readers", default="3-10", show_default=True, metavar="N|A-B", help="Numbers of readers to try."
)
@click.option(
    "--cases", type=click.IntRange(2), help="Cases: print the power.  [default: print the cases needed]"
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of positive cases.  [default: the pilot's]",
)
@click.option(
    "--random",
    "random",
    type=click.Choice(list(RANDOMS)),
    default="both",
    show_default=True,
    help="What is a sample of a population.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Two-sided for superiority, else one-sided. To be safe divide it by the number of primary endpoints.",
)
@click.option(
    "--power",
    "wanted",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Power wanted.",
)
@click.option(
    "--treatments", type=click.IntRange(2, 100), default=2, show_default=True, help="Of the planned study."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plans as JSON.")
def power_command(
    pilot: Path | None,
    endpoint: str | None,
    published: str | None,
    components: str | None,
    chance: str | None,
    aim: str,
    one: bool,
    effect: float | None,
    null: float | None,
    margin: float,
    equivalence: str | None,
    readers: str,
    cases: int | None,
    share: float | None,
    random: str,
    alpha: float,
    wanted: float,
    treatments: int,
    as_json: bool,
) -> None:
    """How many readers and cases a study needs, from the variance of a pilot, of a published study, or of guessing.

    After Hillis, Obuchowski and Berbaum (2011). "Nobody can tell" is an equivalence: the 90 % interval of the AUC must
    lie within 0.45 to 0.55, and needs its own power. docs/mrmc.md has the formulae.

    \b
    Example:
      scanward study power --published van-dyke --effect 0.05 --readers 4-10
      scanward study power --chance 0.02,0.1 --one --claim equivalence --equivalence 0.45,0.55
      scanward study power --pilot pilot.csv --claim non-inferiority --margin 0.05 --readers 6 --cases 200
    """
    from scanward.reading.mrmc import power
    from scanward.reading.mrmc.results import Random

    source = _source(pilot, endpoint, published, components, chance, one=one)
    null = (0.5 if one else 0.0) if null is None else null
    effect = null if effect is None else effect
    if not math.isfinite(effect) or not math.isfinite(null):
        raise SettingsError("a number that is not finite", "--effect, --null", "give a figure of merit")
    if aim == "superiority" and effect == null:
        raise SettingsError("no effect", "--effect", "give the true difference that the study is to find")
    claim = _claim(aim, null, margin, equivalence, alpha)
    if aim == "equivalence" and not claim.low < effect < claim.high:
        raise SettingsError(
            f"a true value of {effect:g} outside {claim.low:g} to {claim.high:g}",
            "--effect",
            "equivalence can only be planned for a true value within its bounds",
        )
    question = power.Question(
        claim=claim,
        effect=effect,
        random=Random(RANDOMS[random]),
        one=one,
        treatments=treatments,
        share=share,
    )
    rows: list[tuple[int, Plan | None]] = []
    numbers = _numbers(readers)
    with progress("planning", total=len(numbers)) as step:
        for count in numbers:
            if cases is None:
                rows.append((count, power.cases_needed(source, question, count, wanted)))
            else:
                rows.append((count, power.planned(source, question, count, cases)))
            step()
    if as_json:
        print_json(_as_json(source, question, wanted, rows))
    else:
        _print(source, question, wanted, rows, given=cases)


def _claim(aim: str, null: float, margin: float, equivalence: str | None, alpha: float) -> Claim:
    from scanward.reading.mrmc import decisions

    if aim == "superiority":
        return decisions.superiority(null, alpha)
    if aim == "non-inferiority":
        return decisions.non_inferiority(margin, null, alpha)
    low, high = pair("--equivalence", equivalence) if equivalence else (null - margin, null + margin)
    return decisions.equivalence(low, high, alpha)


def _numbers(text: str) -> range:
    from scanward.config import MRMC_BOUNDS

    low, dash, high = text.partition("-")
    try:
        first, last = int(low), int(high if dash else low)
    except ValueError:
        first, last = 0, 0
    if not 1 <= first <= last <= MRMC_BOUNDS.plan_readers or last - first >= 100:
        raise SettingsError(
            f"{text[:40]!r}", "--readers", "give a number, or a range of at most 100 such as 3-10"
        )
    return range(first, last + 1)


def _source(
    pilot: Path | None,
    endpoint: str | None,
    published: str | None,
    components: str | None,
    chance: str | None,
    *,
    one: bool,
) -> Components:
    """The variance components, from the one place that was given."""
    from scanward.reading.mrmc.components import PUBLISHED, at_chance

    if sum(given is not None for given in (pilot, published, components, chance)) != 1:
        raise SettingsError(
            "where does the variance come from?",
            "--pilot, --published, --components, --chance",
            "give one of them",
        )
    if pilot is not None:
        return _of_pilot(pilot, endpoint, one=one)
    if published is not None:
        return PUBLISHED[published]
    if components is not None:
        return _of_text(components)
    try:
        spread, correlation = (float(part) for part in str(chance).split(","))
    except ValueError:
        raise SettingsError(
            f"{str(chance)[:40]!r}", "--chance", "give two numbers, such as 0.02,0.1"
        ) from None
    return at_chance(reader_sd=spread, correlation=correlation, positives=100, negatives=100)


def _of_pilot(path: Path, name: str | None, *, one: bool) -> Components:
    import numpy as np

    from scanward.reading.endpoints import endpoints, is_simulated
    from scanward.reading.findings import SIMULATED
    from scanward.reading.mrmc.components import from_analysis, from_single, part_of_positives
    from scanward.reading.mrmc.covariances import estimate
    from scanward.reading.mrmc.designs import FACTORIAL, design_of
    from scanward.reading.mrmc.empirical import EmpiricalAUC
    from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
    from scanward.reading.mrmc.table import read_table

    table = read_table(path)
    found, _ = endpoints(table)
    chosen = next((it for it in found if name in (None, it.name)), None)
    if chosen is None:
        raise InputError(
            f"no endpoint '{name}'", str(path), f"there are {'; '.join(it.name for it in found)}"
        )
    ratings = chosen.ratings
    estimates = estimate(ratings, EmpiricalAUC())
    design = design_of(ratings)
    analysis = obuchowski_rockette(estimates, design=design)
    mean = float(estimates.value.mean())
    auc = min(max(mean, 0.01), 0.99) if math.isfinite(mean) else 0.5
    # What one reader read under one treatment: the error variance is that of so many cases, not of all there are.
    read = ~np.isnan(ratings.score)
    positives = round(float((read & ratings.truth).sum(axis=-1).mean()))
    cases = round(float(read.sum(axis=-1).mean()))
    part = part_of_positives(ratings)
    if one and len(ratings.treatments) == 1:
        name = ratings.treatments[0]
        source = from_single(analysis, name, positives=positives, cases=cases, auc=auc, of_positives=part)
    else:
        source = from_analysis(analysis, positives=positives, cases=cases, auc=auc, of_positives=part)
    if design != FACTORIAL:
        source = replace(source, source=f"{source.source}; {design}: the plan is for a study of that kind")
    if is_simulated(table):
        source = replace(source, source=f"{SIMULATED}; {source.source}")
    return source


def _of_text(text: str) -> Components:
    from scanward.reading.mrmc.components import Components, from_dbm

    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            values[name.strip()] = float(number)
        except ValueError:
            raise SettingsError(
                f"{part[:40]!r}", "--components", "give NAME=NUMBER, separated by commas"
            ) from None
    size = {name: values.pop(name) for name in ("positives", "cases", "auc") if name in values}
    if {"positives", "cases"} <= set(size):
        for names, make in ((_OR, Components), (_DBM, from_dbm)):
            if set(values) == set(names):
                return make(
                    **{names[name]: value for name, value in values.items()}, **size, source="as given"
                )
    raise SettingsError(
        f"components {', '.join(values)[:200]}",
        "--components",
        f"give positives, cases (of the study they come from) and either {', '.join(_OR)} or {', '.join(_DBM)}",
    )


def _print(
    source: Components,
    question: Question,
    wanted: float,
    rows: list[tuple[int, Plan | None]],
    given: int | None,
) -> None:
    claim = question.claim
    share = source.share if question.share is None else question.share
    what = "one treatment" if question.one else "a difference"
    bounds = f"not {claim.low:g}" if claim.low == claim.high else f"{claim.low:g} to {claim.high:g}"
    sides = "two-sided" if claim.low == claim.high else "one-sided"
    cells: list[tuple[object, ...]] = []
    for readers, plan in rows:
        if plan is None:
            cells.append((readers, "none is enough", None, None, None, None, None))
        else:
            positives = round(plan.cases * share)
            readings = readers * plan.cases * (1 if question.one else question.treatments)
            df = "inf" if math.isinf(plan.df) else round(plan.df, 2)
            cells.append((readers, plan.cases, positives, readings, plan.se, df, round(plan.power, 4)))
    head = "power" if given is not None else f"fewest cases for a power of {wanted:g}"
    print_table(
        ("readers", "cases", "positives", "readings", "s.e.", "df", "power"),
        cells,
        title=f"{head}: {claim.aim} of {what} ({bounds}), true value {question.effect:g}, "
        f"{question.random} random, alpha {claim.alpha:g} {sides}",
        caption=f"variance: {source.source}. Readings: of all readers under all treatments.",
    )


def _as_json(
    source: Components, question: Question, wanted: float, rows: list[tuple[int, Plan | None]]
) -> dict[str, object]:
    return {
        "format": "scanward-plan-1",
        "components": source,
        "claim": question.claim,
        "effect": question.effect,
        "one_treatment": question.one,
        "random": question.random,
        "treatments": question.treatments,
        "share": source.share if question.share is None else question.share,
        "power_wanted": wanted,
        "plans": [{"readers": readers, "plan": plan} for readers, plan in rows],
    }
