"""Model observers: they see what a reader sees, differ as readers do, and repeat themselves by their seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from scanward.mammography.manifest import Label
from scanward.mammography.phantom import phantom
from scanward.mammography.phantom_lesions import draw_growth
from scanward.reading.observers import (
    ModelObserver,
    ObserverNoise,
    lesion_score,
    manipulation_score,
    scores_of,
)


def auc(positive: list[float], negative: list[float]) -> float:
    ranks = rankdata([*positive, *negative])
    least = len(positive) * (len(positive) + 1) / 2
    return float((ranks[: len(positive)].sum() - least) / (len(positive) * len(negative)))


def test_the_lesion_detector_sees_masses_of_phantoms() -> None:
    """Not as a radiologist would, yet far from chance: the same women with and without their lesion."""
    rng = np.random.default_rng(1)
    drawn = [phantom((0, i), 128, 104, lesions=[draw_growth(rng, Label.MALIGNANT)]) for i in range(40)]
    lesioned = [lesion_score(one.picture) for one in drawn]
    healthy = [lesion_score(one.healthy) for one in drawn]
    assert auc(lesioned, healthy) > 0.6


def test_the_manipulation_detector_sees_a_smoothed_patch() -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:128, :104]
    breast = (columns / 90) ** 2 + ((rows - 64) / 60) ** 2 < 1
    genuine, patched = [], []
    for _ in range(20):
        grey = np.where(breast, 2000 + rng.normal(0, 60, breast.shape), 0).clip(0, 4095)
        genuine.append(manipulation_score(grey.astype(np.uint16)))
        grey[50:80, 20:50] = 2000
        patched.append(manipulation_score(grey.astype(np.uint16)))
    assert auc(patched, genuine) == 1.0


@pytest.mark.parametrize("value", [0, 5, 65535])
def test_a_flat_picture_has_a_score(value: int) -> None:
    flat = np.full((20, 16), value, dtype=np.uint16)
    assert np.isfinite([lesion_score(flat), manipulation_score(flat)]).all()


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {f"{i:064x}": rng.integers(0, 4096, (24, 20), dtype=np.uint16) for i in range(200)}


def test_ratings_belong_to_seed_reader_and_picture_in_any_order(pictures: dict[str, np.ndarray]) -> None:
    scores = scores_of(pictures, ["lesion", "manipulation"])
    observer = ModelObserver("R01", scores, seed=4)
    there = [observer.rate(name, "lesion", 5) for name in pictures]
    back = [observer.rate(name, "lesion", 5) for name in reversed(pictures)]
    assert there == back[::-1]
    assert set(there) == {1, 2, 3, 4, 5}
    others = [ModelObserver("R02", scores, seed=4), ModelObserver("R01", scores, seed=5)]
    assert all([other.rate(name, "lesion", 5) for name in pictures] != there for other in others)
    assert [observer.rate(name, "manipulation", 5) for name in pictures] != there
    assert all(observer.seconds(name) > 0 for name in pictures)


def test_noise_hides_the_score(pictures: dict[str, np.ndarray]) -> None:
    scores = {"lesion": {name: float(i >= 100) for i, name in enumerate(pictures)}}
    found = []
    for case in (0.1, 3.0):
        observer = ModelObserver("R01", scores, noise=ObserverNoise(case=case))
        rated = [float(observer.rate(name, "lesion", 5)) for name in pictures]
        found.append(auc(rated[100:], rated[:100]))
    assert found[0] > 0.95
    assert 0.5 < found[1] < 0.85


def test_a_question_without_a_detector_is_answered_at_random(pictures: dict[str, np.ndarray]) -> None:
    observer = ModelObserver("R01", scores_of(pictures, ["density"]))
    rated = [float(observer.rate(name, "density", 4)) for name in pictures]
    assert set(rated) == {1, 2, 3, 4}
    assert 0.35 < auc(rated[100:], rated[:100]) < 0.65
