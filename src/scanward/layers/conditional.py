"""What a number should be, given everything that is not its consequence.

A linear model with an intercept for each protocol element (shrunk towards its body region, so that a rare
protocol borrows) carries the physics of automatic exposure control: log mA is linear in size. Boosted trees then
correct it where it bends, for instance where the current meets its limits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import GROUP_LEVELS, Encoder

AGES = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 18.0)  # years: edges of the age groups
UNKNOWN_AGE = len(AGES) + 1
EXTRAS = 4  # numbers that each conditional adds to the features that all share
BLIND = 16  # patterns of missing size fields
SUPPORTS = (1, 3, 8, 20, 60)  # commands recorded of the element: bins of support


@dataclass(frozen=True)
class Conditional:
    """Expectation of one continuous field.

    Attributes
    ----------
    target : int
        Index of the field.
    linear : (L,) int64
        Indices of numeric predictor fields of the linear part.
    centre : (L,) float64
        Mean of each predictor.
    age : int
        Index of PatientAge, -1 where it is not learned.
    by_age : (len(AGES) + 2, L) float64
        What a missing predictor is replaced by, per age group; the last row is for an unknown age.
    slopes : tuple of (G + 1, 2 L) float64
        Slopes for value and for missingness, per level and group, already shrunk (row 0: group never seen).
    intercepts : tuple of (G + 1,) float64
        Intercept per level and group, already shrunk.
    spreads : tuple of (G + 1,) float64
        Expected residual spread per group and level, already shrunk.
    inputs : (D,) int64
        Fields given to the trees.
    limits : (int, int)
        Fields that bound the target from below and above (the limits of automatic exposure control), -1 for none.
    curve : (len(AGES) + 2,) float64
        What is expected of the age group before anything else: people grow.
    trees : bool
        Whether a correction by trees follows (in a grove with those of the other conditionals).
    sizes : (P,) int64, P <= 4
        Fields that tell the patient's size.
    blind_factors : (BLIND,) float64
        Factor on the spread for each pattern of missing ``sizes``: who knows less must expect more widely.
    support_factors : (len(SUPPORTS) + 1,) float64
        The same for how many commands of the protocol element were recorded.
    """

    target: int
    linear: NDArray[np.int64]
    centre: NDArray[np.float64]
    slopes: tuple[NDArray[np.float64], ...]
    intercepts: tuple[NDArray[np.float64], ...]
    spreads: tuple[NDArray[np.float64], ...]
    inputs: NDArray[np.int64]
    blind_factors: NDArray[np.float64]
    support_factors: NDArray[np.float64]
    sizes: NDArray[np.int64]
    age: int
    by_age: NDArray[np.float64]
    limits: tuple[int, int]
    curve: NDArray[np.float64]
    trees: bool = False

    def design(self, numbers: NDArray[np.float64], instead: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictors of the linear part: centred values, then missing flags; (2 L,) or (N, 2 L).

        Who is not weighed is taken to be as heavy as others of that age: ``instead`` is the row of ``by_age``.
        """
        x = numbers[..., self.linear]
        missing = np.isnan(x)
        return np.concatenate([np.where(missing, instead, x) - self.centre, missing], axis=-1)

    def designs(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2 L) the same for many commands."""
        return self.design(numbers, self.by_age[age_groups(numbers, self.age)])

    def blind(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N,) which of ``sizes`` are missing, as a binary number, for many commands."""
        bits: NDArray[np.int64] = np.isnan(numbers[..., self.sizes]) @ (1 << np.arange(len(self.sizes)))
        return bits

    def extras(self, guess: float, intercept: float, numbers: NDArray[np.float64]) -> list[float]:
        """(EXTRAS,) what the trees are told beside the shared features: the guess, and how far limits are from it."""
        low = numbers[self.limits[0]] if self.limits[0] >= 0 else math.nan
        high = numbers[self.limits[1]] if self.limits[1] >= 0 else math.nan
        return [guess, intercept, guess - low, guess - high]

    def part(self) -> Part:
        """For a bundle."""
        arrays: dict[str, NDArray[Any]] = {
            "linear": self.linear,
            "centre": self.centre,
            "inputs": self.inputs,
            "sizes": self.sizes,
            "by_age": self.by_age,
            "curve": self.curve,
            "blind_factors": self.blind_factors,
            "support_factors": self.support_factors,
        }
        for level in range(GROUP_LEVELS):
            arrays[f"slopes{level}"] = self.slopes[level]
            arrays[f"intercepts{level}"] = self.intercepts[level]
            arrays[f"spreads{level}"] = self.spreads[level]
        settings = {"target": self.target, "age": self.age, "limits": list(self.limits), "trees": self.trees}
        return Part(settings, arrays)

    @classmethod
    def from_part(cls, part: Part) -> Conditional:
        """The inverse of :meth:`part`."""
        a = part.arrays
        return cls(
            int(part.settings["target"]),
            a["linear"],
            a["centre"],
            tuple(a[f"slopes{level}"] for level in range(GROUP_LEVELS)),
            tuple(a[f"intercepts{level}"] for level in range(GROUP_LEVELS)),
            tuple(a[f"spreads{level}"] for level in range(GROUP_LEVELS)),
            a["inputs"],
            a["blind_factors"],
            a["support_factors"],
            a["sizes"],
            int(part.settings["age"]),
            a["by_age"],
            (int(part.settings["limits"][0]), int(part.settings["limits"][1])),
            a["curve"],
            bool(part.settings["trees"]),
        )


def age_group(age: float) -> int:
    """Row of ``by_age`` for an age in years (NaN: unknown)."""
    return UNKNOWN_AGE if math.isnan(age) else bisect_right(AGES, age)


def age_groups(numbers: NDArray[np.float64], age: int) -> NDArray[np.int64]:
    """(N,) rows of ``by_age`` for many commands; ``age`` is the field that tells it, -1 for none."""
    if age < 0:
        return np.full(len(numbers), UNKNOWN_AGE, dtype=np.int64)
    return np.array([age_group(float(a)) for a in numbers[:, age]], dtype=np.int64)


def in_units(encoder: Encoder, field: int, value: float) -> float:
    """A value of the field's own scale back in its unit."""
    return math.exp(min(value, 50.0)) if encoder.fields[field].log else value
