"""Who notices, in the demonstration of the images wing: simulated readers, the detector, the signatures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanward.cli.demo_images_signed import Case, signed_cases
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.forensics.examining import Detector, Found
    from scanward.forensics.families import Sample
    from scanward.tampering.demonstration import Plan, Progress

READERS = 5
CATEGORIES = 5
WOMEN = 150  # of the test whose pictures are read, examined and signed
PICTURES = 6  # pairs that the report shows
EPOCHS = 12  # passes of the detector
FAMILIES = ("copy-move",)  # that the detector learns beside the generator
FALSE_ALARMS = 0.05  # share of genuine women
GENERATOR = "generator:demonstration"


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate with its interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def above_chance(self) -> bool:
        """Of an AUC: beyond what chance explains."""
        return self.low > 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A genuine picture, its modified self, and what the detector found in both."""

    genuine: Sample
    modified: Sample
    found_genuine: Found
    found_modified: Found


@dataclass(frozen=True, slots=True)
class Caught:
    """What each of the three found. Shares are of women for genuine pictures, of pictures for modified ones."""

    women: int
    genuine: int
    modified: int
    readers: Figure
    detector: Figure
    found: Figure
    alarmed: Figure
    false_alarms: float
    learned: dict[str, int]
    signatures: tuple[Case, ...]
    pairs: tuple[Pair, ...] = field(repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """What the figures allow to be said, and no more."""
        readers = (
            "told modified pictures from genuine ones beyond chance"
            if self.readers.above_chance
            else "did not tell modified pictures from genuine ones beyond chance"
        )
        ahead = self.detector.low > self.readers.high
        detector = (
            f"told them, ahead of the readers{'' if ahead else ' by less than chance may explain'}"
            if self.detector.above_chance and self.detector.value > self.readers.value
            else "told them beyond chance, no better than the readers"
            if self.detector.above_chance
            else "did not tell them beyond chance"
        )
        held = bool(self.signatures) and all(case.as_expected for case in self.signatures)
        signatures = (
            "held for every picture as it was signed and for none that was modified"
            if held
            else "did NOT do what they should: see the table"
        )
        return (
            f"{READERS} SIMULATED readers {readers} (AUC {self.readers}).",
            f"The detector {detector} (AUC {self.detector}); with alarms at "
            f"{100 * self.alarmed.value:.0f} % of genuine "
            f"women ({100 * self.false_alarms:.0f} % were set) it found {100 * self.found.value:.0f} % of modified "
            "pictures.",
            f"Signatures {signatures}.",
        )

    def as_json(self) -> dict[str, Any]:
        """The shape of ``caught`` in ``demo-images.json``."""

        def told(figure: Figure) -> dict[str, float | None]:
            parts = {"value": figure.value, "low": figure.low, "high": figure.high}
            return {name: value if math.isfinite(value) else None for name, value in parts.items()}

        return {
            "women": self.women,
            "genuine": self.genuine,
            "modified": self.modified,
            "readers": {"simulated": True, "count": READERS, "auc": told(self.readers)},
            "detector": {
                "auc": told(self.detector),
                "found": told(self.found),
                "women_alarmed": told(self.alarmed),
                "false_alarms_set": self.false_alarms,
                "women_learned_from": self.learned,
            },
            "signatures": [{"what": c.name, "expected": c.expected, "said": c.said} for c in self.signatures],
            "words": list(self.words),
        }


def catch(
    plan: Plan,
    data: dict[str, Path],
    run: Path,
    out: Path,
    progress: Progress,
    note: Callable[[str], None],
) -> Caught:
    """Train a detector (or take the one in ``out``), and let all three look at the same pictures of the test's women.

    Raises
    ------
    InputError, DecodeError, LearningError
        See `scanward.forensics.making.train`, and of a detector in ``out`` that is damaged.
    SettingsError
        The detector in ``out`` is not one of this demonstration.
    """
    from scanward.forensics.families import GENUINE, samples
    from scanward.mammography.manifest import read_manifest
    from scanward.tampering.evaluation.bootstrap import Draws, auc

    detector = _detector(plan, data["detector"], run, out, progress, note)
    women = sorted(read_manifest(data["test"]).patients())[:WOMEN]
    note(f"readers, detector and signatures look at pictures of {len(women)} other women")
    with progress("modifying", 4 * len(women)) as step:
        shown: list[Sample] = []
        for sample in samples(
            data["test"], [GENUINE, GENERATOR], plan.seed, runs={"demonstration": run}, patients=women
        ):
            shown.append(sample)
            step()
    rate = max(FALSE_ALARMS, 1 / (len(detector.facts.calibration) + 1))
    with progress("examining", len(shown)) as step:
        found: list[Found] = []
        for sample in shown:
            found.append(detector.examine(sample.picture, sample.breast, false_alarms=rate))
            step()
    draws = Draws.of([s.patient for s in shown], resamples=1000, seed=plan.seed)
    scores = np.array([one.score for one in found])
    forged = np.array([s.forged for s in shown])
    clean, lies = np.flatnonzero(~forged).astype(np.int64), np.flatnonzero(forged).astype(np.int64)
    told = draws.estimate(auc(draws, (clean, scores[clean]), (lies, scores[lies])))
    alarms = np.array([one.alarm for one in found], dtype=np.float64)
    pairs = _pairs(shown, found)
    return Caught(
        women=len(women),
        genuine=len(clean),
        modified=len(lies),
        readers=_read(shown, plan.seed),
        detector=_figure(told),
        found=_figure(draws.share(lies, alarms[lies])),
        alarmed=_women_alarmed(shown, alarms, clean),
        false_alarms=rate,
        learned=dict(detector.facts.counts),
        signatures=signed_cases([(p.genuine.picture, p.modified.picture) for p in pairs]),
        pairs=tuple(_shown(pairs)),
    )


def _detector(
    plan: Plan, data: Path, run: Path, out: Path, progress: Progress, note: Callable[[str], None]
) -> Detector:
    from scanward.forensics.detector_files import FILE
    from scanward.forensics.examining import Detector
    from scanward.forensics.making import Making, train
    from scanward.mammography.manifest import read_manifest
    from scanward.tampering.checkpoints import hashed, load_run

    generator = load_run(run)
    if (out / FILE).exists():
        kept = Detector.load(out)
        mine = {*hashed(set(read_manifest(data).patients())), *generator.facts.patients}
        if kept.facts.generators != {"demonstration": generator.fingerprint} or set(kept.facts.women) != mine:
            raise SettingsError(
                "a detector that did not learn from these phantoms and this generator",
                str(out),
                "remove that folder: the same command trains it anew",
            )
        return kept
    note("training a detector on genuine and modified phantoms of other women")
    with progress("detector", 1.0) as step:
        reached = 0.0

        def tell(what: str, share: float) -> None:  # every piece of work fills the bar anew
            nonlocal reached
            step(share - reached, what)
            reached = share

        made = train(
            data,
            {"demonstration": run},
            Making(epochs=EPOCHS, seed=plan.seed, families=FAMILIES),
            tell=tell,
        )
    made.save(out)
    return made


def _read(shown: Sequence[Sample], seed: int) -> Figure:
    """SIMULATED readers' AUC by Obuchowski and Rockette's model, readers and women random."""
    from scanward.reading.mrmc.covariances import estimate
    from scanward.reading.mrmc.empirical import EmpiricalAUC
    from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
    from scanward.reading.mrmc.ratings import dense
    from scanward.reading.mrmc.results import Random
    from scanward.reading.observers import ModelObserver, scores_of

    names = [f"{s.name} {'modified' if s.forged else 'genuine'}" for s in shown]
    question = "manipulation"
    scores = scores_of({name: s.picture for name, s in zip(names, shown, strict=True)}, [question])
    readers = [f"R{number}" for number in range(1, READERS + 1)]
    rows = [
        (
            reader,
            name,
            int(s.forged),
            ModelObserver(reader, scores, seed).rate(name, question, CATEGORIES),
            s.patient,
        )
        for reader in readers
        for name, s in zip(names, shown, strict=True)
    ]
    reader, case, truth, rating, patient = zip(*rows, strict=True)
    ratings = dense(reader, ["looking"] * len(rows), case, truth, [float(r) for r in rating], patient)
    (one,) = obuchowski_rockette(estimate(ratings, EmpiricalAUC()), Random.BOTH).treatments
    return Figure(one.estimate, one.low, one.high)


def _women_alarmed(shown: Sequence[Sample], alarms: Any, clean: Any) -> Figure:
    """Share of women with an alarm at one of their genuine pictures: what the rate promises is by woman."""
    from scanward.tampering.evaluation.bootstrap import Draws

    most: dict[str, float] = {}
    for row in clean:
        who = shown[int(row)].patient
        most[who] = max(float(alarms[row]), most.get(who, 0.0))
    draws = Draws.of(list(most), resamples=1000)
    return _figure(draws.share(np.arange(len(most)), np.array(list(most.values()))))


def _figure(told: Any) -> Figure:
    return Figure(
        *(float("nan") if value is None else float(value) for value in (told.value, told.low, told.high))
    )


def _pairs(shown: Sequence[Sample], found: Sequence[Found]) -> list[Pair]:
    genuine = {s.name: (s, f) for s, f in zip(shown, found, strict=True) if not s.forged}
    return [
        Pair(genuine[s.name][0], s, genuine[s.name][1], f)
        for s, f in zip(shown, found, strict=True)
        if s.forged and s.name in genuine
    ]


def _shown(pairs: Sequence[Pair]) -> list[Pair]:
    """The first ones of both kinds, whatever was found in them: not the best."""
    removed = [p for p in pairs if p.modified.cancer][: PICTURES // 2]
    inserted = [p for p in pairs if not p.modified.cancer][: PICTURES // 2]
    return [*inserted, *removed]
