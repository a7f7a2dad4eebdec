"""Two opinions as one: the network that learned from forgeries, and the one that never saw any.

Both scores are put on the scale of genuine pictures that neither learned from (what was learned by heart is too near),
and `scanward.forensics.verdicts.combined` makes the one number of them that verdicts are taken from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scanward.errors import LearningError
from scanward.forensics.baselines import Scorer
from scanward.forensics.families import GENUINE, Sample
from scanward.forensics.oneclass import OneClass
from scanward.forensics.training import Network
from scanward.forensics.verdicts import Scale, combined
from scanward.mammography.pictures import Mask, Pixels


class Opinions:
    """``network`` and ``second``; has the shape of `scanward.forensics.baselines.Scorer`, and ``heat``."""

    name = "scanward"

    def __init__(self, network: Network, second: OneClass, scales: Mapping[str, Scale] | None = None) -> None:
        self.network, self.second = network, second
        self.scales = dict(scales or {})

    def fit_with(self, samples: Sequence[Sample], others: Sequence[Sample]) -> Self:
        """Learn from ``samples``; take the scales from the genuine ones among ``others``, of other women.

        Raises
        ------
        LearningError
            No genuine, or no forged picture to learn from; too few blocks; no genuine one among ``others``.
        """
        genuine = [s for s in others if s.family == GENUINE]
        if not genuine:
            raise LearningError(
                "no genuine picture to take scales from", "second set of women", "give more women"
            )
        self.network.fit(samples)
        self.second.fit(samples)
        told: dict[str, Scorer] = {"network": self.network, "second": self.second}
        self.scales = {
            name: Scale.of([one.score(s.picture, s.breast) for s in genuine]) for name, one in told.items()
        }
        return self

    def score(self, picture: Pixels, breast: Mask) -> float:
        """Higher: the likelier altered."""
        return combined(self.network.score(picture, breast), self.second.score(picture, breast), self.scales)

    def heat(self, sample: Sample) -> NDArray[np.float32]:
        """Where, (rows, columns) in [0, 1], 0 outside the breast."""
        return self.network.heat(sample)
