"""Baselines: they learn what is easy, refuse what cannot be learned, and repeat themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from scanward.errors import LearningError
from scanward.forensics.baselines import GreyLevels, Residuals, Scorer, Spectrum
from scanward.forensics.families import Sample
from scanward.mammography.phantom_sets import draw_phantoms


@pytest.fixture(scope="module")
def easy() -> list[Sample]:
    """Genuine phantoms, and the same blurred all over: a forgery that spectra and residuals cannot miss."""
    found = []
    for drawn in draw_phantoms(patients=60, rows=48, columns=48, seed=9):
        shown = drawn.shown
        sample = Sample(
            shown.picture, shown.breast, np.zeros_like(shown.breast), "genuine", drawn.patient, drawn.name
        )
        blurred = ndimage.gaussian_filter(shown.picture.astype(float), 1.0)
        found += [sample, replace(sample, picture=blurred.astype(np.uint16), family="blurred")]
    return found


MADE = [lambda: GreyLevels(epochs=6, width=8), Spectrum, Residuals]


@pytest.mark.parametrize("make", MADE)
def test_what_is_easy_is_learned_on_women_not_seen(make: type[Scorer], easy: list[Sample]) -> None:
    method = make().fit(easy[:80])
    scores = np.array([method.score(s.picture, s.breast) for s in easy[80:]])
    forged = np.array([s.forged for s in easy[80:]])
    won = (scores[forged][:, None] > scores[~forged][None]).mean()
    assert won > 0.9
    again = make().fit(easy[:80])
    assert again.score(easy[80].picture, easy[80].breast) == scores[0]


@pytest.mark.parametrize("make", MADE)
def test_one_kind_alone_teaches_nothing(make: type[Scorer], easy: list[Sample]) -> None:
    with pytest.raises(LearningError, match="all genuine"):
        make().fit([s for s in easy if not s.forged])
    controls = [replace(s, family="cycle:known") for s in easy if s.forged]
    with pytest.raises(LearningError):
        make().fit([s for s in easy if not s.forged] + controls)


@pytest.mark.parametrize("make", [Spectrum, Residuals])
def test_the_background_says_nothing_to_spectrum_and_residuals(
    make: type[Spectrum | Residuals], easy: list[Sample]
) -> None:
    one = easy[0]
    painted = np.where(one.breast, one.picture, 12345).astype(np.uint16)
    method = make()
    if isinstance(method, Residuals):
        # residuals reach two pixels; the breast's rim is left out
        assert np.allclose(method.features(one.picture, one.breast), method.features(painted, one.breast))
    else:
        assert np.allclose(method.features(one.picture, one.breast), method.features(painted, one.breast))
