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
from scanward.layers.encoding import GROUP_LEVELS, Encoder, View
from scanward.layers.graph import Graph, rounded
from scanward.layers.usual import UsualValues

AGES = np.array([0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 18.0])  # years: edges of the age groups
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
    trees : Graph or None
        Correction; input is ``[linear prediction, intercept, codes..., numbers...,
        deviations from usual..., distances from the linear prediction...]`` (the last tell a current from its limits).
    inputs : (D,) int64
        Fields given to the trees.
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
    trees: Graph | None = None

    def expect(self, view: View, usual: UsualValues) -> tuple[float, float]:
        """Expected value and spread, both in the target's own scale."""
        level, row = usual.row(view)
        numbers = view.number_array
        middle = usual.middle[level][row]
        intercept = float(self.intercepts[level][row])
        guess = intercept + float(self.design(numbers) @ self.slopes[level][row])
        if self.trees is not None:
            features = self.tree_features(view.code_array, numbers, middle, guess, intercept)
            guess += float(self.trees.run(features)[0])
        support = 0 if level else bisect_right(SUPPORTS, float(usual.support[0][row]))
        factor = self.blind_factors[int(self.blind(numbers))] * self.support_factors[support]
        return guess, float(self.spreads[level][row] * factor)

    def design(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictors of the linear part: centred values, then missing flags; (2 L,) or (N, 2 L)."""
        x = numbers[..., self.linear]
        missing = np.isnan(x)
        # Who is not weighed is taken to be as heavy as others of that age.
        age = numbers[..., self.age] if self.age >= 0 else np.full(numbers.shape[:-1], np.nan)
        instead = self.by_age[
            np.where(np.isnan(age), len(AGES) + 1, np.searchsorted(AGES, age, side="right"))
        ]
        return np.concatenate([np.where(missing, instead, x) - self.centre, missing], axis=-1)

    def blind(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """Which of ``sizes`` are missing, as a binary number; () or (N,)."""
        bits: NDArray[np.int64] = np.isnan(numbers[..., self.sizes]) @ (1 << np.arange(len(self.sizes)))
        return bits

    def tree_features(
        self,
        codes: NDArray[np.int64],
        numbers: NDArray[np.float64],
        middle: NDArray[np.float32],
        guess: float,
        intercept: float,
    ) -> NDArray[np.float32]:
        """One row for the trees (see ``trees``)."""
        i = self.inputs
        values = np.concatenate(
            [[guess, intercept], codes[i], numbers[i], numbers[i] - middle[i], guess - numbers[i]]
        )
        return rounded(values)

    def part(self) -> Part:
        """For a bundle."""
        arrays: dict[str, NDArray[Any]] = {
            "linear": self.linear,
            "centre": self.centre,
            "inputs": self.inputs,
            "sizes": self.sizes,
            "by_age": self.by_age,
            "blind_factors": self.blind_factors,
            "support_factors": self.support_factors,
        }
        for level in range(GROUP_LEVELS):
            arrays[f"slopes{level}"] = self.slopes[level]
            arrays[f"intercepts{level}"] = self.intercepts[level]
            arrays[f"spreads{level}"] = self.spreads[level]
        graphs = {} if self.trees is None else {"trees": self.trees.model}
        return Part({"target": self.target, "age": self.age}, arrays, graphs)

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
            Graph(part.graphs["trees"]) if "trees" in part.graphs else None,
        )


def in_units(encoder: Encoder, field: int, value: float) -> float:
    """A value of the field's own scale back in its unit."""
    return math.exp(min(value, 50.0)) if encoder.fields[field].log else value
