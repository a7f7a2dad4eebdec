"""Measures against the truth, processings and controls: what does nothing scores nothing, what cheats is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from _evaluation import toys
from scanward.errors import InputError, LeakError, LearningError, SettingsError
from scanward.tampering.checkpoints import hashed
from scanward.tampering.evaluation import processing
from scanward.tampering.evaluation.blobs import Yardstick, find_blob, signal
from scanward.tampering.evaluation.classifiers import scaled
from scanward.tampering.evaluation.controls import biharmonic, classical, harmonic, identity, truth
from scanward.tampering.evaluation.measures import cycle_error, insertion, removal, spill
from scanward.tampering.evaluation.sets import Data, Pictures
from scanward.tampering.evaluation.tampers import apply, of_generators

SET = toys(30, 7)
CANCER = SET.take(SET.cancer)
HEALTHY = SET.take(~SET.cancer)
YARDSTICK = Yardstick.of(toys(150, 6))


def unknown(pictures: Pictures) -> Pictures:
    """The same without the truth, as of real films."""
    return replace(pictures, twinned=np.zeros(len(pictures), bool))


# --- removal


@pytest.mark.parametrize(
    ("kept", "removed"), [(1.0, 0), (0.5, 0), (0.3, 0), (0.2, 1), (0.0, 1), (-0.4, 1), (-0.6, 0)]
)
def test_what_is_left_of_a_lesion_is_measured(kept: float, removed: int) -> None:
    found = removal(CANCER, CANCER.twin + np.float32(kept) * (CANCER.x - CANCER.twin))
    assert found.remaining == pytest.approx(np.full(len(CANCER), kept), abs=0.02)
    assert (found.removed == bool(removed)).all()
    assert (found.residue < 0.05).all()


def test_making_everything_darker_removes_nothing() -> None:
    found = removal(CANCER, CANCER.x - np.float32(0.3))
    assert not found.removed.any()
    assert found.remaining == pytest.approx(np.ones(len(CANCER)), abs=0.05)


def test_digging_a_hole_is_no_removal() -> None:
    hole = np.where(CANCER.region, -1, CANCER.x).astype(np.float32)
    assert not removal(CANCER, hole).removed.any()


def test_rubbish_in_place_of_a_lesion_is_told_by_the_residue() -> None:
    rng = np.random.default_rng(0)
    rubbish = CANCER.twin + np.where(CANCER.region, rng.normal(0, 0.5, CANCER.x.shape), 0).astype(np.float32)
    assert removal(CANCER, rubbish).residue.mean() > 0.5
    assert removal(CANCER, rubbish).removed.mean() < 0.5
    assert removal(CANCER, CANCER.twin).residue.mean() < 0.05


def test_without_twins_the_surroundings_are_the_measure() -> None:
    films = unknown(CANCER)
    assert not removal(films, films.x).removed.any()
    assert removal(films, films.x).remaining == pytest.approx(np.ones(len(films)), abs=1e-6)
    assert removal(films, CANCER.twin).removed.mean() > 0.8
    assert not removal(films, films.x - np.float32(0.2)).removed.any()


# --- insertion


def test_doing_nothing_inserts_nothing() -> None:
    found = insertion(HEALTHY, HEALTHY.x, YARDSTICK)
    assert not found.plausible.any()
    assert set(found.objections) == {"nothing"}


def test_genuine_lesions_are_plausible() -> None:
    assert insertion(HEALTHY, HEALTHY.twin, YARDSTICK).plausible.mean() > 0.75


def test_films_without_twins_have_a_yardstick_too() -> None:
    stick = Yardstick.of(unknown(SET))
    assert not stick.exact
    assert YARDSTICK.exact
    assert insertion(HEALTHY, HEALTHY.twin, stick).plausible.mean() > 0.5


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("everywhere", "area"),
        ("dark", "contrast"),
        ("two", "share"),
        ("line", "compactness"),
        ("outside", "depth"),
    ],
)
def test_an_implausible_change_is_refused_and_named(what: str, why: str) -> None:
    side = HEALTHY.size[0]
    down, right = np.mgrid[:side, :side]

    def spot(y: float, x: float, size: float = 2.0, strength: float = 0.8) -> np.ndarray:
        return strength * np.exp(-((down - y) ** 2 + (right - x) ** 2) / 2 / size**2)

    middle = side / 2
    change = {
        "everywhere": np.full((side, side), 0.5),
        "dark": -spot(middle, 12),
        "two": spot(middle - 7, 12) + spot(middle + 7, 12),
        "line": 0.8 * np.exp(-((down - middle) ** 2) / 2 / 0.6**2) * (np.abs(right - 10) < 8),
        "outside": spot(1, side - 2),
    }[what]
    after = (HEALTHY.x + change).astype(np.float32)
    found = insertion(HEALTHY, after, YARDSTICK)
    assert not found.plausible.any()
    assert why in found.objections


def test_a_lesion_in_the_muscle_is_refused() -> None:
    muscle = replace(HEALTHY, pectoral=HEALTHY.region)
    found = insertion(muscle, HEALTHY.twin, YARDSTICK)
    assert not found.plausible.any()
    assert "pectoral" in found.objections


def test_a_yardstick_needs_lesions() -> None:
    blank = replace(CANCER, region=np.zeros_like(CANCER.region))
    with pytest.raises(InputError, match="no cancer says where"):
        Yardstick.of(blank)


def test_the_chest_wall_is_no_skin() -> None:
    breast = np.zeros((32, 32), bool)
    breast[4:28, :20] = True
    change = np.zeros((32, 32))
    change[15:18, 0:3] = 1.0
    blob = find_blob(change, breast, 0.2)
    assert blob is not None
    assert blob.depth > 8


# --- what else was changed


def test_spill_is_told_apart() -> None:
    region = CANCER.region
    inside = np.where(region, CANCER.x + 0.5, CANCER.x).astype(np.float32)
    found = spill(CANCER.x, inside, CANCER.breast, region)
    assert (found.ratio == 0).all()
    assert (found.outside_breast == 0).all()
    outside = np.where(CANCER.breast, CANCER.x, 0.0).astype(np.float32)
    assert spill(CANCER.x, outside, CANCER.breast, region).outside_breast == pytest.approx(
        np.ones(len(CANCER))
    )
    assert np.isnan(spill(CANCER.x, CANCER.x, CANCER.breast, region).ratio).all()


def test_cycle_error_is_a_mean_over_the_breast() -> None:
    back = np.where(CANCER.breast, CANCER.x + 0.25, 5).astype(np.float32)
    assert cycle_error(CANCER.x, back, CANCER.breast) == pytest.approx(np.full(len(CANCER), 0.25), abs=1e-6)


# --- processings


@pytest.mark.parametrize("name", processing.DEFAULT)
def test_processings_keep_shape_and_range(name: str) -> None:
    done = processing.named(name)(SET.x)
    assert done.shape == SET.x.shape
    assert done.dtype == np.float32
    assert np.abs(done).max() <= 1.0001
    assert (done is SET.x) == (name == "none")
    assert np.array_equal(done, processing.named(name)(SET.x))


def test_a_hidden_code_does_not_live_through_blur_or_jpeg() -> None:
    code = (0.015 * np.where(np.indices(SET.size).sum(0) % 2, 1, -1)).astype(np.float32)
    inner = SET.x[:4] * 0.9
    for name in ("blur-1", "jpeg-75"):
        process = processing.named(name)
        left = np.abs(process(inner + code) - process(inner)).mean()
        assert left < 0.4 * np.abs(code).mean(), name


@pytest.mark.parametrize(
    "name", ["", "blur", "blur-0", "blur-99", "jpeg-0", "jpeg-96", "jpeg-7.5", "noise-2", "x" * 9999]
)
def test_strange_processings_are_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        processing.named(name)


# --- controls


def test_identity_is_exact() -> None:
    for alter in (identity().insert, identity().remove):
        assert np.array_equal(apply(alter, SET.x, SET.region, None), SET.x)


@pytest.mark.parametrize("fill", [harmonic, biharmonic])
def test_inpainting_continues_what_it_should(fill: object) -> None:
    """Laplace's equation gives a plane back exactly, and so does the plate; neither looks inside the region."""
    down, right = np.mgrid[:24, :24]
    plane = 0.01 * down - 0.02 * right
    region = np.hypot(down - 12, right - 11) < 5
    spoilt = np.where(region, 0.9, plane)
    assert fill(spoilt, region) == pytest.approx(plane, abs=1e-9)  # type: ignore[operator]
    edge = np.hypot(down - 0, right - 11) < 5
    filled = fill(np.where(edge, 0.9, plane), edge)  # type: ignore[operator]
    assert np.array_equal(filled[~edge], plane[~edge])
    assert filled[edge].max() < 0.3


def test_inpainting_removes_and_pasting_inserts() -> None:
    control = classical(SET, seed=1)
    assert removal(CANCER, apply(control.remove, CANCER.x, CANCER.region, None)).removed.mean() > 0.7
    pasted = apply(control.insert, HEALTHY.x, HEALTHY.region, None)
    assert insertion(HEALTHY, pasted, YARDSTICK).plausible.mean() > 0.7
    assert np.array_equal(pasted, apply(control.insert, HEALTHY.x, HEALTHY.region, None, batch=7))


def test_the_oracle_knows_the_twins_and_nothing_else() -> None:
    oracle = truth(SET)
    assert np.array_equal(apply(oracle.remove, CANCER.x, CANCER.region, None), CANCER.twin)
    assert np.array_equal(apply(oracle.insert, HEALTHY.x, HEALTHY.region, None), HEALTHY.twin)
    assert np.array_equal(apply(oracle.remove, HEALTHY.x, HEALTHY.region, None), HEALTHY.x)
    stranger = toys(2, 99)
    assert np.array_equal(apply(oracle.remove, stranger.x, stranger.region, None), stranger.x)


# --- tampers


def test_a_generator_is_shown_what_it_was_trained_with() -> None:
    class Looks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.channels = x.shape[1]
            self.values = set(x[:, 1].unique().tolist()) if x.shape[1] == 2 else set()
            return x[:, :1]

    for mask_channel in (False, True):
        looks = Looks()
        tamper = of_generators("g", looks, looks, mask_channel=mask_channel)
        apply(tamper.remove, CANCER.x[:3], CANCER.region[:3], None)
        assert looks.channels == 1 + mask_channel
        assert looks.values == ({-1.0, 1.0} if mask_channel else set())
        assert tamper.told is mask_channel


def test_what_is_delivered_changes_nothing_outside_the_breast() -> None:
    made = apply(lambda x, _: x + 0.4, CANCER.x, CANCER.region, CANCER.breast)
    assert np.array_equal(made[~CANCER.breast], CANCER.x[~CANCER.breast])
    assert made.max() <= 1
    assert (made[CANCER.breast] > CANCER.x[CANCER.breast]).mean() > 0.9


@pytest.mark.parametrize(
    "alter", [lambda x, _: x * float("nan"), lambda x, _: x[:, :, 1:], lambda x, _: x.repeat(1, 2, 1, 1)]
)
def test_a_broken_generator_is_refused(alter: object) -> None:
    with pytest.raises(LearningError, match="train it again"):
        apply(alter, CANCER.x[:2], CANCER.region[:2], None)  # type: ignore[arg-type]


# --- sets


def test_a_patient_in_two_parts_is_a_leak() -> None:
    other = toys(5, 8)
    again = replace(toys(5, 10), patients=(*other.patients[:2], *toys(5, 10).patients[2:]))
    with pytest.raises(LeakError, match=r"1 patient in two parts \('learn' and 'test'\)"):
        Data(learn=other, validate=toys(5, 9), test=again)
    with pytest.raises(LeakError, match="generator's training"):
        Data(
            learn=other,
            validate=toys(5, 9),
            test=SET,
            generator_patients=frozenset(hashed({SET.patients[3]})),
        )


def test_a_picture_in_two_parts_is_a_leak_whatever_its_patient_is_called() -> None:
    renamed = replace(SET, patients=tuple(f"other-{p}" for p in SET.patients))
    with pytest.raises(LeakError, match="picture"):
        Data(learn=toys(5, 8), validate=renamed, test=SET)


def test_a_part_of_one_label_is_refused() -> None:
    with pytest.raises(InputError, match="no cancers"):
        Data(learn=HEALTHY, validate=toys(5, 8), test=toys(5, 9))


def test_pictures_of_half_a_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="breast"):
        replace(SET, breast=SET.breast[:, :-1])
    with pytest.raises(ValueError, match="finite"):
        replace(SET, x=np.full_like(SET.x, np.nan))


def test_a_lesion_does_not_move_the_scale_that_classifiers_see() -> None:
    """The same tissue looks the same whether a lesion lies in it or not: no grey scale may tell the label."""
    having, without = scaled(CANCER.x, CANCER.breast), scaled(CANCER.twin, CANCER.breast)
    far = CANCER.breast & (np.abs(CANCER.x - CANCER.twin) < 1e-4)
    assert np.abs(having - without)[far].mean() < 0.02
    assert scaled((CANCER.x + 1) * 0.5 - 1, CANCER.breast) == pytest.approx(having, abs=1e-5)


def test_the_light_of_a_lesion_is_picture_minus_twin() -> None:
    row = int(SET.cancer_rows[0])
    assert signal(SET, row) == pytest.approx(SET.x[row].astype(float) - SET.twin[row])
    assert ndimage.maximum_position(signal(SET, row)) in list(zip(*np.nonzero(SET.region[row]), strict=True))
