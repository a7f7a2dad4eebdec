"""Figures of merit that are a mean over cases: those whose covariances have a closed form."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Structured(Merit):
    """A figure of merit with structural components (DeLong, DeLong, Clarke-Pearson 1988, doi:10.2307/2531595).

    Each case has a component, and the mean of a class's components is the figure itself.
    """

    uses_positives = True  # whether the figure depends on the ratings of positives, and of negatives
    uses_negatives = True

    @abstractmethod
    def components(self, ratings: Ratings) -> Floats:
        """The component of every case in every cell: (treatments, readers, cases), NaN where there is none.

        There is none where the cell did not read the case, or has no value, or does not use the case's class.
        """


def by_patient(per_case: NDArray[np.generic], ratings: Ratings) -> Floats:
    """Sums over the cases of each patient: (..., cases) to (..., patients), 0 for a patient without cases."""
    found = np.zeros((*per_case.shape[:-1], len(ratings.patients)))
    if not ratings.clustered:
        found[..., ratings.patient] = per_case
        return found
    order = np.argsort(ratings.patient, kind="stable")
    there, starts = np.unique(ratings.patient[order], return_index=True)
    found[..., there] = np.add.reduceat(per_case[..., order].astype(np.float64), starts, axis=-1)
    return found


def read_classes(ratings: Ratings) -> tuple[Bools, Bools]:
    """Which cell read which positive, and which negative: twice (treatments, readers, cases)."""
    read = ~np.isnan(ratings.score)
    return read & ratings.truth, read & ~ratings.truth


def used_cases(ratings: Ratings, merit: Merit) -> Bools:
    """Which cell's figure depends on which case: (treatments, readers, cases). Sensitivity uses no negatives."""
    used = ~np.isnan(ratings.score)
    if isinstance(merit, Structured):
        used &= np.where(ratings.truth, merit.uses_positives, merit.uses_negatives)
    return used
