"""Where the breast is, on which side the chest wall, and that lesions travel with their picture to the pixel."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from _mammo import breast_picture
from scanward.mammography.breast import otsu, segment
from scanward.mammography.manifest import Lesion
from scanward.mammography.orient import chest_wall, mirrored, mirrored_lesion
from scanward.mammography.pictures import lesion_mask, read_picture
from scanward.mammography.shapes import filled


def _full(picture: NDArray[np.uint16], bits: int = 12) -> NDArray[np.uint16]:
    return np.left_shift(picture, np.uint16(16 - bits))


def _truth(rows: int, columns: int) -> NDArray[np.bool_]:
    down, right = np.mgrid[:rows, :columns]
    inside: NDArray[np.bool_] = (right / (0.7 * columns)) ** 2 + ((down - rows / 2) / (0.45 * rows)) ** 2 < 1
    return inside


def _agreement(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("size", [(96, 80), (401, 333), (1200, 900)])
def test_the_breast_of_a_clean_picture_is_found(size: tuple[int, int]) -> None:
    breast = segment(_full(breast_picture(*size)))
    assert breast.shape == size
    # an edge that no film has so sharp is smoothed by a pixel or two, which counts in the smallest picture
    assert _agreement(breast, _truth(*size)) > (0.95 if min(size) > 100 else 0.9)


def test_bright_labels_and_a_film_edge_are_left_out() -> None:
    picture = _full(breast_picture(400, 300))
    picture[20:60, 240:290] = 65535  # a label brighter than all tissue
    picture[:, 298:] = 65535  # an edge of the film
    breast = segment(picture)
    assert _agreement(breast, _truth(400, 300)) > 0.95
    assert not breast[20:60, 240:290].any()


def test_holes_are_filled_and_there_is_one_piece() -> None:
    from scipy import ndimage

    picture = _full(breast_picture(400, 300))
    picture[180:200, 60:80] = 0
    breast = segment(picture)
    assert breast[180:200, 60:80].all()
    assert ndimage.label(breast)[1] == 1


@pytest.mark.parametrize("level", [0, 700, 65535])
def test_an_empty_picture_has_no_breast(level: int) -> None:
    assert not segment(np.full((200, 150), level, dtype=np.uint16)).any()
    noise = np.random.default_rng(0).integers(0, 300, (200, 150)).astype(np.uint16)
    assert not segment(np.minimum(level + noise, 65535).astype(np.uint16)).any()


@settings(max_examples=60)
@given(
    rows=st.integers(16, 120),
    columns=st.integers(16, 120),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "steps", "one", "two"]),
)
def test_any_picture_gives_one_piece_or_nothing(rows: int, columns: int, seed: int, kind: str) -> None:
    from scipy import ndimage

    generator = np.random.default_rng(seed)
    picture = np.zeros((rows, columns), dtype=np.uint16)
    if kind == "noise":
        picture[:] = generator.integers(0, 65536, picture.shape)
    elif kind == "steps":
        picture[:] = np.repeat(generator.integers(0, 65536, (1, columns)), rows, axis=0)
    else:
        picture[generator.integers(rows), generator.integers(columns)] = 65535
        if kind == "two":
            picture[: rows // 2, : columns // 2] = 30000
    breast = segment(picture)
    assert breast.shape == picture.shape
    assert ndimage.label(breast)[1] <= 1
    side = chest_wall(breast)
    assert isinstance(side.left, bool)
    assert isinstance(side.sure, bool)


def test_otsu_parts_two_heaps() -> None:
    values = np.concatenate([np.full(900, 0.1), np.full(100, 0.7), np.full(50, 0.8)])
    assert 0.1 < otsu(values) <= 0.7


@pytest.mark.parametrize("left", [True, False])
def test_the_side_of_the_chest_wall_is_seen(left: bool) -> None:
    side = chest_wall(segment(_full(breast_picture(400, 300, left=left))))
    assert side.sure
    assert side.left == left


def test_a_symmetric_breast_tells_no_side() -> None:
    down, right = np.mgrid[:100, :100]
    assert not chest_wall((down - 49.5) ** 2 + (right - 49.5) ** 2 < 40**2).sure
    assert not chest_wall(np.zeros((10, 10), dtype=np.bool_)).sure


# --- lesions travel exactly

_COORDINATE = st.one_of(
    st.integers(-5, 60).map(float),
    st.integers(-10, 120).map(lambda n: n / 2),
    st.floats(-5, 60, allow_nan=False),
)
_POINT = st.tuples(_COORDINATE, _COORDINATE)


@settings(max_examples=400)
@given(rows=st.integers(1, 50), columns=st.integers(1, 50), outline=st.lists(_POINT, min_size=1, max_size=9))
def test_a_turned_outline_has_exactly_the_turned_pixels(
    rows: int, columns: int, outline: list[tuple[float, float]]
) -> None:
    lesion = Lesion(outline=tuple(outline))
    before = lesion_mask(lesion, (rows, columns))
    after = lesion_mask(mirrored_lesion(lesion, columns), (rows, columns))
    assert np.array_equal(mirrored(before), after)


@settings(max_examples=400)
@given(
    rows=st.integers(1, 50),
    columns=st.integers(1, 50),
    centre=_POINT,
    radius=st.one_of(st.floats(0, 30), st.integers(0, 30).map(float)),
)
def test_a_turned_circle_has_exactly_the_turned_pixels(
    rows: int, columns: int, centre: tuple[float, float], radius: float
) -> None:
    lesion = Lesion(circle=(*centre, radius))
    before = lesion_mask(lesion, (rows, columns))
    after = lesion_mask(mirrored_lesion(lesion, columns), (rows, columns))
    assert np.array_equal(mirrored(before), after)


def test_ties_fall_the_same_way_after_turning() -> None:
    """Corners on whole pixels and tenths: many edges pass exactly between pixels, where rounding errors decide."""
    generator = np.random.default_rng(0)
    for number in range(1500):
        corners = generator.integers(0, 300, (generator.integers(2, 7), 2)) / (10 if number % 2 else 1)
        shape = (30, 27) if number % 2 else (300, 270)
        outline = Lesion(outline=tuple((float(x), float(y)) for x, y in corners))
        x, y, other = (float(value) for value in generator.integers(0, 270, 3) / 10)
        circle = Lesion(circle=(x, y, abs(x - int(other))))  # passes through a pixel's centre when y is whole
        for lesion, size in ((outline, shape), (circle, (30, 27))):
            turned = lesion_mask(mirrored_lesion(lesion, size[1]), size)
            assert np.array_equal(mirrored(lesion_mask(lesion, size)), turned), lesion


def test_an_outline_is_filled_with_its_border() -> None:
    box = filled([(2, 3), (6, 3), (6, 5), (2, 5)], (10, 10))
    expected = np.zeros((10, 10), dtype=np.bool_)
    expected[3:6, 2:7] = True
    assert np.array_equal(box, expected)
    assert filled([(2.3, 3.2)], (10, 10)).sum() == 1  # a point is one pixel
    assert filled([(1, 4), (8, 4)], (10, 10)).sum() == 8  # a line has its pixels
    assert not filled([], (10, 10)).any()
    assert not filled([(50, 50), (60, 50), (60, 60)], (10, 10)).any()
    assert filled([(-5, -5), (50, -5), (50, 50), (-5, 50)], (10, 10)).all()


@given(st.floats(3, 20), st.floats(3, 20), st.integers(0, 2**32 - 1))
def test_a_filled_circle_of_many_corners_is_the_circle(x: float, y: float, seed: int) -> None:
    radius = 2 + np.random.default_rng(seed).random() * 6
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    drawn = filled(list(zip(x + radius * np.cos(turn), y + radius * np.sin(turn), strict=True)), (30, 30))
    down, right = np.ogrid[:30, :30]
    distance = np.hypot(right - x, down - y)
    assert drawn[distance < radius - 0.1].all()
    assert not drawn[distance > radius + 0.8].any()


# --- real films

_LEAST = 0.9


@pytest.mark.slow
def test_on_real_films_the_breast_is_found(shared_data: Path) -> None:
    """mini-MIAS with its background painted black: there the breast is what is not black (every tenth film)."""
    from scipy import ndimage

    folder = shared_data / "mammography" / "mias"
    if not folder.is_dir():
        pytest.skip(f"no films at {folder}")
    good, sides, seen = 0, 0, 0
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::10]
    for row in rows:
        film = read_picture(folder / row["image"])
        breast = segment(film.astype(np.uint16) << np.uint16(8))
        pieces, _ = ndimage.label(ndimage.gaussian_filter(film.astype(float), 1) > 12)
        truth = ndimage.binary_fill_holes(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())
        good += _agreement(breast, truth) >= _LEAST
        side = chest_wall(breast)
        seen += side.sure
        sides += side.sure and side.left == (row["laterality"] == "L")
    assert len(rows) == 33
    assert good >= 31
    assert sides == seen
