"""How well forged pictures are told from genuine ones, by family and processing, with intervals by woman.

Image level: area under the ROC curve, and the share of forged pictures found (Pd) where a given share of the genuine
ones is alarmed at; the threshold is taken anew in every bootstrap draw. Region level: area under the ROC curve over
the pixels of the breast, altered against not, picture by picture; and intersection over union at a threshold fixed on
other women. Draws are of whole women (`scanward.tampering.evaluation.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from scanward.errors import LeakError, SettingsError
from scanward.forensics.baselines import Scorer
from scanward.forensics.families import CYCLE, GENUINE, Sample
from scanward.forensics.processing import PLAIN, processed
from scanward.mammography.pictures import Mask
from scanward.tampering.evaluation.bootstrap import UNKNOWN, Draws, Estimate, Floats, Ints, auc, midranks

Heat = Callable[[Sample], NDArray[np.float32]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of many pictures by one method: who, what, how much."""

    family: NDArray[np.str_]
    patient: NDArray[np.str_]
    score: Floats

    def rows(self, family: str) -> Ints:
        """The pictures of a family."""
        return np.flatnonzero(self.family == family).astype(np.int64)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One method on one family after one processing. ``unseen``: the family was in no training of the method."""

    method: str
    family: str
    processing: str = PLAIN
    unseen: bool
    pictures: int
    women: int
    auc: Estimate
    found: Estimate  # share of forged pictures at `Told.false_alarms`
    pixel_auc: Estimate = UNKNOWN
    iou: Estimate = UNKNOWN


def check_disjoint_women(learned: Iterable[str], tested: Iterable[str]) -> None:
    """Refuse women who are in the detector's training and in the test.

    Raises
    ------
    LeakError
        There are some.
    """
    both = set(learned) & set(tested)
    if both:
        raise LeakError(
            f"{len(both)} women of the test are in the detector's training, as {sorted(both)[0]!r}",
            "evaluation",
            "split by patient: scanward mammo split",
        )


def scored(
    method: Scorer,
    samples: Sequence[Sample],
    processing: str = PLAIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Every picture's score, after ``processing``.

    Raises
    ------
    SettingsError
        A score that is no number.
    """
    values = np.empty(len(samples))
    for i, sample in enumerate(samples):
        shown = sample if processing == PLAIN else processed(sample, processing, seed)
        values[i] = method.score(shown.picture, shown.breast)
        if progress is not None:
            progress(i + 1, len(samples))
    if not np.isfinite(values).all():
        raise SettingsError(
            f"{int((~np.isfinite(values)).sum())} scores of {method.name} are no numbers",
            processing,
            "train it again",
        )
    return Scores(np.array([s.family for s in samples]), np.array([s.patient for s in samples]), values)


def found_at(draws: Draws, genuine: tuple[Ints, Floats], forged: tuple[Ints, Floats], share: float) -> Floats:
    """Share of forged pictures above the least threshold at which at most ``share`` of the genuine are above it.

    In every draw (1 + resamples,); a tie with the threshold is not above it.
    """
    rows, scores = genuine
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    weights = draws.of_images(rows[order])
    above = np.cumsum(weights, axis=1)  # genuine pictures with at least this score
    # the first genuine picture that may not be above the threshold; ties with it fall with it
    first = (above <= share * above[:, -1:] + 1e-9).sum(axis=1)
    threshold = ranked[np.minimum(first, len(ranked) - 1)]
    rising = np.argsort(forged[1], kind="stable")
    mine = draws.of_images(forged[0][rising])
    below = np.zeros((len(mine), len(rising) + 1))
    np.cumsum(mine, axis=1, out=below[:, 1:])
    at = np.searchsorted(forged[1][rising], threshold, "right")
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = 1 - below[np.arange(len(mine)), at] / below[:, -1]
    return out


def rows_of(
    name: str,
    scores: Scores,
    *,
    families: Sequence[str],
    learned: Collection[str],
    false_alarms: float,
    processing: str = PLAIN,
    resamples: int = 1000,
    regions: Mapping[str, tuple[Estimate, Estimate]] | None = None,
) -> list[Row]:
    """A row for every family that has pictures, and one of all forged families together (``all forged``)."""
    draws = Draws.of(list(scores.patient), resamples=resamples)
    genuine = scores.rows(GENUINE)
    out = []
    forged = [f for f in families if f != GENUINE and not f.startswith(CYCLE)]
    named: list[tuple[str, list[str]]] = [(f, [f]) for f in families if f != GENUINE]
    if len(forged) > 1:
        named.append(("all forged", forged))
    for family, parts in named:
        rows = np.flatnonzero(np.isin(scores.family, parts)).astype(np.int64)
        if not len(rows) or not len(genuine):
            continue
        sides = ((genuine, scores.score[genuine]), (rows, scores.score[rows]))
        pixel, iou = (regions or {}).get(family, (UNKNOWN, UNKNOWN))
        out.append(
            Row(
                method=name,
                family=family,
                processing=processing,
                unseen=not any(part in learned for part in parts),
                pictures=len(rows),
                women=len(set(scores.patient[rows])),
                auc=draws.estimate(auc(draws, *sides)),
                found=_share(draws, found_at(draws, *sides, false_alarms), rows),
                pixel_auc=pixel,
                iou=iou,
            )
        )
    return out


def _share(draws: Draws, values: Floats, rows: Ints) -> Estimate:
    """An estimate; of none or all, Clopper and Pearson's interval with women as trials."""
    made = draws.estimate(values)
    if made.value not in (0.0, 1.0):
        return made
    return draws.share(rows, np.full(len(rows), made.value))


def pixel_auc(heat: NDArray[np.floating], region: Mask, breast: Mask) -> float:
    """P(an altered pixel of the breast is hotter than one that is not) + ties / 2; NaN where one kind is missing."""
    inside = breast | region
    hot, truth = np.asarray(heat, dtype=np.float64)[inside], region[inside]
    altered = int(truth.sum())
    if altered in (0, len(truth)):
        return float("nan")
    ranks = midranks(hot)
    return float((ranks[truth].sum() - altered * (altered + 1) / 2) / (altered * (len(truth) - altered)))


def iou(heat: NDArray[np.floating], region: Mask, breast: Mask, threshold: float) -> float:
    """Intersection over union of what is hotter than ``threshold`` in the breast, and what was altered."""
    hot = (np.asarray(heat) > threshold) & breast
    union = int((hot | region).sum())
    return float((hot & region).sum() / union) if union else float("nan")


def heat_threshold(heat: Heat, validation: Sequence[Sample], steps: int = 60) -> float:
    """The threshold whose mean intersection over union on forged pictures of other women is largest."""
    forged = [s for s in validation if s.forged]
    if not forged:
        raise SettingsError("no forged picture", "validation", "give some: the threshold is fixed on them")
    maps = [heat(s) for s in forged]
    values = np.concatenate([m[s.breast] for m, s in zip(maps, forged, strict=True)])
    tried = np.unique(np.quantile(values, 1 - np.geomspace(0.7, 0.001, steps)))
    means = [
        float(np.nanmean([iou(m, s.region, s.breast, t) for m, s in zip(maps, forged, strict=True)]))
        for t in tried
    ]
    return float(tried[int(np.argmax(means))])


def regions_of(
    heat: Heat, samples: Sequence[Sample], threshold: float, *, resamples: int = 1000
) -> dict[str, tuple[Estimate, Estimate]]:
    """Family -> (pixel AUC, intersection over union), means over forged pictures."""
    forged = [s for s in samples if s.forged]
    if not forged:
        return {}
    draws = Draws.of([s.patient for s in forged], resamples=resamples)
    areas, unions = np.empty(len(forged)), np.empty(len(forged))
    for i, sample in enumerate(forged):
        made = heat(sample)
        areas[i] = pixel_auc(made, sample.region, sample.breast)
        unions[i] = iou(made, sample.region, sample.breast, threshold)
    families = np.array([s.family for s in forged])
    out = {}
    for family in dict.fromkeys(families.tolist()):
        rows = np.flatnonzero(families == family).astype(np.int64)
        out[str(family)] = (draws.mean(rows, areas[rows]), draws.mean(rows, unions[rows]))
    return out


def worst(rows: Iterable[Row]) -> Row | None:
    """The unseen family (of no processing) that a method tells least, by AUC."""
    known = [
        r
        for r in rows
        if r.unseen
        and r.processing == PLAIN
        and r.auc.value is not None
        and r.family != "all forged"
        and not r.family.startswith(CYCLE)
    ]
    return min(known, key=lambda r: r.auc.value or 0.0, default=None)
