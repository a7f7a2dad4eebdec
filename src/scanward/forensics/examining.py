"""The detector: one picture in, p-value, likelihood ratio, verdict, heat map and evidence in words out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scanward.calibration import Calibration
from scanward.errors import DecodeError, InputError, LeakError
from scanward.forensics import detector_files, verdicts
from scanward.forensics.detector_files import DetectorFacts
from scanward.forensics.evaluation import Scores
from scanward.forensics.framing import framed, unframed
from scanward.forensics.networks import Localiser
from scanward.forensics.oneclass import BLOCK, NUMBERS, OneClass
from scanward.forensics.residuals import COPIES, NOISE, inner, planes
from scanward.forensics.training import Network
from scanward.mammography.orient import mirrored
from scanward.mammography.pictures import Mask, Pixels
from scanward.tampering.checkpoints import hashed, marks
from scanward.tampering.originals import Original

_HOT = 0.5  # heat from which a place is spoken of
Heat = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What was found in one picture.

    ``p_value`` is the share of genuine women, the new one included, with a picture at least as strange; ``alarm``
    whether it is at most ``false_alarms``. ``likelihood_ratio`` is clamped to what the pictures it was learned from
    support. ``heat`` (rows, columns) in [0, 1] has the picture's size; ``words`` are the evidence. ``probability`` is
    there when a prior was given. ``score``, ``network`` and ``second`` are the numbers behind it: both together, the
    trained network's logit, the opinion that never saw a forgery.
    """

    p_value: float
    likelihood_ratio: float
    alarm: bool
    heat: Heat
    words: tuple[str, ...]
    false_alarms: float
    score: float
    network: float
    second: float
    probability: float | None = None


class Detector:
    """A trained detector. Make one with `scanward.forensics.making.train`, or `load` it."""

    name = "scanward"

    def __init__(self, network: Network, second: OneClass, facts: DetectorFacts) -> None:
        self.network, self.second, self.facts = network, second, facts
        self.calibration = Calibration.of(facts.calibration)
        self._women, self._pictures = frozenset(facts.women), frozenset(facts.pictures)
        self.weighed: Scores | None = None  # after a training: of the pictures that the curve was taken from

    @classmethod
    def load(cls, run: Path) -> Detector:
        """Load a folder that `scanward detect train` made.

        Raises
        ------
        InputError, DecodeError
            None there; damaged, or altered.
        """
        tensors, facts = detector_files.read(run)
        made = Network(width=facts.width)
        made.network = Localiser(facts.width)
        second = OneClass()
        try:
            weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
            made.network.load_state_dict(weights, strict=True)
            second.mean = tensors["second.mean"].numpy().astype(np.float64)
            second.precision = tensors["second.precision"].numpy().astype(np.float64)
            if second.mean.shape != (NUMBERS,) or second.precision.shape != (NUMBERS, NUMBERS):
                raise ValueError("shape")
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise DecodeError("weights that do not fit", str(run), "train the detector again") from error
        made.network.eval().requires_grad_(False)
        return cls(made, second, facts)

    def save(self, run: Path) -> Path:
        """Write it into a folder; LearningError when that fails."""
        return detector_files.write(run, self._tensors(), self.facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what was learned."""
        return detector_files.fingerprint(self._tensors())

    def _tensors(self) -> dict[str, torch.Tensor]:
        assert self.network.network is not None
        weights = {f"network.{k}": v for k, v in self.network.network.state_dict().items()}
        return weights | {
            "second.mean": torch.from_numpy(self.second.mean),
            "second.precision": torch.from_numpy(self.second.precision),
        }

    def check_unseen(self, originals: Iterable[Original]) -> None:
        """Refuse women, or pictures, of the training or calibration of the detector or of its generators.

        Raises
        ------
        LeakError
            There are some.
        """
        for original in originals:
            if original.image is not None:
                known = {hashed({original.image.patient})[0]} & self._women
                same = marks([original.image]) & self._pictures
            else:
                known = {hashed({original.patient})[0]} & self._women if original.patient else set()
                full = hashlib.sha256(np.ascontiguousarray(original.pixels).tobytes()).hexdigest()
                same = frozenset({original.sha256[:32], full[:32]}) & self._pictures
            if known or same:
                raise LeakError(
                    "this woman, or this picture, is in the training or calibration of the detector or its generators",
                    str(original.path),
                    "examine others: what was learned from proves nothing",
                )

    def examine(
        self,
        picture: Pixels,
        breast: Mask,
        *,
        unit: int = 1,
        false_alarms: float = 0.01,
        prior: float | None = None,
        where: str = "picture",
    ) -> Found:
        """Examine one picture.

        Parameters
        ----------
        picture, breast
            uint16 and bool (rows, columns), tissue bright, chest wall left.
        unit : int
            Grey levels are multiples of it: 16 for a picture of 12 bits.
        false_alarms : float
            Share of genuine women that may be alarmed at.
        prior : float, optional
            Share of altered pictures beforehand; without it there is no probability.
        where : str
            What errors call the picture.

        Raises
        ------
        InputError
            Too little breast in the detector's frame to say anything of.
        SettingsError
            A rate that the calibration cannot express; a prior that is none.
        """
        verdicts.require(self.calibration, false_alarms)
        shown, inside = framed(picture, breast, self.facts.frame, unit)
        if inside.sum() < BLOCK**2:
            raise InputError(
                f"only {int(inside.sum())} pixels of breast in the detector's frame",
                where,
                "give the whole mammogram: of so little nothing can be said",
            )
        logit, heat = self.network.examined(shown, inside)
        strange, place = self.second.examined(shown, inside)
        if place is None:  # one opinion alone would pass for two
            raise InputError(
                f"no block of breast that is {BLOCK} x {BLOCK} pixels in the detector's frame",
                where,
                "give the whole mammogram: of so narrow a strip nothing can be said",
            )
        score = verdicts.combined(logit, strange, self.facts.scales)
        p_value = self.calibration.p_value(score)
        ratio = self.facts.curve(score)
        alarm = p_value <= false_alarms
        large = unframed(heat, picture.shape, self.facts.frame)
        large = np.where(breast, np.clip(large, 0, 1), 0).astype(np.float32)
        words = self._words(score, p_value, false_alarms, strange, shown, inside, heat)
        words += _where(large, breast, place, picture.shape, self.facts.frame, alarm=alarm)
        return Found(
            p_value=p_value,
            likelihood_ratio=ratio,
            alarm=alarm,
            heat=large,
            words=words,
            false_alarms=false_alarms,
            score=score,
            network=logit,
            second=strange,
            probability=None if prior is None else verdicts.probability(ratio, prior),
        )

    def examine_original(
        self, original: Original, *, false_alarms: float = 0.01, prior: float | None = None
    ) -> Found:
        """Examine a picture as `scanward.tampering.originals.read` gives it; the heat is in the file's orientation."""
        found = self.examine(
            original.pixels,
            original.breast,
            unit=1 << original.shift,
            false_alarms=false_alarms,
            prior=prior,
            where=str(original.path),
        )
        if not original.turned:
            return found
        return replace(found, heat=np.ascontiguousarray(mirrored(found.heat)))

    def score(self, picture: Pixels, breast: Mask) -> float:
        """The number that is calibrated, of a picture in the detector's frame or out of it."""
        shown, inside = framed(picture, breast, self.facts.frame)
        second = self.second.score(shown, inside)
        return verdicts.combined(self.network.score(shown, inside), second, self.facts.scales)

    def _words(
        self,
        score: float,
        p_value: float,
        asked: float,
        strange: float,
        shown: Pixels,
        inside: Mask,
        heat: Heat,
    ) -> tuple[str, ...]:
        count = len(self.calibration.scores)
        beyond = round(p_value * (count + 1)) - 1
        verdict = "Alarm" if p_value <= asked else "No alarm"
        words = [
            f"{verdict}: of {count} genuine women {beyond} have a picture at least as strange (p {p_value:.2g}; "
            f"alarm at {asked:g} or less)."
        ]
        ratio, curve = self.facts.curve(score), self.facts.curve
        limit = (
            " - as far as the pictures it was learned from support, and no further"
            if curve.clamped(score)
            else ""
        )
        times, kind = (ratio, "altered") if ratio >= 1 else (1 / ratio, "genuine")
        words.append(
            f"Such a picture is {times:.3g} times commoner among {kind} ones{limit}; altered as in training."
        )
        away = self.facts.scales["second"](strange)
        words.append(
            f"An opinion that never saw a forgery finds its strangest blocks {abs(away):.1f} spreads "
            f"{'above' if away >= 0 else 'below'} the median of genuine pictures."
        )
        hot = (heat >= _HOT) & inner(inside)
        rest = inner(inside) & ~hot
        if hot.sum() >= 4 and rest.sum() >= 4:
            made = planes(shown, inside)
            noise = float(np.exp(np.median(made[NOISE][hot]) - np.median(made[NOISE][rest])))
            if not 0.8 < noise < 1.25:
                words.append(f"In the hottest place the finest structure is {noise:.2g} times as strong.")
            if float(np.percentile(made[COPIES][hot], 25)) < -1.0:
                words.append("Much of the hottest place has a twin elsewhere in this breast: copied tissue.")
        return tuple(words)


def _where(
    heat: Heat,
    breast: Mask,
    place: tuple[int, int] | None,
    shape: tuple[int, ...],
    frame: tuple[int, int],
    *,
    alarm: bool,
) -> tuple[str, ...]:
    hot = heat >= _HOT
    if hot.any():
        pieces, _ = ndimage.label(hot)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        down, right = np.nonzero(pieces == int(sizes.argmax()))
        share = 100 * float(hot.sum()) / max(int(breast.sum()), 1)
        return (
            f"Hottest place: {share:.2g} % of the breast, most of it around column {round(float(right.mean()))}, "
            f"row {round(float(down.mean()))} (chest wall left).",
        )
    if alarm and place is not None:
        scale = min(frame[0] / shape[0], frame[1] / shape[1])
        row, column = (round(v / scale) for v in place)
        return (
            f"No place is hot by itself; the strangest block is around column {column}, row {row} (chest wall left).",
        )
    return ()
