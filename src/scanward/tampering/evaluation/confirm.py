"""The evaluation itself: classifiers first, then everything that tampers, generators and controls by one measure.

In order: train the classifiers on genuine pictures; refuse to claim by one whose AUC on the genuine test is too low;
let every tamper insert and remove; measure against the truth; ask the classifiers, plainly and after blur, JPEG and
noise of genuine and modified pictures alike; draw whole patients for intervals, the same for all, so that every
difference is paired.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.tampering.evaluation import processing
from scanward.tampering.evaluation.blobs import Yardstick, find_blob, grown, signal
from scanward.tampering.evaluation.bootstrap import UNKNOWN, Draws, Estimate, auc, delong_p
from scanward.tampering.evaluation.classifiers import Classifier, Scores, train, youden
from scanward.tampering.evaluation.measures import cycle_error, insertion, removal, spill
from scanward.tampering.evaluation.results import (
    CONDITIONS,
    ByClassifier,
    ClassifierResult,
    Confirmation,
    Detection,
    Part,
    Settings,
    TamperResult,
)
from scanward.tampering.evaluation.sets import Data, Images, Masks, Pictures
from scanward.tampering.evaluation.tampers import REGION_MARGIN, Tamper, apply

Tick = Callable[[str, float], None]
Heard = dict[tuple[str, str], Scores]


@dataclass(frozen=True)
class Seen:
    """What is left for plots and sheets after an evaluation: pictures and scores of one tamper.

    ``removed`` are the test's cancers after removal, ``inserted`` its healthy ones after insertion, in their order;
    ``scores`` log odds by (classifier, condition), where condition is healthy, cancer, removed or inserted.
    """

    name: str
    removed: Images
    inserted: Images
    remaining: NDArray[np.float64]
    plausible: NDArray[np.bool_]
    scores: dict[tuple[str, str], Scores]


class _Ear:
    """Scores of one set of pictures by every classifier after every processing."""

    def __init__(self, classifiers: Sequence[Classifier], names: Sequence[str]) -> None:
        self.classifiers = classifiers
        self.processes = {name: processing.named(name) for name in names}

    def __call__(
        self, x: Images, breast: Masks, *, plainly: bool = False, known: tuple[Images, Heard] | None = None
    ) -> Heard:
        """Scores by (classifier, processing); ``plainly`` without processing alone.

        ``known`` is a set that was heard already: whoever changes nothing need not be heard again.
        """
        if known is not None and np.array_equal(x, known[0]):
            return known[1]
        heard = {}
        for name, process in self.processes.items():
            if plainly and name != processing.PLAIN:
                continue
            processed = process(x)
            for classifier in self.classifiers:
                heard[classifier.name, name] = classifier.scores(processed, breast)
        return heard


@dataclass(frozen=True)
class _Made:
    """All pictures that one tamper makes of the test, as delivered."""

    removed: Images  # of cancers
    inserted: Images  # into healthy
    removed_from_healthy: Images
    inserted_into_cancer: Images
    back_to_healthy: Images  # remove(insert(healthy))
    back_to_cancer: Images
    outside: NDArray[np.float64]  # mean |change| outside the breast as it was made, healthy then cancers
    seconds: float


def confirm(
    data: Data,
    tampers: Sequence[Tamper],
    settings: Settings | None = None,
    *,
    cache: Path | None = None,
    progress: Tick | None = None,
    seen: Callable[[Seen], None] | None = None,
) -> Confirmation:
    """Evaluate every tamper on ``data.test``.

    Parameters
    ----------
    data : Data
        Genuine pictures; classifiers learn from ``learn`` and ``validate``.
    tampers : sequence of Tamper
        Generators and controls (`scanward.tampering.evaluation.controls`), evaluated alike.
    settings : Settings, optional
    cache : Path, optional
        Folder in which trained classifiers are kept, by fingerprint of pictures and settings.
    progress : callable, optional
        Told what is done, and the share of it.
    seen : callable, optional
        Given pictures and scores of each tamper, for plots.

    Raises
    ------
    SettingsError
        Two tampers of one name, or an unknown classifier or processing.
    LearningError
        A classifier whose loss is no number, or a generator that gives no finite pictures.
    """
    settings = settings or Settings()
    names = [t.name for t in tampers]
    if len(set(names)) < len(names) or processing.PLAIN not in settings.processings:
        raise SettingsError(
            "two tampers of one name, or no processing 'none'", "evaluation", "name each once, keep 'none'"
        )
    tick = progress or (lambda _what, _share: None)
    classifiers = [
        train(name, data.learn, data.validate, settings.training, cache=cache, tick=tick)
        for name in settings.classifiers
    ]
    court = _Court(data, classifiers, settings)
    results = []
    for i, tamper in enumerate(tampers):
        tick(f"{tamper.name}", i / len(tampers))
        results.append(court.judge(tamper, seen))
    tick("evaluated", 1.0)
    return court.confirmation(results)


class _Court:
    """Everything genuine, computed once; `judge` compares one tamper with it."""

    def __init__(self, data: Data, classifiers: list[Classifier], settings: Settings) -> None:
        self.data, self.classifiers, self.settings = data, classifiers, settings
        test = data.test
        self.healthy, self.cancer = test.take(test.healthy_rows), test.take(test.cancer_rows)
        self.draws = Draws.of(
            test.patients, resamples=settings.resamples, seed=settings.seed, level=settings.level
        )
        self.yardstick = Yardstick.of(data.learn)
        self.ear = _Ear(classifiers, settings.processings)
        self.of_healthy = self.ear(self.healthy.x, self.healthy.breast)
        self.of_cancer = self.ear(self.cancer.x, self.cancer.breast)
        validation = self.ear(data.validate.x, data.validate.breast)
        self.thresholds = {key: youden(data.validate.cancer, scores) for key, scores in validation.items()}
        self.genuine = {key: self._auc(self.of_healthy[key], self.of_cancer[key]) for key in self.of_healthy}
        self.assessable = {
            c.name: float(self.genuine[c.name, processing.PLAIN][0]) >= settings.least_auc
            for c in classifiers
        }

    def _auc(self, healthy: Scores, cancer: Scores) -> NDArray[np.float64]:
        test = self.data.test
        return auc(self.draws, (test.healthy_rows, healthy), (test.cancer_rows, cancer))

    def judge(self, tamper: Tamper, seen: Callable[[Seen], None] | None) -> TamperResult:
        made = _make(tamper, self.healthy, self.cancer)
        test, draws = self.data.test, self.draws
        on_healthy, on_cancer = test.healthy_rows, test.cancer_rows
        gone = removal(self.cancer, made.removed)
        put = insertion(self.healthy, made.inserted, self.yardstick)
        in_place = np.array(
            [(b & grown(r, REGION_MARGIN)).any() for b, r in zip(put.blobs, self.healthy.region, strict=True)]
        )
        scores = self._heard(made)
        beside_removal = spill(self.cancer.x, made.removed, self.cancer.breast, self.cancer.region)
        beside_insertion = spill(self.healthy.x, made.inserted, self.healthy.breast, put.blobs)
        by_classifier = tuple(self._by_classifier(key, scores, put.plausible) for key in self.thresholds)
        detection = tuple(self._detection(scores))
        if seen is not None:
            seen(self._seen(tamper, made, scores, gone.remaining, put.plausible))
        percent = 50.0  # the grey range is 2
        removed = draws.share(on_cancer, np.where(np.isnan(gone.remaining), np.nan, gone.removed))
        plausible = draws.share(on_healthy, put.plausible)
        return TamperResult(
            name=tamper.name,
            kind=tamper.kind,
            told=tamper.told,
            detection=detection,
            by_classifier=by_classifier,
            removed=removed,
            remaining=draws.mean(on_cancer, gone.remaining),
            residue=draws.mean(on_cancer, gone.residue),
            plausible=plausible,
            in_place=draws.share(on_healthy[put.plausible], in_place[put.plausible])
            if tamper.told
            else UNKNOWN,
            objections=dict(Counter(o for o in put.objections if o)),
            outside_breast=draws.mean(np.concatenate([on_healthy, on_cancer]), percent * made.outside),
            outside_removal=draws.mean(on_cancer, beside_removal.ratio),
            outside_insertion=draws.mean(on_healthy, beside_insertion.ratio),
            untouched_healthy=draws.mean(
                on_healthy,
                percent * cycle_error(self.healthy.x, made.removed_from_healthy, self.healthy.breast),
            ),
            cycle_healthy=draws.mean(
                on_healthy, percent * cycle_error(self.healthy.x, made.back_to_healthy, self.healthy.breast)
            ),
            cycle_cancer=draws.mean(
                on_cancer, percent * cycle_error(self.cancer.x, made.back_to_cancer, self.cancer.breast)
            ),
            seconds=made.seconds,
            verdict=self._verdict(detection, removed, plausible),
        )

    def _heard(self, made: _Made) -> dict[str, Heard]:
        healthy, cancer = (self.healthy.x, self.of_healthy), (self.cancer.x, self.of_cancer)
        around, near = self.healthy.breast, self.cancer.breast
        return {
            "removed": self.ear(made.removed, near, known=cancer),
            "inserted": self.ear(made.inserted, around, known=healthy),
            "removed from healthy": self.ear(made.removed_from_healthy, around, plainly=True, known=healthy),
            "inserted into cancer": self.ear(made.inserted_into_cancer, near, plainly=True, known=cancer),
        }

    def _detection(self, scores: dict[str, Heard]) -> list[Detection]:
        out = []
        for (classifier, process), healthy in self.of_healthy.items():
            cancer = self.of_cancer[classifier, process]
            for condition in CONDITIONS if process == processing.PLAIN else CONDITIONS[:3]:
                if not self.assessable[classifier]:
                    out.append(Detection(classifier=classifier, processing=process, condition=condition))
                    continue
                left, right = _sides(condition, healthy, cancer, scores, (classifier, process))
                now = self._auc(left, right)
                out.append(
                    Detection(
                        classifier=classifier,
                        processing=process,
                        condition=condition,
                        auc=self.draws.estimate(now),
                        difference=self.draws.estimate(self.genuine[classifier, process] - now),
                        delong_p=delong_p((healthy, left), (cancer, right)),
                    )
                )
        return out

    def _by_classifier(
        self,
        key: tuple[str, str],
        scores: dict[str, Heard],
        plausible: NDArray[np.bool_],
    ) -> ByClassifier:
        classifier, process = key
        if not self.assessable[classifier]:
            return ByClassifier(classifier=classifier, processing=process)
        test = self.data.test
        line = self.thresholds[key]
        found = self.of_cancer[key] >= line
        quiet = self.of_healthy[key] < line
        takes = scores["inserted"][key] >= line
        on_healthy, on_cancer = test.healthy_rows, test.cancer_rows
        return ByClassifier(
            classifier=classifier,
            processing=process,
            removed=self.draws.share(on_cancer[found], (scores["removed"][key] < line)[found]),
            inserted=self.draws.share(on_healthy, plausible & takes),
            crossed=self.draws.share(on_healthy[quiet], takes[quiet]),
        )

    def _verdict(self, detection: Sequence[Detection], removed: Estimate, plausible: Estimate) -> str:
        """One sentence that claims no more than the intervals do: classifiers first, then the truth."""
        if not all(self.assessable.values()):
            return "not assessable"
        if self.settings.exploratory:
            return "exploratory: nothing is claimed"
        if (
            min(len(set(self.healthy.patients)), len(set(self.cancer.patients)))
            < self.settings.least_patients
        ):
            return f"fewer than {self.settings.least_patients} patients on a side: nothing is claimed"
        enough = {
            (d.classifier, d.processing): d.difference.low is not None
            and d.difference.low >= self.settings.least_difference
            for d in detection
            if d.condition == "both"
        }
        plainly = [good for (_, process), good in enough.items() if process == processing.PLAIN]
        if not all(plainly):
            return "deceives some classifiers only" if any(plainly) else "deceives no classifier"
        said = "deceives every classifier, "
        said += "after every processing" if all(enough.values()) else "not after every processing"
        short = [
            what
            for what, share in (("lesions are gone", removed), ("insertions are plausible", plausible))
            if share.low is None or share.low < self.settings.least_share
        ]
        if short:
            return f"{said}; but too few {' and too few '.join(short)}"
        return f"{said}; lesions are gone, insertions are plausible"

    def _seen(
        self,
        tamper: Tamper,
        made: _Made,
        scores: dict[str, Heard],
        remaining: NDArray[np.float64],
        plausible: NDArray[np.bool_],
    ) -> Seen:
        plain = processing.PLAIN
        told = {}
        for c in self.classifiers:
            told[c.name, "healthy"] = self.of_healthy[c.name, plain]
            told[c.name, "cancer"] = self.of_cancer[c.name, plain]
            for condition in ("removed", "inserted"):
                told[c.name, condition] = scores[condition][c.name, plain]
        return Seen(tamper.name, made.removed, made.inserted, remaining, plausible, told)

    def confirmation(self, results: Sequence[TamperResult]) -> Confirmation:
        test, stick = self.data.test, self.yardstick
        weak = [name for name, good in self.assessable.items() if not good]
        lesions = [
            not stick.objection(
                find_blob(signal(self.cancer, i), self.cancer.breast[i], stick.threshold),
                self.cancer.breast[i],
                self.cancer.pectoral[i],
            )
            for i in range(len(self.cancer))
        ]
        return Confirmation(
            rows=test.size[0],
            columns=test.size[1],
            parts={
                name: _part(part)
                for name, part in (
                    ("learn", self.data.learn),
                    ("validate", self.data.validate),
                    ("test", test),
                )
            },
            settings=self.settings,
            assessable=not weak,
            why_not=(
                f"AUC on genuine test pictures below {self.settings.least_auc:g}: {', '.join(weak)}"
                if weak
                else ""
            ),
            truth="twins" if self.cancer.twinned.all() else "surroundings",
            lesions_measured=stick.lesions,
            ranges={
                t: (stick.low[t], stick.high[t] if math.isfinite(stick.high[t]) else None) for t in stick.low
            },
            ceiling=self.draws.share(test.cancer_rows, np.array(lesions)),
            classifiers=tuple(self._classifier(c) for c in self.classifiers),
            tampers=tuple(results),
        )

    def _classifier(self, classifier: Classifier) -> ClassifierResult:
        return ClassifierResult(
            name=classifier.name,
            parameters=classifier.parameters,
            epochs=classifier.epochs,
            validation_auc=classifier.validation_auc,
            threshold=classifier.threshold,
            genuine={
                process: self.draws.estimate(draws)
                for (name, process), draws in self.genuine.items()
                if name == classifier.name
            },
            assessable=self.assessable[classifier.name],
        )


def _sides(
    condition: str,
    healthy: Scores,
    cancer: Scores,
    scores: dict[str, Heard],
    key: tuple[str, str],
) -> tuple[Scores, Scores]:
    """Scores of what was healthy and of what was a cancer, as the condition has them."""
    removed, inserted = scores["removed"][key], scores["inserted"][key]
    match condition:
        case "removed":
            return healthy, removed
        case "inserted":
            return inserted, cancer
        case "both":
            return inserted, removed
        case "removal of all":
            return scores["removed from healthy"][key], removed
        case _:
            return inserted, scores["inserted into cancer"][key]


def _make(tamper: Tamper, healthy: Pictures, cancer: Pictures) -> _Made:
    start = time.perf_counter()
    raw_removed = apply(tamper.remove, cancer.x, cancer.region, None)
    raw_inserted = apply(tamper.insert, healthy.x, healthy.region, None)
    seconds = (time.perf_counter() - start) / (len(healthy) + len(cancer))
    removed = np.where(cancer.breast, raw_removed, cancer.x)
    inserted = np.where(healthy.breast, raw_inserted, healthy.x)
    outside = [
        spill(part.x, raw, part.breast, part.region).outside_breast
        for part, raw in ((healthy, raw_inserted), (cancer, raw_removed))
    ]
    return _Made(
        removed=removed,
        inserted=inserted,
        removed_from_healthy=apply(tamper.remove, healthy.x, healthy.region, healthy.breast),
        inserted_into_cancer=apply(tamper.insert, cancer.x, cancer.region, cancer.breast),
        back_to_healthy=apply(tamper.remove, inserted, healthy.region, healthy.breast),
        back_to_cancer=apply(tamper.insert, removed, cancer.region, cancer.breast),
        outside=np.concatenate(outside),
        seconds=seconds,
    )


def _part(pictures: Pictures) -> Part:
    return Part(
        healthy=int((~pictures.cancer).sum()),
        cancer=int(pictures.cancer.sum()),
        patients=len(set(pictures.patients)),
    )
