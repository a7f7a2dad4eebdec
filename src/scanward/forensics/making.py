"""Making a detector out of a data set: women in three parts, two opinions, one curve, one calibration.

=============  ====================================================================================
``learn``      genuine and forged pictures that the network learns from; genuine ones of the second opinion
``weigh``      genuine and forged pictures that the likelihood ratio is taken from
``calibrate``  genuine pictures alone, used for nothing else
=============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from scanward import __version__
from scanward.errors import LearningError, SettingsError
from scanward.forensics.detector_files import DetectorFacts
from scanward.forensics.evaluation import Scores
from scanward.forensics.examining import Detector
from scanward.forensics.families import CLASSICAL, GENERATOR, GENUINE, Sample, samples
from scanward.forensics.oneclass import OneClass, has_block
from scanward.forensics.opinions import Opinions
from scanward.forensics.training import Network
from scanward.forensics.verdicts import curve, parted, women
from scanward.mammography.manifest import read_manifest
from scanward.tampering.checkpoints import Run, hashed, load_run, marks

SHARES: Mapping[str, float] = {"learn": 0.55, "weigh": 0.15, "calibrate": 0.30}
LEAST = 2  # women of each part
SIDE = 256  # px: larger pictures are shown in a frame of this side
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a detector is made.

    ``side`` 0: the data set's own, `SIDE` at most; ``epochs`` 0: as `Network` chooses; ``classical``: so many classical
    forgeries of each picture learned from, None: of all families.
    """

    epochs: int = 0
    width: int = 32
    side: int = 0
    seed: int = 0
    classical: int | None = None
    families: tuple[str, ...] = CLASSICAL


def train(
    data: Path,
    runs: Mapping[str, Path],
    making: Making | None = None,
    *,
    patients: Collection[str] | None = None,
    keep: Path | None = None,
    tell: Tell = lambda what, share: None,
) -> Detector:
    """Make a detector.

    Parameters
    ----------
    data : Path
        A data set (`scanward.mammography`).
    runs : name -> folder
        Generators whose pictures are learned, beside the classical forgeries.
    patients : pseudonyms
        Those alone (a part of a split); None: all.
    keep : Path, optional
        A folder where the network's training is kept after each pass: the same call goes on from there.
    tell : callable
        Told what is done, and which share of it.

    Raises
    ------
    InputError, DecodeError, SettingsError, LearningError
        A data set or run that cannot be read; too few women; nothing to learn from.
    """
    making = making or Making()
    manifest = read_manifest(data)
    images = [i for i in manifest.images if patients is None or i.patient in patients]
    loaded: dict[str, Run] = {name: load_run(path) for name, path in runs.items()}
    parts = divided({i.patient for i in images}, _of(loaded, "patients"), making.seed)
    if any(len(part) < LEAST for part in parts.values()):
        raise LearningError(
            f"{len({i.patient for i in images})} women are too few for three parts",
            str(data),
            "give a larger data set, of women whom no generator learned from; some 400 for a false-alarm rate of 0.01",
        )
    forged = (*(f"{GENERATOR}{name}" for name in loaded), *making.families)
    if not forged:
        raise SettingsError("nothing forged to learn from", "--runs", "give a generator or a family")
    side = making.side or min(SIDE, max(max(i.rows, i.columns) for i in images))
    frame = (side, side)

    def drawn(part: str, families: tuple[str, ...], classical: int | None = None) -> list[Sample]:
        out: list[Sample] = []
        count = len(parts[part]) * len(images) / max(len({i.patient for i in images}), 1) * len(families)
        for sample in samples(
            data, families, making.seed, runs=loaded, patients=parts[part], size=frame, seen_ok=True,
            classical=classical,
        ):  # fmt: skip
            out.append(sample)
            tell(f"pictures to {part}", min(len(out) / count, 1.0))
        tell(f"pictures to {part}", 1.0)
        return out

    learn = drawn("learn", (GENUINE, *forged), making.classical)
    # what `Detector.examine` refuses says nothing of the pictures that it takes
    weigh = [s for s in drawn("weigh", (GENUINE, *forged)) if has_block(s.breast)]
    opinions = Opinions(
        Network(
            epochs=making.epochs,
            width=making.width,
            seed=making.seed,
            keep=keep,
            progress=lambda done, total, loss: tell(f"learning, loss {loss:.3f}", done / total),
        ),
        OneClass(),
    ).fit_with(learn, weigh)
    del learn

    def numbers(shown: list[Sample]) -> list[float]:
        return [opinions.score(s.picture, s.breast) for s in shown]

    found = np.array(numbers(weigh))
    lies = np.array([s.forged for s in weigh])
    ratio = curve(list(found[~lies]), list(found[lies]))
    clean = [s for s in drawn("calibrate", (GENUINE,)) if has_block(s.breast)]
    if not clean:
        raise LearningError(
            "no genuine picture to calibrate on has enough breast", str(data), "give whole mammograms"
        )
    calibration = women([s.patient for s in clean], numbers(clean))
    facts = DetectorFacts(
        width=making.width,
        frame=frame,
        families=forged,
        generators={name: run.fingerprint for name, run in loaded.items()},
        scales=opinions.scales,
        curve=ratio,
        calibration=calibration.scores,
        counts={name: len(part) for name, part in parts.items()} | {"calibrate": len(calibration.scores)},
        classical=making.classical,
        # whoever trained a generator has been seen, too: its forgeries carry them
        women=tuple(sorted({*hashed({i.patient for i in images}), *_of(loaded, "patients")})),
        pictures=tuple(sorted({*marks(images), *_of(loaded, "pictures")})),
        kind=manifest.kind,
        phantom=manifest.phantom,
        seed=making.seed,
        epochs=opinions.network.epochs,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        scanward=__version__,
        torch=str(torch.__version__),
    )
    made = Detector(opinions.network, opinions.second, facts)
    made.weighed = Scores(np.array([s.family for s in weigh]), np.array([s.patient for s in weigh]), found)
    return made


def divided(everybody: Collection[str], generators: Collection[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Women by part. Those of a generator (``generators``: hashed) are learned from alone: a detector knows its
    pictures, and so, in a way, the women it learned from.
    """
    known = {who for who in everybody if hashed({who})[0] in generators}
    parts = parted((who for who in everybody if who not in known), SHARES, seed)
    return {**parts, "learn": (*parts["learn"], *sorted(known))}


def _of(runs: Mapping[str, Run], what: Literal["patients", "pictures"]) -> set[str]:
    return {hashed_one for run in runs.values() for hashed_one in getattr(run.facts, what)}
