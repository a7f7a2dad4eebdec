"""Pictures to a model's size and back: the change lands where it belongs, and nowhere else."""

from __future__ import annotations

from typing import Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scanward.tampering.scaling import difference_to_picture, mask_to_model, place, to_model

Framing = Literal["whole", "breast"]
sizes = st.tuples(st.integers(9, 90), st.integers(9, 90))
models = st.tuples(st.integers(4, 16), st.integers(4, 16)).map(lambda s: (4 * s[0], 4 * s[1]))
framings = st.sampled_from(["whole", "breast"])


def mammogram(
    rows: int, columns: int, seed: int, bits: int = 16
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    down, right = np.mgrid[:rows, :columns]
    across = random.uniform(0.3, 0.9) * columns
    breast = (right / across) ** 2 + ((down - rows / 2) / (0.4 * rows)) ** 2 < 1
    stored = np.where(breast, random.integers(1 << (bits - 2), 1 << (bits - 1), (rows, columns)), 0)
    return (stored << (16 - bits)).astype(np.uint16), breast


@given(sizes, models, framings, st.integers(0, 99), st.integers(8, 16))
@settings(max_examples=60)
def test_a_change_comes_back_to_the_breast_alone(
    size: tuple[int, int], model: tuple[int, int], framing: Framing, seed: int, bits: int
) -> None:
    pixels, breast = mammogram(*size, seed, bits)
    grey, shown, where = to_model(pixels, breast, *model, framing)
    assert grey.shape == shown.shape == model
    assert grey.dtype == np.float32
    assert grey.min() >= -1
    assert grey.max() <= 1
    # nothing changed by the model: nothing changed in the picture, bit for bit
    same, change = difference_to_picture(pixels, breast, where, grey, grey)
    assert np.array_equal(same, pixels)
    assert not change.any()
    # whatever the model does: outside the breast nothing changes
    random = np.random.default_rng(seed)
    after = random.uniform(-1, 1, model).astype(np.float32)
    made, change = difference_to_picture(pixels, breast, where, grey, after)
    assert made.shape == pixels.shape
    assert made.dtype == np.uint16
    assert np.array_equal(made[~breast], pixels[~breast])
    assert np.array_equal(change, made.astype(int) - pixels)
    # an even change comes back as that change all over the breast, in the picture's own grey levels
    _lifted, change = difference_to_picture(pixels, breast, where, grey, (grey + np.float32(0.1)))
    wanted = round(0.1 * where.white / 1.8)
    room = pixels.astype(int) + wanted <= 65535
    assert np.abs(change[breast & room] - wanted).max(initial=0) <= 1


@given(sizes, models, framings, st.integers(0, 99))
@settings(max_examples=60)
def test_the_aspect_is_kept_and_the_rest_is_background(
    size: tuple[int, int], model: tuple[int, int], framing: Framing, seed: int
) -> None:
    pixels, breast = mammogram(*size, seed)
    grey, shown, where = to_model(pixels, breast, *model, framing)
    assert where.rows == model[0] or where.columns == model[1]
    down, across = where.rows / where.height, where.columns / where.width
    assert abs(where.rows - down * where.height) < 1e-6
    assert abs(where.height * across - where.rows) <= 1 or abs(where.width * down - where.columns) <= 1
    assert (grey[where.rows :] == -1).all()
    assert (grey[:, where.columns :] == -1).all()
    assert not shown[where.rows :].any()
    assert not shown[:, where.columns :].any()
    if framing == "breast":
        inside = np.zeros(size, bool)
        inside[where.top : where.top + where.height, where.left : where.left + where.width] = True
        assert inside[breast].all()
        assert where.left == 0  # the chest wall


def test_at_the_pictures_own_size_the_difference_is_added_exactly() -> None:
    pixels, breast = mammogram(40, 32, 3, 12)
    grey, shown, where = to_model(pixels, breast, 40, 32)
    assert np.array_equal(shown, breast)
    after = grey.copy()
    after[20, 5] += 0.2
    made, change = difference_to_picture(pixels, breast, where, grey, after)
    assert set(zip(*np.nonzero(change), strict=True)) == {(20, 5)}
    assert made[20, 5] - pixels[20, 5] == round(0.2 * where.white / 1.8)


def test_detail_finer_than_the_model_stays() -> None:
    pixels, breast = mammogram(160, 128, 4)
    grey, _, where = to_model(pixels, breast, 16, 16)
    after = np.clip(grey + 0.05, -1, 1)
    made, _ = difference_to_picture(pixels, breast, where, grey, after)
    fine = np.diff(pixels.astype(int), axis=1)[60:100, 5:25]
    assert np.abs(np.diff(made.astype(int), axis=1)[60:100, 5:25] - fine).max() <= 0.03 * np.abs(fine).max()


@given(st.sampled_from([8, 10, 12, 14, 16]), st.integers(0, 50))
@settings(max_examples=25)
def test_the_model_is_shown_the_same_whatever_the_depth(bits: int, seed: int) -> None:
    full, breast = mammogram(48, 40, seed)
    fewer = (full >> (16 - bits)) << (16 - bits)
    a, b = to_model(full, breast, 32, 32)[0], to_model(fewer, breast, 32, 32)[0]
    assert np.abs(a - b).max() <= 1.8 * 2.0 ** (16 - bits) / 16384


def test_grey_levels_are_those_of_the_contract() -> None:
    pixels = np.full((32, 32), 10_000, np.uint16)
    breast = np.zeros((32, 32), bool)
    breast[:, :16] = True
    pixels[:, 16:] = 0
    grey, _, where = to_model(pixels, breast, 32, 32)
    assert where.white == 18_000
    assert np.allclose(grey[:, :16], 10_000 / 18_000 * 1.8 - 1)
    assert (grey[:, 16:] == -1).all()
    pixels[3, 3] = 65_535  # a lesion, or a clip: it does not move the scale
    brighter, _, again = to_model(pixels, breast, 32, 32)
    assert again.white == where.white
    assert brighter[3, 3] == 1


def test_clipping_is_told_in_the_change() -> None:
    pixels, breast = mammogram(32, 32, 5)
    grey, _, where = to_model(pixels, breast, 32, 32)
    for after, limit in ((np.full_like(grey, 1e3), 65535), (np.full_like(grey, -1e3), 0)):
        made, change = difference_to_picture(pixels, breast, where, grey, after)
        assert (made[breast] == limit).all()
        assert np.array_equal(change, made.astype(int) - pixels)


@given(st.integers(60, 300), st.integers(60, 300), models, st.data())
@settings(max_examples=60)
def test_every_lesion_keeps_a_pixel(
    rows: int, columns: int, model: tuple[int, int], data: st.DataObject
) -> None:
    mask = np.zeros((rows, columns), bool)
    spots = data.draw(
        st.lists(
            st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1), st.integers(1, 40)),
            min_size=1,
            max_size=4,
        )
    )
    for down, right, side in spots:
        mask[down : down + side, right : right + side] = True
    where = place(np.ones_like(mask), np.ones(mask.shape, np.uint16), *model)
    shown = mask_to_model(mask, where, *model)
    for down, right, side in spots:
        top, left = down * where.rows // rows, right * where.columns // columns
        bottom = min(down + side, rows) * where.rows // rows + 1
        end = min(right + side, columns) * where.columns // columns + 1
        assert shown[top : bottom + 1, left : end + 1].any(), (down, right, side)
    assert (
        shown.sum() <= mask.sum() * (where.rows / rows) * (where.columns / columns) * 4 + 4 * len(spots) + 4
    )


def test_an_empty_mask_stays_empty() -> None:
    mask = np.zeros((50, 40), bool)
    where = place(mask, np.zeros(mask.shape, np.uint16), 16, 16, "breast")
    assert not mask_to_model(mask, where, 16, 16).any()
    grey, shown, _ = to_model(np.zeros((50, 40), np.uint16), mask, 16, 16, "breast")
    assert (grey == -1).all()
    assert not shown.any()


def test_another_picture_can_be_shown_on_the_same_scale() -> None:
    pixels, breast = mammogram(60, 50, 6)
    _, _, where = to_model(pixels, breast, 32, 32, "breast")
    half = (pixels // 2).astype(np.uint16)
    grey, _, again = to_model(half, breast, 32, 32, "breast", placement=where)
    assert again == where
    assert grey.max() < to_model(pixels, breast, 32, 32, "breast")[0].max()
