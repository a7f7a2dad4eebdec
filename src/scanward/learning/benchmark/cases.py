"""Attacked commands inside otherwise clean, later, whole examinations: made once, shown to every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanward.commands import Command, Examination
from scanward.simulation import Attack, Donors

PASSES = 4  # times that the examinations are gone through for attacks that few of them allow


@dataclass(frozen=True)
class Case:
    """One attacked examination up to its last attacked command, and which commands those are.

    ``unit`` is the index of the examination among the test examinations (the unit of the bootstrap);
    ``before`` is the clean command at the place of the attack, of which the effect size is told.
    """

    unit: int
    commands: tuple[Command, ...]
    indices: tuple[int, ...]
    before: Command


def cases_of(
    attack: Attack, test: Sequence[Examination], donors: Donors, count: int, seed: int
) -> list[Case]:
    """Up to ``count`` attacks, one an examination as long as there are enough that allow it.

    Deterministic for (attack family, seed), whatever other attacks were made before.
    """
    # The family and not the name: every factor of a dose attack meets the same commands.
    rng = np.random.default_rng((seed, *attack.family.encode()))
    out: list[Case] = []
    used: set[tuple[int, int]] = set()
    # Anywhere in the test: attacks that crowd at its beginning would be of its first weeks alone. One order for all
    # families, so that the paired bootstrap meets the same examinations again.
    order = np.random.default_rng((seed, len(test))).permutation(len(test))
    for _ in range(PASSES):
        for unit in order.tolist():
            examination = test[unit]
            if len(out) >= count:
                return out
            free = [i for i in attack.eligible(examination) if (unit, i) not in used]
            draw = float(rng.random())
            child = np.random.default_rng((seed, unit, len(used)))
            if not free:
                continue
            index = free[int(draw * len(free))]
            used.add((unit, index))
            after = attack.apply(examination, index, child, donors)
            indices = attack.attacked_indices(examination, after, index) if after is not None else ()
            if after is not None and indices:
                kept = after.commands[: max(indices) + 1]
                out.append(Case(unit, kept, indices, examination.commands[index]))
    return out


Cases = Mapping[str, Sequence[Case]]  # attack -> its cases
