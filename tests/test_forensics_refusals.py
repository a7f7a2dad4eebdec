"""What the detector refuses: women of its generators, files that hash well and lie, pictures with hardly a breast."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from scipy.stats import binom

from scanward.errors import DecodeError, InputError, LeakError, LearningError
from scanward.forensics import detector_files
from scanward.forensics.detector_files import DetectorFacts
from scanward.forensics.examining import Detector
from scanward.forensics.families import GENUINE, Sample, samples
from scanward.forensics.making import Making, train
from scanward.forensics.oneclass import NUMBERS, blocks
from scanward.forensics.residuals import planes
from scanward.forensics.verdicts import Curve, Scale
from scanward.mammography.manifest import read_manifest
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering import originals
from scanward.tampering.checkpoints import Run, hashed, marks


@pytest.fixture(scope="module")
def women(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("refusals") / "women"
    write_phantoms(out, patients=66, rows=48, columns=48, seed=71, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("refusals") / "others"
    write_phantoms(out, patients=60, rows=48, columns=48, seed=72, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def detector(women: Path) -> Detector:
    return train(women, {}, Making(epochs=3, width=16, families=("copy-move",)))


def test_fresh_genuine_women_are_alarmed_at_as_promised_and_copies_are_found(
    detector: Detector, others: Path
) -> None:
    """Women of other seeds: p-values are uniform as far as 20 women of calibration allow; forgeries score higher."""
    p_values: dict[str, list[float]] = {}
    for sample in samples(others, [GENUINE, "copy-move"], seed=3):
        found = detector.examine(sample.picture, sample.breast, false_alarms=0.1)
        p_values.setdefault(sample.family, []).append(found.p_value)
    genuine, forged = np.array(p_values[GENUINE]), np.array(p_values["copy-move"])
    n = len(detector.calibration.scores)
    for rate in (0.1, 0.2, 0.5):
        # given the calibration, the share of alarms is itself drawn: Beta(k, n + 1 - k)
        k = int(rate * (n + 1))
        draws = np.random.default_rng(1).beta(k, n + 1 - k, 4000)
        most = np.quantile(binom.ppf(0.99, len(genuine), draws), 0.99)
        assert (genuine <= rate).sum() <= most
    assert genuine.mean() > 0.3
    better = (forged[:, None] < genuine).mean() + (forged[:, None] == genuine).mean() / 2
    assert better > 0.65


def test_women_of_a_generator_are_refused(women: Path, others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """She trained the generator alone: the detector learned from its forgeries."""
    images = read_manifest(others).images
    known, pictured, stranger = images[0], images[1], images[2]

    class Facts:
        patients = hashed({known.patient})
        pictures = tuple(sorted(marks([pictured])))

    making = sys.modules["scanward.forensics.making"]
    run = Run(Path("run"), Facts(), "0" * 64, (), {})  # type: ignore[arg-type]
    monkeypatch.setattr(making, "load_run", lambda path: run)
    drawn = samples
    monkeypatch.setattr(  # its forgeries are no matter here
        making,
        "samples",
        lambda data, families, *rest, runs, **more: drawn(
            data, [f for f in families if not f.startswith("generator:")], *rest, **more
        ),
    )
    made = train(women, {"known": Path("run")}, Making(epochs=1, width=8, families=("copy-move",)))

    def opened(image: object) -> originals.Original:
        file = others / image.file  # type: ignore[attr-defined]
        return originals.read(originals.Item(path=file, folder=others, image=image))  # type: ignore[arg-type]

    for image in (known, pictured):
        with pytest.raises(LeakError):
            made.check_unseen([opened(image)])
    made.check_unseen([opened(stranger)])


@pytest.mark.parametrize(
    "change",
    [
        {"scales": {"network": Scale(0, 0), "second": Scale(0, 1)}},
        {"scales": {"network": Scale(0, -1), "second": Scale(0, 1)}},
        {"scales": {"network": Scale(1e300, 1), "second": Scale(0, 1)}},
        {"curve": Curve(1e300, 0, -5, 5)},
        {"curve": Curve(1, 0, -5, 1e300)},
        {"curve": Curve(-1, 0, -5, 5)},
        {"curve": Curve(1, 0, 5, -5)},
        {"frame": (10**7, 10**7)},
        {"frame": (16, -16)},
        {"calibration": (1e300,)},
        {"width": 12},
    ],
)
def test_a_file_whose_hashes_are_right_and_whose_numbers_are_not_is_refused(
    detector: Detector, tmp_path: Path, change: dict[str, object]
) -> None:
    facts: DetectorFacts = msgspec.structs.replace(detector.facts, **change)
    detector_files.write(tmp_path, detector._tensors(), facts)
    with pytest.raises(DecodeError):
        Detector.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network.place.bias", torch.full((1,), float("nan"))),
        ("network.place.bias", torch.full((1,), float("inf"))),
        ("network.place.bias", torch.zeros(1, dtype=torch.complex64)),
        ("network.place.bias", torch.zeros(2)),
        ("second.mean", torch.full((NUMBERS,), float("nan"), dtype=torch.float64)),
        ("second.mean", torch.zeros(5, dtype=torch.float64)),
        ("second.precision", torch.zeros(5, 5, dtype=torch.float64)),
    ],
)
def test_weights_that_are_no_numbers_or_do_not_fit_are_refused(
    detector: Detector, tmp_path: Path, name: str, value: torch.Tensor
) -> None:
    detector_files.write(tmp_path, detector._tensors() | {name: value}, detector.facts)
    with pytest.raises(DecodeError):
        Detector.load(tmp_path)


def test_of_hardly_a_breast_nothing_is_said(detector: Detector) -> None:
    random = np.random.default_rng(2)
    for rows, columns in ((48, 48), (48, 2880), (3000, 40), (400, 60), (1, 48), (48, 1), (7, 7)):
        picture = (20_000 + 400 * random.standard_normal((rows, columns))).astype(np.uint16)
        for breast in (np.zeros((rows, columns), np.bool_), np.arange(rows * columns).reshape(rows, -1) == 5):
            with pytest.raises(InputError, match="of breast"):
                detector.examine(picture, breast, false_alarms=0.2, where="a.png")
        whole = np.ones((rows, columns), np.bool_)
        try:
            found = detector.examine(picture, whole, false_alarms=0.2)
            assert found.heat.shape == picture.shape
            assert np.isfinite([found.p_value, found.likelihood_ratio, found.score]).all()
        except InputError as error:
            assert "of breast" in error.what  # noqa: PT017


@pytest.mark.parametrize("upright", [True, False])
def test_a_strip_that_one_opinion_cannot_see_is_no_picture_without_an_alarm(
    detector: Detector, *, upright: bool
) -> None:
    """7 px wide in the frame: enough breast to count, and not one block for the second opinion."""
    shape = (400, 60) if upright else (60, 400)
    picture = (20_000 + 400 * np.random.default_rng(5).standard_normal(shape)).astype(np.uint16)
    with pytest.raises(InputError, match="no block of breast"):
        detector.examine(picture, np.ones(shape, np.bool_), false_alarms=0.2)


def test_pictures_that_are_refused_calibrate_nothing(women: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making = sys.modules["scanward.forensics.making"]
    narrow = np.zeros((48, 48), np.bool_)
    narrow[:, :6] = True
    drawn, judged, refused = samples, set(), []

    def half(data: Path, families: tuple[str, ...], *rest: object, **more: object) -> Iterator[Sample]:
        for number, one in enumerate(drawn(data, families, *rest, **more)):  # type: ignore[arg-type]
            if families != (GENUINE,):
                yield one
            elif number % 2:
                refused.append(one.name)
                yield replace(one, breast=narrow)
            else:
                judged.add(one.patient)
                yield one

    monkeypatch.setattr(making, "samples", half)
    made = train(women, {}, Making(epochs=1, width=8, families=("copy-move",)))
    assert len(refused) > 5
    assert len(made.calibration.scores) == len(judged) == made.facts.counts["calibrate"]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_pictures_that_are_refused_are_weighed_nowhere(
    women: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    making = sys.modules["scanward.forensics.making"]
    narrow = np.zeros((48, 48), np.bool_)
    narrow[:, :6] = True
    drawn = samples
    calls: list[int] = []
    sizes = {"whole": 0, "narrow": 0}

    def spoilt(data: Path, families: tuple[str, ...], *rest: object, **more: object) -> Iterator[Sample]:
        calls.append(1)
        for number, one in enumerate(drawn(data, families, *rest, **more)):  # type: ignore[arg-type]
            if len(calls) == 2 and (number % 2 or share == 1):  # the second part that is drawn is weighed
                sizes["narrow"] += 1
                yield replace(one, breast=narrow)
            else:
                sizes["whole"] += len(calls) == 2
                yield one

    monkeypatch.setattr(making, "samples", spoilt)
    making_of = Making(epochs=1, width=8, families=("copy-move", "splicing", "splicing-poisson"))
    if share == 1:
        with pytest.raises(LearningError, match="no genuine picture to take scales from"):
            train(women, {}, making_of)
        return
    made = train(women, {}, making_of)
    assert sizes["narrow"] > 1
    assert made.weighed is not None
    assert len(made.weighed.score) == sizes["whole"]


def test_without_a_whole_breast_to_calibrate_on_there_is_no_detector(
    women: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = sys.modules["scanward.forensics.making"]
    drawn = samples

    def narrow(data: Path, families: tuple[str, ...], *rest: object, **more: object) -> Iterator[Sample]:
        for one in drawn(data, families, *rest, **more):  # type: ignore[arg-type]
            strip = np.zeros((48, 48), np.bool_)
            strip[:, :6] = True
            yield replace(one, breast=strip) if families == (GENUINE,) else one

    monkeypatch.setattr(making, "samples", narrow)
    with pytest.raises(LearningError, match="to calibrate on"):
        train(women, {}, Making(epochs=1, width=8, families=("copy-move",)))


def test_a_breast_without_a_whole_block_has_no_statistics() -> None:
    picture, breast = np.full((48, 48), 20_000, np.uint16), np.zeros((48, 48), np.bool_)
    breast[10:40, 20:26] = True
    found, places = blocks(planes(picture, breast), breast)
    assert found.shape == (0, NUMBERS)
    assert len(places) == 0
