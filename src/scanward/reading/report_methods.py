"""The methods paragraph of a report: what was done, in the words of a paper, with its sources. Only what was used."""

from __future__ import annotations

from collections.abc import Iterator

from scanward.reading.findings import Result
from scanward.reading.mrmc.decisions import Aim
from scanward.reading.mrmc.results import Analysis, Covariance, Random

_METHODS = {
    "OR": (
        "OR: analysis of variance of the readers' figures of merit with correlated errors (Obuchowski and Rockette "
        "1995, doi:10.1080/03610919508813243), with the degrees of freedom of Hillis (2007, doi:10.1002/sim.2532) and, "
        "where cases are nested or only partly shared, the designs of Hillis (2014, doi:10.1002/sim.5926)."
    ),
    "DBM": (
        "DBM: analysis of variance of jackknife pseudovalues (Dorfman, Berbaum and Metz 1992, "
        "doi:10.1097/00004424-199209000-00015) as revised by Hillis, Berbaum and Metz (2008, "
        "doi:10.1016/j.acra.2007.12.015)."
    ),
    "U": (
        "U: one-shot U-statistic estimate of the variance from its moments (Gallas 2006, "
        "doi:10.1016/j.acra.2005.11.030; Gallas, Bandos, Samuelson and Wagner 2009, doi:10.1080/03610920802610084)."
    ),
}
_COVARIANCES = {
    Covariance.JACKKNIFE: "jackknife covariances leave out one patient at a time",
    Covariance.DELONG: (
        "DeLong covariances come from structural components (DeLong, DeLong and Clarke-Pearson 1988, "
        "doi:10.2307/2531595; several cases a patient: Obuchowski 1997, doi:10.2307/2533958)"
    ),
    Covariance.UNBIASED: "unbiased covariances are U-statistics (Gallas 2006)",
    Covariance.BOOTSTRAP: "bootstrap covariances resample patients",
}
_RANDOMS = {
    Random.BOTH: "readers and cases random: speaks of readers and cases like these",
    Random.CASES: "cases random: speaks of these readers with cases like these",
    Random.READERS: "readers random: speaks of readers like these with these cases",
}
_MERITS = {
    "empirical AUC": (
        "The empirical AUC is the probability that a positive case is rated higher than a negative one, ties counting "
        "one half (Bamber 1975, doi:10.1016/0022-2496(75)90001-2)."
    ),
    "empirical partial": (
        "The empirical partial AUC is the area under the corners of the empirical curve, joined by straight lines, "
        "over a range (McClish 1989, doi:10.1177/0272989X8900900307)."
    ),
    "binormal": (
        "Binormal curves TPR = Phi(a + b Phi^-1(FPR)) are fitted by maximum likelihood (Dorfman and Alf 1969, "
        "doi:10.1016/0022-2496(69)90019-4; continuous ratings by their truth-state runs, Metz, Herman and Shen 1998, "
        "Stat Med 17:1033-1053); data without a maximum take the limiting curve, which is said beside the figure."
    ),
    "sensitivity": "Sensitivity is the share of positive cases rated at the cut or higher.",
    "specificity": "Specificity is the share of negative cases rated below the cut.",
}
_AIMS = {
    Aim.SUPERIORITY: "superiority by a two-sided test",
    Aim.NON_INFERIORITY: "non-inferiority by a one-sided test against the margin",
    Aim.EQUIVALENCE: (
        "equivalence by two one-sided tests (Schuirmann 1987, J Pharmacokinet Biopharm 15:657-680; Chen, Petrick and "
        "Sahiner 2012, Acad Radiol 19:1158-1165): a difference that is not significant shows no equivalence"
    ),
}


def methods(result: Result) -> Iterator[str]:
    """Paragraphs: figures of merit, analyses, what is random, claims, curves."""
    measured = [one for finding in result.findings for one in finding.measured]
    analyses = [analysis for one in measured for analysis in one.analyses]
    merits = [one.merit.lower() for one in measured]
    yield from (text for name, text in _MERITS.items() if any(one.startswith(name.lower()) for one in merits))
    yield from (text for name, text in _METHODS.items() if any(one.method == name for one in analyses))
    used = [text for name, text in _COVARIANCES.items() if any(one.covariance == name for one in analyses)]
    if used:
        yield _sentence(used)
    spoken = [text for name, text in _RANDOMS.items() if any(one.random is name for one in analyses)]
    if spoken:
        yield "What is random - " + "; ".join(spoken) + "."
    designs = sorted({one.design for one in analyses if one.design})
    if designs:
        yield f"Design: {', '.join(designs)}."
    yield from _claims(result)
    yield from _curves(merits, analyses, result)
    yield (
        "Standard errors of single readers come from cases alone. All intervals are two-sided at "
        f"{100 * result.level:g} % unless another level stands beside them."
    )


def _claims(result: Result) -> Iterator[str]:
    aims = [text for aim, text in _AIMS.items() if any(one.aim is aim for one in result.decisions)]
    if not aims:
        return
    text = _sentence([f"claims are tested: {'; '.join(aims)}"])
    if sum(one.primary for one in result.decisions) > 1:
        text += " p values of primary claims are adjusted by Holm (1979, Scand J Stat 6:65-70)."
    yield text


def _curves(merits: list[str], analyses: list[Analysis], result: Result) -> Iterator[str]:
    if not analyses:
        return
    yield (
        "Mean curves are vertical averages over readers, whose area is the mean of the readers' areas (Chen and "
        "Samuelson 2014, doi:10.1259/bjr.20140016). Bands are pointwise, at each false positive rate by itself: of "
        "empirical curves from bootstrap samples of readers and patients"
        + (
            "; of binormal curves from jackknife covariances and the single-treatment interval of Obuchowski and "
            "Rockette."
            if any(one.startswith("binormal") for one in merits)
            else "."
        )
    )


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."
