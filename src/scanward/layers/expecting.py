"""All conditionals of a layer at once: their tables stacked, so that one decision costs a few array operations.

What each of them says is defined in ``layers.conditional``; here nothing is added. Shorter ones are filled up
with predictors whose slope is zero.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.choices import Choice
from scanward.layers.conditional import AGES, EXTRAS, SUPPORTS, UNKNOWN_AGE, Conditional, age_group
from scanward.layers.encoding import GROUP_LEVELS, Encoder, View
from scanward.layers.graph import rounded
from scanward.layers.usual import UsualValues

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One command as the trees and the rest of the layer want it; M conditionals, F fields.

    Attributes
    ----------
    level, row : int
        The finest group that was seen, as in ``UsualValues.row``.
    moved : (F,) float64
        Distance of each number from the usual one.
    guesses : list of float, length M
        What the linear part of each conditional expects.
    features : (3 F + EXTRAS * trees + widths of the choices,) float32
        Codes, numbers, distances, then what each conditional with trees adds, then each choice. The first 2 F
        are ``View.row``.
    """

    level: int
    row: int
    moved: F64
    guesses: list[float]
    features: NDArray[np.float32]


class Expecting:
    """M conditionals side by side."""

    def __init__(
        self,
        encoder: Encoder,
        usual: UsualValues,
        conditionals: Sequence[Conditional],
        choices: Sequence[Choice],
    ) -> None:
        self._usual = usual
        self._choices = tuple(choices)
        self._age = encoder.index.get("PatientAge")
        self._none = not conditionals
        if self._none:
            return
        most = max(len(c.linear) for c in conditionals)
        ages = range(len(AGES) + 2)
        self._linear = _padded([c.linear for c in conditionals], most).astype(np.int64)
        self._centre = _padded([c.centre for c in conditionals], most)
        self._instead = np.stack(
            [
                _padded([c.by_age[age if c.age >= 0 else UNKNOWN_AGE] for c in conditionals], most)
                for age in ages
            ]
        )
        levels = range(GROUP_LEVELS)
        self._slopes = [_slopes([c.slopes[level] for c in conditionals], most) for level in levels]
        self._intercepts = [np.stack([c.intercepts[level] for c in conditionals], axis=1) for level in levels]
        self._spreads = [np.stack([c.spreads[level] for c in conditionals], axis=1) for level in levels]
        with_trees = [i for i, c in enumerate(conditionals) if c.trees]
        # (ages, M) what is expected of an age group before anything else.
        self._curve = np.stack(
            [[c.curve[age if c.age >= 0 else UNKNOWN_AGE] for c in conditionals] for age in ages]
        )
        self._trees = np.array(with_trees, dtype=np.int64)
        # A limit that there is none of is the number after the last: NaN.
        limits = np.array([conditionals[i].limits for i in with_trees], dtype=np.int64).reshape(-1, 2)
        self._limits = np.where(limits < 0, len(encoder.fields), limits)
        self._blind = [
            (tuple(int(s) for s in c.sizes), c.blind_factors.tolist(), c.support_factors.tolist())
            for c in conditionals
        ]

    def prepare(self, view: View) -> Prepared:
        """Everything before the trees."""
        level, row = self._usual.row(view)
        numbers = view.number_array
        moved = numbers - self._usual.middle[level][row]
        chosen: list[float] = []
        for choice in self._choices:
            chosen += choice.extras(view)
        if self._none:
            told = (view.code_array, numbers, moved, chosen)
            return Prepared(level, row, moved, [], rounded(np.concatenate(told)))
        group = age_group(view.numbers[self._age] if self._age is not None else math.nan)
        x = numbers[self._linear]  # (M, L)
        missing = np.isnan(x)
        np.copyto(x, self._instead[group], where=missing)
        x -= self._centre
        slopes = self._slopes[level][row]  # (2, M, L)
        x *= slopes[0]
        x += missing * slopes[1]
        intercepts = self._intercepts[level][row] + self._curve[group]
        guesses = np.add.reduce(x, axis=1)
        guesses += intercepts
        extras = np.empty((len(self._trees), EXTRAS))
        extras[:, 0] = extras[:, 2] = extras[:, 3] = guesses[self._trees]
        extras[:, 1] = intercepts[self._trees]
        extras[:, 2:] -= np.append(numbers, math.nan)[self._limits]
        features = rounded(np.concatenate((view.code_array, numbers, moved, extras.ravel(), chosen)))
        return Prepared(level, row, moved, guesses.tolist(), features)

    def spreads(self, view: View, level: int, row: int) -> list[float]:
        """(M,) expected spread around each expectation (``Conditional.spread``)."""
        if self._none:
            return []
        numbers = view.numbers
        support = 0 if level else bisect_right(SUPPORTS, float(self._usual.support[0][row]))
        patterns: dict[tuple[int, ...], int] = {}
        out = []
        for spread, (sizes, by_pattern, by_support) in zip(
            self._spreads[level][row].tolist(), self._blind, strict=True
        ):
            pattern = patterns.get(sizes)
            if pattern is None:
                pattern = sum([1 << i for i, size in enumerate(sizes) if math.isnan(numbers[size])])
                patterns[sizes] = pattern
            out.append(spread * (by_pattern[pattern] * by_support[support]))
        return out


def _padded(rows: Sequence[NDArray[Any]], width: int) -> F64:
    """(M, width): each row followed by zeros."""
    return np.stack([np.pad(np.asarray(row, dtype=np.float64), (0, width - len(row))) for row in rows])


def _slopes(tables: Sequence[F64], width: int) -> F64:
    """(G + 1, 2, M, width) of M tables (G + 1, 2 L): slopes for value, then for missingness."""
    out = np.zeros((len(tables[0]), 2, len(tables), width))
    for m, table in enumerate(tables):
        length = table.shape[1] // 2
        out[:, 0, m, :length] = table[:, :length]
        out[:, 1, m, :length] = table[:, length:]
    return out
