"""What a reader must know before believing an analysis: too few readers, cells without variance, missing cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scanward.errors import InputError
from scanward.reading.mrmc.results import Estimates, Random

FEW_READERS = 5
"""Fewer random readers than this bring a warning.

Five readers at least are asked for in the documentation of the R package MRMCsamplesize (argument ``J``). With r
readers and two treatments the degrees of freedom can be as low as r - 1, where t(0.975) is 12.7, 4.3, 3.2 and 2.8 for
r = 2 to 5: below five the interval says more about the number of readers than about the treatments.
"""
_NOTHING = 1e-18  # squared figure of merit; a variance below it is rounding


def without_missing(estimates: Estimates) -> tuple[Estimates, list[str]]:
    """The estimates of the readers who have a figure under every treatment, and what was left out.

    Raises
    ------
    InputError
        Nobody has.
    """
    whole = ~np.isnan(estimates.value).any(axis=0)
    if whole.all() and estimates.value.size:
        return estimates, []
    if not whole.any():
        raise InputError(
            f"no reader with a figure ({estimates.merit}) under every treatment",
            ", ".join(estimates.treatments),
            "analyse the treatments apart, or give the ratings that are missing",
        )
    kept = np.flatnonzero(whole)
    gone = ", ".join(estimates.readers[i] for i in np.flatnonzero(~whole))
    left = replace(
        estimates,
        readers=tuple(estimates.readers[i] for i in kept),
        value=estimates.value[:, kept],
        covariance=estimates.covariance[:, kept][:, :, :, kept],
    )
    return left, [f"left out, for want of a figure under some treatment: {gone}"]


def doubts_about(estimates: Estimates, random: Random) -> list[str]:
    """Warnings that hold whatever the method: few readers, cells without a variance."""
    found = few_readers(len(estimates.readers)) if random is not Random.CASES else []
    if random is not Random.READERS:
        found += degenerate_cells(estimates)
    return found


def few_readers(readers: int) -> list[str]:
    """The warning of `FEW_READERS`, none where there are enough."""
    if readers == 1:
        return [
            "one reader is no sample of readers: nothing can be said of others; take readers as fixed (random: cases)"
        ]
    if readers < FEW_READERS:
        return [
            f"{readers} readers are few for speaking of readers in general: the degrees of freedom rest on them; "
            f"at least {FEW_READERS} are advised"
        ]
    return []


def degenerate_cells(estimates: Estimates) -> list[str]:
    """Warnings about cells whose variance is 0, negative or unknown."""
    kinds: dict[str, list[str]] = {}
    variance = np.einsum("ijij->ij", estimates.covariance)
    for t, r in np.ndindex(estimates.value.shape):
        if variance[t, r] > _NOTHING:
            continue
        figure = f"{estimates.readers[r]} under {estimates.treatments[t]} ({estimates.value[t, r]:.4g})"
        if np.isnan(variance[t, r]):
            kind = "the variance cannot be estimated (a single case or patient of a class?)"
        elif variance[t, r] < -_NOTHING:
            kind = "the variance is estimated negative"
        else:
            kind = "no variance (every case right, or one constant rating)"
        kinds.setdefault(kind, []).append(figure)
    return [f"{kind}: {', '.join(cells)}" for kind, cells in kinds.items()]
