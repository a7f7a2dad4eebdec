"""Published answers of reader-study analyses, typed in as facts, and how to find each of them in an analysis.

Van Dyke et al. (RSNA 1993): 2 treatments, 5 readers, 69 normal and 45 abnormal cases.

* OR-DBM MRMC 2.51 (University of Iowa): its print-out of 2020-04-30, distributed with RJafroc (inst/Iowa/VanDyke.txt).
  Trapezoidal areas, jackknife. `PRINT_OUT` has every number of its tables in the order of print.
* MRMCaov (github brian-j-smith/MRMCaov, docs/jss/MRMCaov.tex): other covariances, sensitivity, nested designs.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scanward.reading.mrmc.ratings import Ratings, dense
from scanward.reading.mrmc.results import Analysis, Covariance, Estimates, Interval, Random

PATIENTS, NORMAL, ABNORMAL = 114, 69, 45
# reader by treatment
AUC = (
    ("0.91964573", "0.94782609"),
    ("0.85877617", "0.90531401"),
    ("0.90386473", "0.92173913"),
    ("0.97310789", "0.99935588"),
    ("0.82979066", "0.92995169"),
)

Analyses = dict[Random, Analysis]
Find = Callable[[Analyses], float]


def load(folder: Path, name: str = "VanDyke.csv", case: str = "case") -> Ratings:
    """The ratings of one file of ``shared/data/mrmc``."""
    with (folder / "mrmc" / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return dense(
        [row["reader"] for row in rows],
        [row["treatment"] for row in rows],
        [row[case] for row in rows],
        [int(row["truth"]) for row in rows],
        [float(row["rating"]) for row in rows],
    )


def decimals(printed: str) -> int:
    """How many digits stand behind the point."""
    return len(printed.partition(".")[2])


def rounded(value: float, printed: str) -> str:
    """A value printed as another was: the same digits behind the point, and no zero before it where there was none."""
    text = f"{value:.{decimals(printed)}f}"
    return text.replace("0.", ".", 1) if printed.lstrip("-").startswith(".") else text


def _component(name: str, random: Random = Random.BOTH) -> Find:
    return lambda analyses: analyses[random].components[name]


def _correlation(name: str) -> Find:
    return lambda a: a[Random.BOTH].components[name] / a[Random.BOTH].components["Var(error)"]


def _overall(random: Random, what: str) -> Find:
    def find(analyses: Analyses) -> float:
        test = analyses[random].overall
        assert test is not None
        return float(getattr(test, what))

    return find


def _of(random: Random, group: str, index: int, what: str) -> Find:
    def find(analyses: Analyses) -> float:
        intervals: tuple[Interval, ...] = getattr(analyses[random], group)
        return float(getattr(intervals[index], what))

    return find


def _auc(treatment: int) -> Find:
    return lambda analyses: analyses[Random.BOTH].treatments[treatment].estimate


def _interval(random: Random, group: str, index: int, what: str, *printed: str) -> list[tuple[str, Find]]:
    return [
        (number, _of(random, group, index, name)) for number, name in zip(printed, what.split(), strict=True)
    ]


BOTH, CASES, READERS = Random.BOTH, Random.CASES, Random.READERS
_DIFFERENCE = "estimate se df statistic p low high"
_Z = "estimate se statistic p low high"

# Every number of the tables from "TREATMENT AUC MEANS" on, in the order of print. The treatment x reader areas and the
# counts come before; labels of treatments and readers are left out.
PRINT_OUT: list[tuple[str, Find]] = [
    ("0.89703704", _auc(0)),
    ("0.94083736", _auc(1)),
    ("-0.04380032", _of(BOTH, "differences", 0, "estimate")),
    # treatment x reader ANOVA: SS, DF, MS
    ("0.00479617", lambda a: a[BOTH].components["MS(T)"] * 1),
    ("1", _overall(BOTH, "df1")),
    ("0.00479617", _component("MS(T)")),
    ("0.01534480", lambda a: a[BOTH].components["MS(R)"] * 4),
    ("4", _of(READERS, "treatments", 0, "df")),
    ("0.00383620", _component("MS(R)")),
    ("0.00220412", lambda a: a[BOTH].components["MS(TR)"] * 4),
    ("4", _overall(READERS, "df2")),
    ("0.00055103", _component("MS(TR)")),
    # reader ANOVAs
    ("4", _of(READERS, "treatments", 1, "df")),
    ("0.00308263", _component("MS(R), treatment 1")),
    ("0.00130460", _component("MS(R), treatment 2")),
    # OR components
    ("0.00153500", _component("Var(R)")),
    ("0.00020040", _component("Var(TR)")),
    ("0.00034661", _component("Cov1")),
    ("0.43203138", _correlation("Cov1")),
    ("0.00034407", _component("Cov2")),
    ("0.42886683", _correlation("Cov2")),
    ("0.00023903", _component("Cov3")),
    ("0.29793328", _correlation("Cov3")),
    ("0.00080229", _component("Var(error)")),
    # the DBM components follow: DBM_PRINTED
    # 1a
    ("1", _overall(BOTH, "df1")),
    ("0.00479617", _component("MS(T)")),
    ("4.46", _overall(BOTH, "value")),
    ("0.0517", _overall(BOTH, "p")),
    ("15.26", _component("df(error term)")),
    ("0.00107626", _component("error term")),
    ("1", _overall(BOTH, "df1")),  # the conclusion: F(1,15) = 4.46, p = .0517; the 15 is cut, not rounded
    ("15", lambda a: a[BOTH].components["df(error term)"] // 1),
    ("4.46", _overall(BOTH, "value")),
    (".0517", _overall(BOTH, "p")),
    # 1b, 1c
    *_interval(
        BOTH,
        "differences",
        0,
        _DIFFERENCE,
        "-0.04380",
        "0.02075",
        "15.26",
        "-2.11",
        "0.0517",
        "-0.08796",
        "0.00036",
    ),
    *_interval(
        BOTH,
        "treatments",
        0,
        "estimate se df low high",
        "0.89703704",
        "0.03317360",
        "12.74",
        "0.82522360",
        "0.96885048",
    ),
    ("0.00048396", _component("Cov2, treatment 1")),
    *_interval(
        BOTH,
        "treatments",
        1,
        "estimate se df low high",
        "0.94083736",
        "0.02156637",
        "12.71",
        "0.89413783",
        "0.98753689",
    ),
    ("0.00020419", _component("Cov2, treatment 2")),
    # 2a
    ("5.47595", _overall(CASES, "value")),
    ("1", _overall(CASES, "df1")),
    ("0.0193", _overall(CASES, "p")),
    ("1", _overall(CASES, "df1")),
    ("5.48", _overall(CASES, "value")),
    (".0193", _overall(CASES, "p")),
    # 2b, 2c, 2d
    *_interval(CASES, "differences", 0, _Z, "-0.04380", "0.01872", "-2.34", "0.0193", "-0.08049", "-0.00711"),
    *_interval(
        CASES, "treatments", 0, "estimate se low high", "0.89703704", "0.02428971", "0.84943008", "0.94464399"
    ),
    *_interval(
        CASES, "treatments", 1, "estimate se low high", "0.94083736", "0.01677632", "0.90795637", "0.97371835"
    ),
    ("0.00101410", _component("Var(error), treatment 1", CASES)),
    ("0.00048396", _component("Cov2, treatment 1", CASES)),
    ("0.00059047", _component("Var(error), treatment 2", CASES)),
    ("0.00020419", _component("Cov2, treatment 2", CASES)),
    *_interval(CASES, "by_reader", 0, _Z, "-0.02818", "0.02551", "-1.10", "0.2693", "-0.07818", "0.02182"),
    *_interval(CASES, "by_reader", 1, _Z, "-0.04654", "0.02630", "-1.77", "0.0768", "-0.09809", "0.00501"),
    *_interval(CASES, "by_reader", 2, _Z, "-0.01787", "0.03121", "-0.57", "0.5668", "-0.07904", "0.04330"),
    *_interval(CASES, "by_reader", 3, _Z, "-0.02625", "0.01729", "-1.52", "0.1290", "-0.06014", "0.00764"),
    *_interval(CASES, "by_reader", 4, _Z, "-0.10016", "0.04406", "-2.27", "0.0230", "-0.18651", "-0.01381"),
    ("0.00069890", _component("Var(error), reader 1", CASES)),
    ("0.00037347", _component("Cov1, reader 1", CASES)),
    ("0.00110605", _component("Var(error), reader 2", CASES)),
    ("0.00076016", _component("Cov1, reader 2", CASES)),
    ("0.00084234", _component("Var(error), reader 3", CASES)),
    ("0.00035532", _component("Cov1, reader 3", CASES)),
    ("0.00015058", _component("Var(error), reader 4", CASES)),
    ("0.00000108", _component("Cov1, reader 4", CASES)),
    ("0.00121357", _component("Var(error), reader 5", CASES)),
    ("0.00024304", _component("Cov1, reader 5", CASES)),
    # 3a
    ("1", _overall(READERS, "df1")),
    ("0.00479617", _component("MS(T)", READERS)),
    ("8.70", _overall(READERS, "value")),
    ("0.0420", _overall(READERS, "p")),
    ("4", _overall(READERS, "df2")),
    ("0.00055103", _component("MS(TR)", READERS)),
    ("1", _overall(READERS, "df1")),
    ("4", _overall(READERS, "df2")),
    ("8.70", _overall(READERS, "value")),
    (".0420", _overall(READERS, "p")),
    # 3b, 3c
    *_interval(
        READERS,
        "differences",
        0,
        _DIFFERENCE,
        "-0.04380",
        "0.01485",
        "4",
        "-2.95",
        "0.0420",
        "-0.08502",
        "-0.00258",
    ),
    ("0.89703704", _of(READERS, "treatments", 0, "estimate")),
    ("0.00308263", _component("MS(R), treatment 1", READERS)),
    *_interval(READERS, "treatments", 0, "se df low high", "0.02482994", "4", "0.82809808", "0.96597599"),
    ("0.94083736", _of(READERS, "treatments", 1, "estimate")),
    ("0.00130460", _component("MS(R), treatment 2", READERS)),
    *_interval(READERS, "treatments", 1, "se df low high", "0.01615303", "4", "0.89598936", "0.98568536"),
]
DBM_AFTER = 24  # so many numbers of PRINT_OUT are printed before the DBM components
DBM_PRINTED = {
    "Var(R)": "0.00153500",
    "Var(C)": "0.02724923",
    "Var(TR)": "0.00020040",
    "Var(TC)": "0.01197530",
    "Var(RC)": "0.01226473",
    "Var(TRC) + Var(error)": "0.03997160",
}

# Single numbers of PRINT_OUT that an analysis takes as they are: what the errors of the areas are.
VARIANCE_BY_TREATMENT = ("0.00101410", "0.00059047")
COV2_BY_TREATMENT = ("0.00048396", "0.00020419")
VARIANCE_BY_READER = ("0.00069890", "0.00110605", "0.00084234", "0.00015058", "0.00121357")
COV1_BY_READER = ("0.00037347", "0.00076016", "0.00035532", "0.00000108", "0.00024304")
COV3 = "0.00023903"

# MRMCaov, random readers and cases
MRMCAOV = {
    Covariance.DELONG: {
        "Var(error)": "0.0007921325",
        "Cov1": "0.000342009",
        "Cov2": "0.0003395265",
        "Cov3": "0.0002358497",
        "value": "4.484854",
        "df2": "15.06611",
        "p": "0.05123303",
        "se": "0.0206825",
        "low": "-0.087867196",
        "high": "0.0002665519",
    },
    Covariance.UNBIASED: {
        "Var(error)": "0.0007883925",
        "Cov1": "0.0003416706",
        "Cov2": "0.000339065",
        "Cov3": "0.0002356148",
        "value": "4.489614",
        "df2": "15.03418",
        "p": "0.0511618",
        "se": "0.02067154",
        "low": "-0.0878519409",
        "high": "0.0002512968",
    },
}


def from_print() -> Estimates:
    """The print-out's areas, and covariances of cells whose means are the printed ones: on more nothing depends."""
    by_treatment, cov2 = (np.array(x, dtype=float) for x in (VARIANCE_BY_TREATMENT, COV2_BY_TREATMENT))
    by_reader, cov1 = (np.array(x, dtype=float) for x in (VARIANCE_BY_READER, COV1_BY_READER))
    covariance = np.full((2, 5, 2, 5), float(COV3))
    for i in range(2):
        covariance[i, :, i, :] = cov2[i]
        for j in range(5):
            covariance[i, j, 1 - i, j] = cov1[j]
            covariance[i, j, i, j] = by_treatment[i] + by_reader[j] - by_treatment.mean()
    return Estimates(
        merit="empirical AUC",
        method=Covariance.JACKKNIFE,
        treatments=("1", "2"),
        readers=("1", "2", "3", "4", "5"),
        value=np.array(AUC, dtype=float).T,
        covariance=covariance,
        patients=PATIENTS,
        chance=0.5,
    )


def of_components(variance: float, cov1: float, cov2: float, cov3: float, method: Covariance) -> Estimates:
    """The print-out's areas, with the same covariance for all pairs of cells of one kind."""
    covariance = np.full((2, 5, 2, 5), cov3)
    for i in range(2):
        covariance[i, :, i, :] = cov2
        for j in range(5):
            covariance[i, j, 1 - i, j] = cov1
            covariance[i, j, i, j] = variance
    return Estimates(
        merit="empirical AUC",
        method=method,
        treatments=("1", "2"),
        readers=("1", "2", "3", "4", "5"),
        value=np.array(AUC, dtype=float).T,
        covariance=covariance,
        patients=PATIENTS,
        chance=0.5,
    )
