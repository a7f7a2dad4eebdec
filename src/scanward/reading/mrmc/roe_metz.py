"""Simulated ratings by the model of Roe and Metz, and what is known exactly about them.

Roe & Metz, Dorfman-Berbaum-Metz method for statistical analysis of multireader, multimodality receiver operating
characteristic data: validation with computer simulation, Acad Radiol 1997;4:298-303. The rating of case c, of truth k
(0 negative, 1 positive), by reader r under treatment t is

    k delta_t + R_rk + TR_trk + C_ck + TC_tck + RC_rck + E_trck

with independent normal terms of mean 0; those of positives and of negatives are independent of each other. The
variances of the case terms sum to 1, so that a reader of median skill has the AUC Phi(delta / sqrt 2): 0.702, 0.855,
0.961 for delta 0.75, 1.5, 2.5. The twelve structures of their Table 1 are named by two letters: high (H) or low (L)
correlation of ratings between treatments and readers, then high or low variance of readers. Their values are those of
iMRMC (https://github.com/DIDSR/iMRMC, CC0, Rpackage/iMRMC/inst/data-raw/RMconfigurations).

Exact moments: a positive beats a negative where a normal difference is above 0, so the mean product of two pairs is a
bivariate normal probability (Gallas & Hillis, J Med Imaging 2014;1:031006; Hillis, Stat Med 2018;37:2067-2093).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Structure:
    """Variances of the terms, each of positives and of negatives alike. ``separation``: delta of the null model."""

    name: str
    separation: float
    reader: float
    treatment_reader: float
    case: float
    treatment_case: float
    reader_case: float
    rest: float

    @property
    def spread(self) -> float:
        """Variance of the difference of a positive's and a negative's rating, over readers too."""
        cases = self.case + self.treatment_case + self.reader_case + self.rest
        return 2 * (cases + self.reader + self.treatment_reader)

    @property
    def median_auc(self) -> float:
        """The AUC of a reader of median skill at ``separation``: how the structure is called in print."""
        readers = 2 * (self.reader + self.treatment_reader)
        return float(special.ndtr(self.separation / math.sqrt(self.spread - readers)))

    def auc(self, separation: float) -> float:
        """The mean AUC of all readers at a separation: what an analysis with random readers estimates."""
        return float(special.ndtr(separation / math.sqrt(self.spread)))

    def separation_for(self, auc: float) -> float:
        """The separation at which all readers' mean AUC is ``auc``."""
        if not 0 < auc < 1:
            raise SettingsError(f"AUC {auc:g}", "auc", "give a number between 0 and 1")
        return float(special.ndtri(auc)) * math.sqrt(self.spread)


def _structures() -> dict[tuple[str, float], Structure]:
    found = {}
    for case, reader_case, rest, correlation in ((0.3, 0.2, 0.2, "H"), (0.1, 0.2, 0.6, "L")):
        for auc, delta, high in ((0.702, 0.75, 0.011), (0.855, 1.5, 0.030), (0.961, 2.5, 0.056)):
            for letter, reader in (("L", 0.0055), ("H", high)):
                name = correlation + letter
                found[name, auc] = Structure(name, delta, reader, reader, case, case, reader_case, rest)
    return found


STRUCTURES = _structures()  # by name (HL, LL, HH, LH) and AUC of the median reader (0.702, 0.855, 0.961)


def structure(name: str, auc: float) -> Structure:
    """One of the twelve.

    Raises
    ------
    SettingsError
        There is none of that name and AUC.
    """
    try:
        return STRUCTURES[name, auc]
    except KeyError:
        raise SettingsError(
            f"no structure '{name}' with AUC {auc:g}",
            "structure",
            "use HL, LL, HH or LH; 0.702, 0.855 or 0.961",
        ) from None


def scores(
    of: Structure,
    separations: Sequence[float],
    readers: int,
    negatives: int,
    positives: int,
    rng: np.random.Generator,
    studies: int = 1,
) -> tuple[Floats, Floats]:
    """Continuous ratings of many studies at once.

    Parameters
    ----------
    separations : sequence of float
        delta of every treatment; all alike: the null model.

    Returns
    -------
    negative, positive : float64 (studies, treatments, readers, negatives or positives)

    Raises
    ------
    InputError
        Numbers below one.
    """
    treatments = len(separations)
    if min(treatments, readers, negatives, positives, studies) < 1:
        raise InputError(
            f"{treatments} treatments, {readers} readers, {negatives} negatives, {positives} positives",
            "simulated study",
            "give at least one of each",
        )
    found = []
    for count, shift in ((negatives, 0.0), (positives, 1.0)):
        rating = np.sqrt(of.rest) * rng.standard_normal((studies, treatments, readers, count))
        for variance, shape in (
            (of.reader, (studies, 1, readers, 1)),
            (of.treatment_reader, (studies, treatments, readers, 1)),
            (of.case, (studies, 1, 1, count)),
            (of.treatment_case, (studies, treatments, 1, count)),
            (of.reader_case, (studies, 1, readers, count)),
        ):
            rating += math.sqrt(variance) * rng.standard_normal(shape)
        rating += shift * np.asarray(separations, dtype=np.float64)[:, None, None]
        found.append(rating)
    return found[0], found[1]


def in_categories(scores: Floats, of: Structure, count: int = 5) -> Floats:
    """Ratings 1 to ``count``, which share the median reader's ratings of as many positives as negatives alike.

    The cut points are ours: quantiles of that mixture under the null model, the same for every reader.
    """
    if count < 2:
        raise SettingsError(f"{count} categories", "count", "give at least two")
    grid = np.linspace(-5.0, of.separation + 5.0, 4001)
    below = (special.ndtr(grid) + special.ndtr(grid - of.separation)) / 2
    cuts = np.interp(np.arange(1, count) / count, below, grid)
    rated: Floats = np.searchsorted(cuts, scores, side="right").astype(np.float64) + 1.0
    return rated


def simulate(
    of: Structure,
    separations: Sequence[float],
    readers: int,
    negatives: int,
    positives: int,
    rng: np.random.Generator,
    categories: int | None = None,
) -> Ratings:
    """One fully crossed study: continuous ratings, or 1 to ``categories``.

    Raises
    ------
    InputError, SettingsError
        As `scores` and `in_categories`.
    """
    rated = np.concatenate(scores(of, separations, readers, negatives, positives, rng), axis=-1)[0]
    cases = (*(f"N{i + 1}" for i in range(negatives)), *(f"P{i + 1}" for i in range(positives)))
    return Ratings(
        score=rated if categories is None else in_categories(rated, of, categories),
        truth=np.arange(negatives + positives) >= negatives,
        patient=np.arange(negatives + positives, dtype=np.intp),
        treatments=tuple(f"T{t + 1}" for t in range(len(separations))),
        readers=tuple(f"R{r + 1}" for r in range(readers)),
        cases=cases,
        patients=cases,
    )


def exact_moments(of: Structure, separations: Sequence[float]) -> Floats:
    """M1..M8 of continuous ratings between all treatments: (treatments, treatments, 8), the order of `moments`."""
    count = len(separations)
    found = np.zeros((count, count, 8))
    for t in range(count):
        for u in range(count):
            same = t == u
            upper = np.array([separations[t], separations[u]]) / math.sqrt(of.spread)
            for k in range(8):
                reader, kinds = (
                    k < 4,
                    2 - (k % 4 + 1) // 2,
                )  # cases of both kinds, of one, of one, of none shared
                shared = 2 * (of.reader + same * of.treatment_reader) * reader + kinds * (
                    of.case + same * of.treatment_case + reader * (of.reader_case + same * of.rest)
                )
                correlation = shared / of.spread
                joint = stats.multivariate_normal(
                    cov=[[1.0, correlation], [correlation, 1.0]], allow_singular=True
                )
                found[t, u, k] = joint.cdf(upper)
    return found


def exact_covariance(
    of: Structure, separations: Sequence[float], readers: int, negatives: int, positives: int
) -> Floats:
    """Of the treatments' mean AUC over ``readers``, continuous ratings, fully crossed: (treatments, treatments)."""
    one = np.array([1.0, negatives - 1.0, positives - 1.0, (negatives - 1.0) * (positives - 1.0)])
    share = np.concatenate([one, one * (readers - 1.0)]) / (readers * negatives * positives)
    found = exact_moments(of, separations)
    covariance: Floats = found @ share - found[..., 7]
    return covariance
