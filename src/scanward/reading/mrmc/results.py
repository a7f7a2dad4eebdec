"""What an analysis finds, at full precision: estimates, tests, intervals. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Random(StrEnum):
    """What is a random sample of a population, so that the result speaks of the population."""

    BOTH = "readers and cases"
    CASES = "cases"  # fixed readers
    READERS = "readers"  # fixed cases


class Covariance(StrEnum):
    """How the error covariances of the readers' figures of merit are estimated."""

    JACKKNIFE = "jackknife"
    DELONG = "delong"
    UNBIASED = "unbiased"
    BOOTSTRAP = "bootstrap"


@dataclass(frozen=True, eq=False)
class Estimates:
    """A figure of merit in every cell and the covariances of its errors, due to cases alone.

    ``value`` (treatments, readers); ``covariance`` (treatments, readers, treatments, readers), zero where two cells
    share no patient; NaN in cells without a figure. ``patients``: how many were resampled. ``chance``: the figure of a
    reader who guesses, what single treatments are tested against; None where there is no such.
    """

    merit: str
    method: Covariance
    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    value: Floats
    covariance: Floats
    patients: int
    chance: float | None = None


@dataclass(frozen=True)
class Test:
    """One hypothesis test: ``statistic`` is F, chi2, t or z; ``df2`` None where there is none."""

    __test__ = False  # not one of pytest's

    statistic: str
    value: float
    df1: float
    df2: float | None
    p: float


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval at ``level``, and the test that it equals ``null``.

    ``of`` names it: a treatment, "A - B", or "reader: A - B". ``df`` is infinite for normal intervals. ``null`` is 0
    for a difference and 0.5 for one AUC.
    """

    of: str
    estimate: float
    se: float
    df: float
    low: float
    high: float
    level: float
    null: float
    statistic: float
    p: float


@dataclass(frozen=True)
class Analysis:
    """One method with one choice of what is random.

    ``method``: OR (Obuchowski-Rockette), DBM (Dorfman-Berbaum-Metz) or U (one-shot U-statistic). ``overall`` tests that
    all treatments are equal, None for one treatment. ``components``: mean squares, variance components, error terms,
    by name. ``warnings``: what a reader must know before believing this (few readers, Cov2 < Cov3, a degenerate cell).
    """

    method: str
    covariance: str
    random: Random
    merit: str
    design: str
    overall: Test | None
    differences: tuple[Interval, ...]
    treatments: tuple[Interval, ...]
    by_reader: tuple[Interval, ...] = ()
    components: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain types; infinite degrees of freedom and NaN become None."""
        return {key: _plain(item) for key, item in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
