"""Which readers read which cases under which treatments, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Estimates
from scanward.reading.mrmc.structured import by_patient

FACTORIAL = "factorial"
NESTED_IN_READERS = "cases nested in readers"
NESTED_IN_TREATMENTS = "cases nested in treatments"
PARTIALLY_PAIRED = "partially paired"
DESIGNS = (FACTORIAL, NESTED_IN_READERS, NESTED_IN_TREATMENTS, PARTIALLY_PAIRED)


def design_of(ratings: Ratings) -> str:
    """The design that the ratings have: one of `DESIGNS`.

    factorial: every cell read every case. Cases nested in readers: each reader has patients of his own, and reads
    them all under every treatment. Cases nested in treatments: each treatment has patients of its own, and every
    reader reads them all. Everything else is partially paired.
    """
    read = ~np.isnan(ratings.score)
    if read.all():
        return FACTORIAL
    there = by_patient(read, ratings) > 0
    for name, axis in ((NESTED_IN_READERS, 0), (NESTED_IN_TREATMENTS, 1)):
        alike = (read == read.take([0], axis=axis)).all()
        if alike and there.any(axis=axis).sum(axis=0).max() <= 1:
            return name
    return PARTIALLY_PAIRED


def check_design(design: str, estimates: Estimates) -> None:
    """Refuse a design that is unknown, or that the estimates contradict.

    Raises
    ------
    SettingsError
        Cells that must not share a patient have a covariance other than 0.
    """
    if design not in DESIGNS:
        raise SettingsError(f"no design '{design}'", "design", f"give one of {', '.join(DESIGNS)}")
    apart = ~allowed(design, *estimates.value.shape)
    if (np.nan_to_num(estimates.covariance[apart]) != 0).any():
        raise SettingsError(
            f"{design}, but cells that share no patient then have a covariance",
            "design",
            f"give the cases of each {'reader' if design == NESTED_IN_READERS else 'treatment'} names of their own",
        )


def allowed(design: str, treatments: int, readers: int) -> NDArray[np.bool_]:
    """Which two cells may share patients in a design: (treatments, readers, treatments, readers)."""
    same_treatment = np.eye(treatments, dtype=bool)[:, None, :, None]
    same_reader = np.eye(readers, dtype=bool)[None, :, None, :]
    every = np.ones((treatments, readers, treatments, readers), dtype=bool)
    if design == NESTED_IN_READERS:
        return every & same_reader
    return every & same_treatment if design == NESTED_IN_TREATMENTS else every
