"""What is on the canvas is the picture through the window that the page states, value by value, in Chromium.

Expected greys are worked out here from the study's raw files, in whole numbers, without a look at the page's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from _study import small_study
from _study_browser import DRAWN, Grey, Seat, chromium, greys, nearest, raw
from _study_pages import ServerProcess, add_accounts
from scanward.reading.opened import Study, open_study
from scanward.reading.protocol import Arm

ARMS = (
    Arm(name="eight", rows=48, columns=40, bits=8),
    Arm(name="twelve", rows=150, columns=121, bits=12),
    Arm(name="sixteen", rows=701, columns=600, bits=16),  # larger than the canvas of a seat
)
Table = Callable[[float, float, bool], Grey]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = small_study(tmp_path_factory.mktemp("greys"), readers=8, cases=12, arms=ARMS)
    add_accounts(folder, {f"R{number:02d}": "reader" for number in range(1, 9)})
    return open_study(folder)


@pytest.fixture(scope="module")
def server(study: Study) -> Iterator[ServerProcess]:
    with ServerProcess(study.folder) as started:
        yield started


def check(seat: Seat, study: Study, zoom: int, centre: tuple[float, float], invert: bool = False) -> None:
    """The whole canvas against the raw file, ``zoom`` screen pixels a pixel, ``centre`` (x, y) in its middle."""
    shown = seat.shown()
    height, width = shown.shape[:2]
    assert width > 500
    assert height > 400
    values, inside = nearest(raw(study, seat.token), centre, zoom, width, height)
    expected = np.where(inside, greys(values, *seat.window(), invert), 0)
    assert np.array_equal(shown[..., 0], expected)
    assert np.array_equal(shown[..., 1], expected)
    assert np.array_equal(shown[..., 2], expected)
    assert (shown[..., 3] == 255).all()
    assert len(np.unique(expected)) > 20  # there is a picture


def middle(study: Study, token: str) -> tuple[float, float]:
    picture = study.places[token].picture
    return picture.columns / 2, picture.rows / 2


@pytest.mark.parametrize(("bits", "reader"), [(8, "R01"), (12, "R02"), (16, "R03")])
def test_one_to_one_is_the_picture_through_the_stated_window(
    browser: Browser, server: ServerProcess, study: Study, bits: int, reader: str
) -> None:
    """At 1:1 with one screen pixel a CSS pixel: the first window, then by keys, by drag, typed, inverted, reset."""
    with Seat(browser, server, reader) as seat:
        seat.read()
        token = seat.go_to(study, bits)
        first = study.places[token].picture.window
        centre = middle(study, token)
        seat.press("o")
        check(seat, study, 1, centre)
        assert seat.window() == first
        assert seat.page.inner_text("#zoom") == "100 %"

        step = max(1, round(first[1] * 0.05))
        for key, moved in {"w": (0, -step), "s": (step, 0), "d": (-step, 0), "e": (0, step)}.items():
            seat.press("r", key)
            check(seat, study, 1, centre)
            assert seat.window() == (first[0] + moved[0], first[1] + moved[1]), key
        small = max(1, round(first[1] * 0.01))
        seat.press("r", "Shift+S")
        assert seat.window() == (first[0] + small, first[1])
        check(seat, study, 1, centre)

        seat.press("r", "i")
        check(seat, study, 1, centre, invert=True)
        box = seat.page.locator("#picture").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for across, down in ((90, -40), (-150, 25)):
            before = seat.window()
            seat.page.mouse.move(x, y)
            seat.page.mouse.down()
            seat.page.mouse.move(x + across / 2, y + down / 2)
            seat.page.mouse.move(x + across, y + down)
            seat.page.mouse.up()
            seat.page.mouse.move(x, y)
            after = seat.window()
            assert (after[0] - before[0]) * down > 0  # up: a lower centre, brighter
            assert (after[1] - before[1]) * across > 0
            check(seat, study, 1, centre, invert=True)
        seat.press("i")
        for typed in ((first[0], 2), (first[0], 1), (first[0] + 0.5, first[1] + 1)):
            for field, value in zip(("#window-centre", "#window-width"), typed, strict=True):
                seat.page.fill(field, f"{value:g}")
            seat.press("Enter")  # leaves the field, saves nothing
            assert seat.window() == typed
            if typed[1] > 2:
                check(seat, study, 1, centre)
            else:  # black and white: the step lies where the standard says
                values, inside = nearest(raw(study, token), centre, 1, *seat.shown().shape[1::-1])
                assert np.array_equal(seat.shown()[..., 0], np.where(inside, greys(values, *typed), 0))
        seat.press("r")
        assert seat.window() == first
        check(seat, study, 1, centre)
        assert seat.state["token"] == token  # still the same case


def test_above_one_to_one_pixels_are_squares_without_smoothing(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    with Seat(browser, server, "R04") as seat:
        seat.read()
        token = seat.go_to(study, 12)
        there = middle(study, token)
        fitted = seat.state["zoom"]
        assert fitted >= 2
        assert fitted == int(fitted)  # a whole number, so that all pixels are of one size
        check(seat, study, fitted, there)
        seat.press("o")
        for zoom, presses in ((2, 2), (3, 1), (6, 2), (8, 1)):
            seat.press(*["+"] * presses)
            assert seat.state["zoom"] == zoom
            check(seat, study, zoom, there)  # what lay in the middle stays there, however often one zooms
        x, y = there
        seat.press("-", "-", "ArrowRight", "ArrowDown")  # 60 CSS px each, at zoom 4
        check(seat, study, 4, (x + 15, y + 15))
        seat.press("Shift+ArrowLeft")
        check(seat, study, 4, (max(0, x + 15 - 60), y + 15))
        seat.press("f")
        check(seat, study, fitted, there)


def averages(values: Grey, zoom: float, width: int, height: int) -> tuple[Any, Any]:
    """Means of the stored values under each screen pixel, and what of each pixel the picture covers."""
    found = []
    for size, most in ((height, values.shape[0]), (width, values.shape[1])):
        edges = most / 2 + (np.arange(size + 1) - size / 2) / zoom
        found.append(np.clip(edges, 0, most))
    down, across = found
    # the sum over all pixels above and to the left of a point is linear between the pixels' corners
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(0).cumsum(1)
    rows = np.array([np.interp(across, np.arange(total.shape[1]), line) for line in total])
    corners = np.array([np.interp(down, np.arange(total.shape[0]), column) for column in rows.T]).T
    sums = np.diff(np.diff(corners, axis=0), axis=1)
    area = np.diff(down)[:, None] * np.diff(across)[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / area, area


def test_below_one_to_one_a_pixel_is_the_mean_of_what_lies_under_it(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    with Seat(browser, server, "R05") as seat:
        seat.read()
        token = seat.go_to(study, 16)
        values = raw(study, token)
        shown = seat.shown()[..., 0]
        height, width = shown.shape
        fitted = min(height / values.shape[0], width / values.shape[1])
        assert seat.state["zoom"] == pytest.approx(fitted)
        assert fitted < 1
        for zoom in (fitted, 0.5):
            if zoom == 0.5:
                seat.press("o", *["-"] * 3)
                assert seat.state["zoom"] == 0.5
            shown = seat.shown()[..., 0]
            means, area = averages(values, zoom, width, height)
            covered = area > 1e-6
            expected = greys(np.floor(np.where(covered, means, 0) + 0.5).astype(np.int64), *seat.window())
            difference = np.abs(shown - np.where(covered, expected, 0).astype(np.int64))
            # a mean that lies on a half in one order of adding up may lie under it in another
            assert difference.max() <= 1
            assert (difference == 0).mean() > 0.9999
            assert len(np.unique(shown)) > 100


def test_the_magnifier_shows_pixels_of_the_picture_and_leaves_the_canvas_alone(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    with Seat(browser, server, "R06") as seat:
        seat.read()
        token = seat.go_to(study, 16)
        before = seat.shown()
        seat.press("m")
        assert np.array_equal(seat.shown(), before)  # what is measured is never drawn over
        lens = seat.page.evaluate(
            """() => { const c = document.querySelector("#overlay");
                 const x = Math.round(c.width / 2), y = Math.round(c.height / 2);
                 return [...c.getContext("2d").getImageData(x - 40, y - 40, 80, 80).data]; }"""
        )
        found = np.array(lens, np.uint8).reshape(80, 80, 4)
        assert (found[..., 3] == 255).all()
        zoom = 2 * seat.state["zoom"]  # twice what is around it: above 1:1, so pixels of the picture
        assert zoom > 1
        allowed = set(np.unique(greys(raw(study, token), *seat.window())))
        assert set(np.unique(found[..., :3])) <= allowed
        x, y = middle(study, token)
        across = np.floor(x + (np.arange(80) - 40 + 0.5) / zoom).astype(int)
        down = np.floor(y + (np.arange(80) - 40 + 0.5) / zoom).astype(int)
        expected = greys(raw(study, token)[np.ix_(down, across)], *seat.window())
        wrong = np.abs(found[..., 0].astype(int) - expected)
        shifts = [
            np.mean(found[2:-2, 2:-2, 0] == expected[2 + dy : 78 + dy, 2 + dx : 78 + dx])
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        assert max(shifts) > 0.75, (max(shifts), wrong.mean())  # the lens lies on whole screen pixels
        seat.press("m")
        seat.page.evaluate(DRAWN)
        assert seat.page.evaluate(
            """() => { const c = document.querySelector("#overlay");
                 return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.every((v) => v === 0); }"""
        )


def test_a_screen_of_two_pixels_a_css_pixel_shows_its_own_pixels(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    with Seat(browser, server, "R07", device_scale_factor=2) as seat:
        seat.read()
        token = seat.go_to(study, 16)
        seat.press("o")
        shown = seat.shown()
        box = seat.page.locator("#picture").bounding_box()
        assert shown.shape[1] == pytest.approx(2 * box["width"], abs=1)
        check(seat, study, 1, middle(study, token))


def test_a_picture_that_came_in_part_is_fetched_again(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    """A line that broke in the middle must not become a picture with a black half."""
    with Seat(browser, server, "R08") as seat:
        broken: list[str] = []

        def half(route: Any) -> None:
            if broken:
                route.continue_()
                return
            broken.append(route.request.url)
            body = route.fetch().body()
            route.fulfill(body=body[: len(body) // 2], content_type="application/octet-stream")

        seat.page.route("**/study/api/pictures/*", half)
        token = seat.read()
        assert broken[0].endswith(token)
        if seat.state["zoom"] < 1:  # the picture may be larger than the page
            seat.press("o")
        check(seat, study, round(seat.state["zoom"]), middle(study, token))


def test_the_folder_is_the_one_that_was_frozen(study: Study) -> None:
    """What pixels are compared with has the sizes and bits of the arms."""
    sizes = {(one.rows, one.columns, one.bits) for one in study.protocol.pictures}
    assert sizes == {(arm.rows, arm.columns, arm.bits) for arm in ARMS}
    assert isinstance(study.folder, Path)
    for place in list(study.places)[:12]:
        assert raw(study, place).max() < 1 << study.places[place].picture.bits
