"""Model observers: programs that read a study as people would, to rehearse it. What they give is SIMULATED.

A model observer is a detector's score and a reader's noise. The detectors here have learned nothing and know nothing of
the truth: they see the grey values a reader sees.

- lesion: a scanning observer, the largest response of a difference of Gaussians (a blob of one of several sizes) inside
  the breast, in units of that response's own spread there (non-prewhitening observers: Burgess, J Opt Soc Am A
  11:1237, 1994).
- manipulation: how unevenly the fine residual noise is spread over the breast, for what was pasted, smoothed or drawn
  has a noise of its own (Mahdian and Saic, Image Vision Comput 27:1497, 2009). Smooth changes escape it.

The reader's part follows the model of Roe and Metz (Acad Radiol 4:298, 1997) on the scale of the standardised score: a
lasting shift of the criterion for each reader and noise of each reader on each picture, cut into 1 to 5 at fixed
quantiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint16]

SIDE = 256  # px: the longer side at which observers look; finer detail costs time and tells these detectors nothing
BLOBS = (3.0, 5.0, 8.0, 12.0)  # px at SIDE, standard deviations: masses of some 5 to 25 mm
GROWTH = 1.6  # ratio of the two Gaussians, near the Laplacian's (Marr and Hildreth 1980)
DARK = 0.05  # of the brightest: below it lies background
EDGE = 6  # px at SIDE: the skin line answers every filter


@dataclass(frozen=True, slots=True)
class ObserverNoise:
    """What makes readers differ. Standard deviations on the scale of the standardised score of all pictures."""

    reader: float = 0.3  # lasting shift of one reader's criterion
    case: float = 0.8  # each time a reader looks at a picture

    @property
    def total(self) -> float:
        """Variance of score and noise together."""
        return 1.0 + self.reader**2 + self.case**2


def lesion_score(picture: Grey) -> float:
    """Suspicion of a mass in a picture (rows, columns); larger is more. 0 where there is no breast."""
    from scipy import ndimage

    seen, breast = _seen(picture)
    if not breast.any():
        return 0.0
    responses = []
    for sigma in BLOBS:
        response = ndimage.gaussian_filter(seen, sigma) - ndimage.gaussian_filter(seen, sigma * GROWTH)
        inside = response[breast]
        low, middle, high = np.percentile(inside, [16, 50, 84])
        responses.append((inside.max() - middle) / (high - low + 1e-9))
    return float(np.mean(responses))


def manipulation_score(picture: Grey) -> float:
    """Unevenness of the residual noise in a picture (rows, columns); larger is more. 0 where there is no breast."""
    from scipy import ndimage

    seen, breast = _seen(picture)
    if not breast.any():
        return 0.0
    residual = seen - ndimage.gaussian_filter(seen, 1.0)
    energy = np.sqrt(ndimage.gaussian_filter(residual**2, EDGE))[breast]
    return float(energy.std() / (energy.mean() + 1e-9))


DETECTORS = {"lesion": lesion_score, "manipulation": manipulation_score}


def _seen(picture: Grey) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The picture between 0 and 1 at no more than `SIDE` px, and where its breast lies, without the edge."""
    from scipy import ndimage

    values = picture.astype(np.float64)
    values /= max(float(values.max()), 1.0)
    factor = min(1.0, SIDE / max(values.shape))
    if factor < 1.0:
        values = ndimage.zoom(values, factor, order=1)
    filled = ndimage.binary_fill_holes(values > DARK)
    return values, ndimage.binary_erosion(filled, iterations=EDGE)


@dataclass(frozen=True)
class ModelObserver:
    """One simulated reader.

    Parameters
    ----------
    name : str
        The reader he stands for.
    scores : mapping of question to mapping of a picture's SHA-256 to its score
        Of every picture in the study (`scores_of`): what is a high score is known from the others, not from truths.
    seed : int
        The same seed, name and picture give the same rating.
    """

    name: str
    scores: Mapping[str, Mapping[str, float]]
    seed: int = 0
    noise: ObserverNoise = ObserverNoise()

    def rate(self, sha256: str, question: str, categories: int) -> int:
        """A rating from 1 to ``categories`` of the picture with this SHA-256.

        Raises
        ------
        KeyError
            A picture or a question that was not scored: a mistake of the caller.
        """
        from scipy.special import ndtr

        scores = self.scores[question]
        every = np.fromiter(scores.values(), dtype=np.float64)
        spread = float(every.std())
        standard = (scores[sha256] - float(every.mean())) / spread if spread > 0 else 0.0
        felt = (
            standard
            + self.noise.reader * _normal(self.seed, self.name, question)
            + self.noise.case * _normal(self.seed, self.name, question, sha256)
        )
        share = float(ndtr(felt / np.sqrt(self.noise.total)))
        return min(categories, 1 + int(share * categories))

    def seconds(self, sha256: str) -> float:
        """How long he pretends to look: log-normal, median 8 s. Simulated, like the ratings."""
        return float(8.0 * np.exp(0.5 * _normal(self.seed, self.name, "seconds", sha256)))


def scores_of(pictures: Mapping[str, Grey], questions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scores by question and by the SHA-256 of each picture. A question without a detector gets none: pure noise."""
    found: dict[str, dict[str, float]] = {}
    for question in questions:
        detector = DETECTORS.get(question)
        found[question] = {
            name: detector(picture) if detector is not None else 0.0 for name, picture in pictures.items()
        }
    return found


def _normal(seed: int, *names: str) -> float:
    """A standard normal deviate that belongs to these names: no order of reading changes it."""
    material = hashlib.sha256("\x1f".join((str(seed), *names)).encode()).digest()
    return float(np.random.default_rng(int.from_bytes(material, "big")).standard_normal())
