"""Processings: deterministic, of the same size, and what loses nothing loses nothing."""

from __future__ import annotations

import numpy as np
import pytest

from scanward.errors import SettingsError
from scanward.forensics.families import Sample
from scanward.forensics.processing import CHAINS, dicom, jpeg, processed, tiff
from scanward.mammography.phantom_sets import draw_phantoms


def _sample(family: str = "genuine") -> Sample:
    drawn = next(draw_phantoms(patients=1, seed=5)).shown
    return Sample(drawn.picture, drawn.breast, np.zeros_like(drawn.breast), family, "p", "n")


@pytest.mark.parametrize("name", list(CHAINS))
def test_a_processing_keeps_size_and_type_and_repeats_itself(name: str) -> None:
    sample = _sample()
    one, again = processed(sample, name), processed(sample, name)
    assert one.picture.shape == sample.picture.shape
    assert one.picture.dtype == np.uint16
    assert np.array_equal(one.picture, again.picture)
    if name != "none":
        changed = not np.array_equal(one.picture, sample.picture)
        assert changed == (name not in ("png-16",))
    correlation = np.corrcoef(one.picture[sample.breast], sample.picture[sample.breast])[0, 1]
    assert correlation > 0.8, "it is the same picture still"


def test_noise_differs_by_picture_and_seed() -> None:
    sample = _sample()
    assert not np.array_equal(processed(sample, "noise", 1).picture, processed(sample, "noise", 2).picture)
    other = processed(_sample("splicing"), "noise", 1)
    assert not np.array_equal(processed(sample, "noise", 1).picture, other.picture)


def test_files_lose_what_their_bits_lose_and_no_more() -> None:
    sample, random = _sample(), np.random.default_rng(0)
    assert np.array_equal(tiff()(sample.picture, sample.breast, random), sample.picture)
    kept = dicom(12)(sample.picture, sample.breast, random)
    assert np.array_equal(kept, (sample.picture >> 4) << 4)


def test_a_stronger_jpeg_loses_more() -> None:
    sample, random = _sample(), np.random.default_rng(0)
    lost = [
        float(np.abs(jpeg(q)(sample.picture, sample.breast, random).astype(int) - sample.picture).mean())
        for q in (95, 75, 30)
    ]
    assert lost[0] < lost[1] < lost[2]


def test_an_unknown_processing_is_refused() -> None:
    with pytest.raises(SettingsError, match="no processing"):
        processed(_sample(), "sharpen")
