"""From two opinions to one number, its p-value, its likelihood ratio, and, with a prior alone, a probability.

The rule that makes one number of the two was fixed before anything is calibrated: both are put on the scale of genuine
pictures (median 0, spread 1), and what the second has above one spread is added to the first: of a picture that is not
strange at all, the one that learned from forgeries speaks alone. The number is calibrated once, conformally, with the
woman as the unit (her strangest picture's number), on genuine women used for nothing else. The likelihood ratio comes
from a logistic curve through genuine and forged pictures of yet other women, and is clamped to what so many pictures
can support: with n pictures of one kind nothing beyond n + 1 to 1 is claimed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from scanward.calibration import Calibration, units_needed
from scanward.errors import LearningError, SettingsError

BEYOND = 1.0  # spreads of genuine pictures: where the second opinion begins to count; docs/adr/0014 tells why


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Median and spread of an opinion's scores on genuine pictures."""

    middle: float
    spread: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Scale:
        """Median, and 1.4826 times the median deviation, of finite scores."""
        values = np.asarray(scores, dtype=np.float64)
        middle = float(np.median(values))
        return cls(middle, max(1.4826 * float(np.median(np.abs(values - middle))), 1e-6))

    def __call__(self, score: float) -> float:
        return (score - self.middle) / self.spread


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Logarithm of the likelihood ratio: ``slope * score + offset``, clamped to ``low`` .. ``high``."""

    slope: float
    offset: float
    low: float
    high: float

    def __call__(self, score: float) -> float:
        """The likelihood ratio."""
        return math.exp(min(max(self.slope * score + self.offset, self.low), self.high))

    def clamped(self, score: float) -> bool:
        """Whether more would have been told than the pictures support."""
        return not self.low < self.slope * score + self.offset < self.high


def combined(network: float, second: float, scales: Mapping[str, Scale]) -> float:
    """One number of both opinions: the network's, and what the second has beyond `BEYOND`."""
    return scales["network"](network) + max(scales["second"](second) - BEYOND, 0.0)


def curve(genuine: Sequence[float], forged: Sequence[float]) -> Curve:
    """Logistic regression of forged against genuine numbers, both kinds weighed alike.

    Raises
    ------
    LearningError
        One kind is missing.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(genuine) or not len(forged):
        raise LearningError("no genuine or no forged picture", "likelihood ratio", "give more women")
    values = np.array([*genuine, *forged])
    scale = Scale.of(list(values))
    rows = ((values - scale.middle) / scale.spread)[:, None]
    labels = np.r_[np.zeros(len(genuine)), np.ones(len(forged))]
    fitted = LogisticRegression(class_weight="balanced", C=10.0).fit(rows, labels)
    slope = max(float(fitted.coef_[0, 0]) / scale.spread, 0.0)  # never the likelier genuine, the stranger
    offset = float(fitted.intercept_[0]) - slope * scale.middle
    return Curve(slope, offset, -math.log(len(forged) + 1), math.log(len(genuine) + 1))


def women(patients: Iterable[str], scores: Iterable[float]) -> Calibration:
    """Each woman's largest number."""
    most: dict[str, float] = {}
    for patient, score in zip(patients, scores, strict=True):
        most[patient] = max(score, most.get(patient, -math.inf))
    return Calibration.of(list(most.values()))


def require(calibration: Calibration, false_alarms: float) -> None:
    """Refuse a false-alarm rate that these women cannot express.

    Raises
    ------
    SettingsError
        Naming how many are needed, or which rate can be had.
    """
    if not 0 < false_alarms < 1:
        raise SettingsError(
            f"{false_alarms:g} is no share of genuine women", "--false-alarms", "give one between 0 and 1"
        )
    count = len(calibration.scores)
    if count < units_needed(false_alarms):
        raise SettingsError(
            f"a false-alarm rate of {false_alarms:g} cannot be expressed with {count} women of calibration",
            "--false-alarms",
            f"ask for {1 / (count + 1):.2g} or more, or train with at least {units_needed(false_alarms)} women "
            "for calibration alone",
        )


def probability(likelihood_ratio: float, prior: float) -> float:
    """Bayes: of a picture whose share of altered ones beforehand was ``prior``."""
    if not 0 < prior < 1:
        raise SettingsError(f"{prior:g} is no prior", "--prior", "give one between 0 and 1")
    odds = likelihood_ratio * prior / (1 - prior)
    return odds / (1 + odds)


def parted(patients: Iterable[str], shares: Mapping[str, float], seed: int) -> dict[str, tuple[str, ...]]:
    """Women by part, in an order that their names' hashes make: every woman in one part, shares as asked."""
    order = sorted(set(patients), key=lambda p: hashlib.sha256(f"{seed}\0{p}".encode()).digest())
    out: dict[str, tuple[str, ...]] = {}
    at, share = 0, 0.0
    for name, part in shares.items():
        share += part / sum(shares.values())
        end = round(share * len(order))
        out[name] = tuple(order[at:end])
        at = end
    return out
