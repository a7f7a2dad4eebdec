"""What an evaluation found, as plain data: it becomes JSON, tables and pages."""

from __future__ import annotations

from typing import Any

import msgspec

from scanward.tampering.evaluation import processing
from scanward.tampering.evaluation.bootstrap import UNKNOWN, Estimate
from scanward.tampering.evaluation.classifiers import TrainSettings

FORMAT = "scanward-confirmation-1"
LEAST_AUC = 0.90  # of a classifier on genuine pictures, before anything is claimed by it
CONDITIONS = ("removed", "inserted", "both", "removal of all", "insertion into all")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an evaluation is done.

    ``least_auc`` is what a classifier must reach on genuine test pictures before anything is claimed by it;
    ``least_difference`` what the lower end of the paired difference of AUC must reach to be called a deception: a blur
    costs a classifier a little, too. ``least_share`` is what the lower ends of the shares of lesions removed and of
    plausible insertions must reach: rubbish deceives classifiers, too. With a ``least_auc`` below the usual one figures
    are given of weaker classifiers, and nothing is claimed. ``least_patients`` is how many must be on each side of the
    test: of fewer, an interval is no more than a guess.
    """

    classifiers: tuple[str, ...] = ("plain", "smooth")
    training: TrainSettings = TrainSettings()
    processings: tuple[str, ...] = processing.DEFAULT
    least_auc: float = LEAST_AUC
    least_difference: float = 0.10
    least_share: float = 0.5
    least_patients: int = 10
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    @property
    def exploratory(self) -> bool:
        """Whether classifiers are asked that are too weak for any claim."""
        return self.least_auc < LEAST_AUC


class ClassifierResult(msgspec.Struct, frozen=True, kw_only=True):
    """One classifier on genuine pictures. ``assessable``: its AUC on the test is enough to claim anything by it."""

    name: str
    parameters: int
    epochs: int
    validation_auc: float
    threshold: float
    genuine: dict[str, Estimate]  # AUC on genuine test pictures, by processing
    assessable: bool


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """AUC of healthy against cancer where one or both sides were modified, and genuine minus modified, paired.

    ``removed``: cancers after removal against genuine healthy. ``inserted``: genuine cancers against healthy after
    insertion. ``both``: both modified, labels as they were: below 0.5 the classifier takes one for the other.
    ``removal of all``: both sides went through removal, so that its traces tell nothing: 0.5 when all lesions are
    gone. ``insertion into all`` likewise. These two are told without processing alone.
    """

    classifier: str
    processing: str
    condition: str
    auc: Estimate = UNKNOWN
    difference: Estimate = UNKNOWN
    delong_p: float | None = None  # images taken as independent: a check beside the interval


class ByClassifier(msgspec.Struct, frozen=True, kw_only=True):
    """Of lesions that a classifier saw, the share it no longer sees; of plausible insertions those it takes for one."""

    classifier: str
    processing: str
    removed: Estimate = UNKNOWN  # of cancers at or above the threshold before, the share below it after
    inserted: Estimate = UNKNOWN  # of all healthy: plausible, and at or above the threshold
    crossed: Estimate = UNKNOWN  # of healthy below the threshold before, the share at or above it after


class TamperResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one generator or control."""

    name: str
    kind: str
    told: bool
    detection: tuple[Detection, ...]
    by_classifier: tuple[ByClassifier, ...]
    removed: Estimate  # share of lesions removed, by the truth
    remaining: Estimate  # mean share of the lesions' light that is left
    residue: Estimate  # what else differs from healthy in the region, relative to the lesion
    plausible: Estimate  # share of healthy pictures with one plausible lesion put in
    in_place: Estimate  # of plausible ones, those that meet the region asked for (told ones only)
    objections: dict[str, int]  # why insertions are not plausible: first reason, count
    outside_breast: (
        Estimate  # mean |change| outside the breast before delivery takes it off, per cent of the grey range
    )
    outside_removal: Estimate  # mean |change| outside the region relative to inside, removals
    outside_insertion: Estimate
    untouched_healthy: (
        Estimate  # mean |change| that removal makes in healthy breasts, per cent of the grey range
    )
    cycle_healthy: Estimate  # mean |remove(insert(x)) - x| in the breast, per cent of the grey range
    cycle_cancer: Estimate
    seconds: float  # per picture, of inserting and removing
    verdict: str

    def of_classifier(self, classifier: str, processing_: str = processing.PLAIN) -> ByClassifier:
        """One row of `by_classifier`."""
        return next(
            b for b in self.by_classifier if (b.classifier, b.processing) == (classifier, processing_)
        )

    def find(self, classifier: str, condition: str, processing_: str = processing.PLAIN) -> Detection:
        """One figure of `detection`."""
        return next(
            d
            for d in self.detection
            if (d.classifier, d.condition, d.processing) == (classifier, condition, processing_)
        )


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """How many took part."""

    healthy: int
    cancer: int
    patients: int


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """A whole evaluation."""

    format: str = FORMAT
    rows: int
    columns: int
    parts: dict[str, Part]
    settings: Settings
    assessable: bool  # every classifier reached ``least_auc``
    why_not: str
    truth: str  # what removal is measured against: "twins" of phantoms, or "surroundings" of regions
    lesions_measured: int  # genuine lesions behind the ranges of a plausible one
    ranges: dict[str, tuple[float, float | None]]
    ceiling: Estimate  # share of genuine test lesions that pass as plausible
    classifiers: tuple[ClassifierResult, ...]
    tampers: tuple[TamperResult, ...]

    def find(self, name: str) -> TamperResult:
        """The result of one generator or control."""
        return next(t for t in self.tampers if t.name == name)

    def as_json(self) -> dict[str, Any]:
        """For a result file."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told
