"""The detector: what it looks at, what it learns, whom it refuses, what its numbers promise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scanward.calibration import Calibration
from scanward.errors import DecodeError, InputError, LeakError, LearningError, SettingsError
from scanward.forensics import detector_files, verdicts
from scanward.forensics.examining import Detector
from scanward.forensics.families import GENUINE, samples
from scanward.forensics.framing import framed, unframed
from scanward.forensics.making import Making, divided, train
from scanward.forensics.networks import Localiser, parameters, pooled
from scanward.forensics.oneclass import OneClass
from scanward.forensics.residuals import NOISE, _by_tree, _each, copies, inner, planes
from scanward.forensics.training import Network
from scanward.mammography.manifest import read_manifest
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering import originals
from scanward.tampering.checkpoints import hashed

MAKING = Making(epochs=2, width=16, families=("copy-move", "splicing"))


def disc(side: int = 48, radius: float = 21) -> np.ndarray:
    down, right = np.indices((side, side))
    return np.hypot(down - side / 2, right - side / 2) <= radius


def noisy(side: int = 48, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (20_000 + 400 * random.standard_normal((side, side))).astype(np.uint16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "women"
    write_phantoms(out, patients=24, rows=48, columns=48, seed=81, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "others"
    write_phantoms(out, patients=3, rows=48, columns=48, seed=82, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def detector(data: Path) -> Detector:
    return train(data, {}, MAKING)


# --- what is looked at


def test_what_lies_outside_the_breast_changes_nothing() -> None:
    breast, picture = disc(), noisy()
    other = picture.copy()
    other[~np.hypot(*(np.indices((48, 48)) - 24)).__lt__(26)] = 65535  # labels and film edges
    assert np.array_equal(planes(picture, breast), planes(other, breast))
    assert not planes(picture, breast)[:, ~breast].any()


def test_brightness_is_hidden_and_structure_is_not() -> None:
    breast, picture = disc(), noisy()
    brighter = np.rint(picture * 1.7).astype(np.uint16)
    assert np.allclose(planes(picture, breast), planes(brighter, breast), atol=0.05)
    rough = picture.copy()
    rough[20:28, 20:28] = noisy(seed=1)[20:28, 20:28] + 3 * (noisy(seed=2)[20:28, 20:28] - 20_000)
    made = planes(rough, breast)
    assert made[NOISE, 21:27, 21:27].mean() > 0.7


def test_copied_tissue_has_a_twin_and_the_tree_finds_it_too() -> None:
    breast, picture = disc(), noisy().astype(np.float64)
    picture[10:20, 20:30] = picture[28:38, 14:24] + 900  # brightness fitted
    told = copies(picture, inner(breast))
    assert told[12:18, 22:28].max() < -2.5
    assert told[30:36, 16:22].max() < -2.5
    assert np.median(told[inner(breast)]) == pytest.approx(0, abs=1e-6)
    places = np.argwhere(inner(breast))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, 2, mode="edge"), (5, 5))
    patches = windows[places[:, 0], places[:, 1]].reshape(len(places), -1)
    patches = (patches - patches.mean(1, keepdims=True)).astype(np.float32) / 400
    exact, quick = _each(patches, places), _by_tree(patches, places)
    assert (quick >= exact - 0.02).all()
    twins = exact < 1e-3
    assert twins.sum() >= 2 * 36
    assert (quick[twins] < 1e-2).mean() > 0.95


def test_the_network_is_small_and_sees_the_breast_alone() -> None:
    network = Localiser().eval()
    assert parameters(network) < 300_000
    heat = torch.zeros((1, 8, 8))
    breast = torch.ones((1, 8, 8))
    breast[:, :, 4:] = 0
    heat[:, :, 4:] = 50.0
    assert float(pooled(heat, breast)) == pytest.approx(0.0, abs=1e-5)
    heat[:, 2, 2] = 9.0
    assert float(pooled(heat, breast)) > 5


# --- learning


def test_forged_are_told_from_genuine_by_network_and_by_heat() -> None:
    """A forgery that anybody could find: smooth discs in noise."""
    from scanward.forensics.families import Sample

    breast = disc()
    taken = []
    for k in range(48):
        picture, region = noisy(seed=k), np.zeros((48, 48), np.bool_)
        if k % 2:
            row, column = 14 + k % 3 * 6, 14 + k % 5 * 4
            region[row : row + 9, column : column + 9] = True
            picture = np.where(region, np.uint16(20_000), picture)
        taken.append(Sample(picture, breast, region, "smooth" if k % 2 else GENUINE, f"w{k}", f"p{k}"))
    network = Network(epochs=10, width=16, batch=8, chains=()).fit(taken[:32])
    forged = [network.score(s.picture, s.breast) for s in taken[32:] if s.forged]
    genuine = [network.score(s.picture, s.breast) for s in taken[32:] if not s.forged]
    assert min(forged) > max(genuine)
    heat = network.heat(taken[33])
    assert heat[taken[33].region].mean() > 2 * heat[breast & ~taken[33].region].mean()
    second = OneClass().fit(taken[:32])
    assert min(second.score(s.picture, s.breast) for s in taken[32:] if s.forged) > max(
        second.score(s.picture, s.breast) for s in taken[32:] if not s.forged
    )
    shuffled = OneClass().fit([s for s in taken[:32] if not s.forged])  # forgeries are not looked at
    assert np.array_equal(shuffled.mean, second.mean)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_mirrored_picture_is_as_strange_and_its_heat_is_mirrored(
    detector: Detector, others: Path, axes: tuple[int, ...]
) -> None:
    sample = next(samples(others, ["copy-move"]))
    logit, heat = detector.network.examined(sample.picture, sample.breast)
    other, turned = detector.network.examined(
        np.ascontiguousarray(np.flip(sample.picture, axes)),
        np.ascontiguousarray(np.flip(sample.breast, axes)),
    )
    assert other == pytest.approx(logit, abs=1e-3)
    assert np.allclose(np.flip(turned, axes), heat, atol=1e-3)
    assert not np.allclose(turned, heat, atol=1e-3)


def test_genuine_pictures_alone_teach_nothing(data: Path) -> None:
    with pytest.raises(LearningError, match="genuine"):
        Network(epochs=1).fit(samples(data, [GENUINE]))


def test_the_same_seed_makes_the_same_detector(data: Path, detector: Detector) -> None:
    assert train(data, {}, MAKING).fingerprint == detector.fingerprint


def test_women_are_in_one_part_each() -> None:
    names = [f"w{k}" for k in range(101)]
    parts = verdicts.parted([*names, *names], {"a": 0.5, "b": 0.2, "c": 0.3}, 3)
    assert sorted(w for part in parts.values() for w in part) == sorted(names)
    assert [len(p) for p in parts.values()] == [50, 21, 30]
    assert parts == verdicts.parted(reversed(names), {"a": 0.5, "b": 0.2, "c": 0.3}, 3)


def test_women_of_a_generator_are_learned_from_and_calibrate_nothing() -> None:
    everybody = [f"w{k}" for k in range(60)]
    known = hashed(set(everybody[:20]))
    parts = divided(everybody, known, 3)
    assert sorted(w for part in parts.values() for w in part) == sorted(everybody)
    assert set(everybody[:20]) <= set(parts["learn"])
    assert [len(parts[name]) for name in ("weigh", "calibrate")] == [6, 12]


# --- what the numbers promise


def test_a_rate_that_so_few_women_cannot_express_is_refused(detector: Detector) -> None:
    count = len(detector.calibration.scores)
    with pytest.raises(SettingsError, match=f"{count} women"):
        detector.examine(noisy(), disc(), false_alarms=0.99 / (count + 1))
    detector.examine(noisy(), disc(), false_alarms=1 / (count + 1))


def test_a_genuine_woman_is_alarmed_at_as_seldom_as_promised() -> None:
    random = np.random.default_rng(5)
    alarms = []
    for _ in range(400):
        scores = random.standard_normal((100, 2)) + random.standard_normal((100, 1))
        made = verdicts.women([f"w{k // 2}" for k in range(198)], scores[:99].ravel().tolist())
        assert len(made.scores) == 99
        alarms.append(made.p_value(float(scores[99].max())) <= 0.05)
    assert 0.02 < np.mean(alarms) < 0.085


def test_the_likelihood_ratio_rises_is_clamped_and_becomes_a_probability_by_a_prior_alone() -> None:
    random = np.random.default_rng(6)
    made = verdicts.curve(random.standard_normal(200).tolist(), (2 + random.standard_normal(300)).tolist())
    ratios = [made(x) for x in np.linspace(-50, 50, 101)]
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(201)
    assert ratios[0] == pytest.approx(1 / 301)
    assert made.clamped(50)
    assert not made.clamped(1.0)
    assert made(1.0) == pytest.approx(1.0, abs=0.35)  # both densities are equal there
    assert verdicts.probability(9.0, 0.1) == pytest.approx(0.5)
    backwards = verdicts.curve([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0])
    assert backwards(10.0) <= backwards(-10.0) or backwards.slope == 0


def test_what_is_found_has_the_pictures_size_and_says_why(detector: Detector, others: Path) -> None:
    image = read_manifest(others).images[0]
    original = originals.read(originals.Item(path=others / image.file, folder=others, image=image))
    found = detector.examine_original(original, false_alarms=0.2)
    assert found.heat.shape == original.pixels.shape
    assert found.heat.dtype == np.float32
    assert found.heat.min() >= 0
    assert found.heat.max() <= 1
    assert not found.heat[~original.breast].any()
    assert found.alarm == (found.p_value <= 0.2)
    assert found.probability is None
    assert math.isfinite(found.likelihood_ratio)
    assert found.words[0].startswith("Alarm" if found.alarm else "No alarm")
    assert f"{len(detector.calibration.scores)} genuine women" in found.words[0]
    told = detector.examine_original(original, false_alarms=0.2, prior=0.5)
    assert told.probability == pytest.approx(found.likelihood_ratio / (1 + found.likelihood_ratio))
    turned = replace(original, turned=True)
    assert np.array_equal(detector.examine_original(turned, false_alarms=0.2).heat, found.heat[:, ::-1])


# --- whom it refuses, and what it is kept in


def test_women_who_trained_it_are_refused_under_any_name(
    detector: Detector, data: Path, others: Path
) -> None:
    image = read_manifest(data).images[0]
    known = originals.read(originals.Item(path=data / image.file, folder=data, image=image))
    with pytest.raises(LeakError):
        detector.check_unseen([known])
    renamed = replace(known, image=replace_image(image, "somebody"))
    with pytest.raises(LeakError):  # by her picture
        detector.check_unseen([renamed])
    with pytest.raises(LeakError):  # as a bare file
        detector.check_unseen([replace(known, image=None, patient="")])
    image = read_manifest(others).images[0]
    detector.check_unseen(
        [originals.read(originals.Item(path=others / image.file, folder=others, image=image))]
    )


def replace_image(image: object, patient: str) -> object:
    import msgspec

    return msgspec.structs.replace(image, patient=patient)  # type: ignore[type-var]


def test_what_is_saved_is_what_is_loaded_and_damage_is_found(detector: Detector, tmp_path: Path) -> None:
    path = detector.save(tmp_path / "run")
    loaded = Detector.load(tmp_path / "run")
    assert loaded.fingerprint == detector.fingerprint
    assert loaded.facts == detector.facts
    one, other = (d.examine(noisy(), disc(), false_alarms=0.3) for d in (detector, loaded))
    assert one.p_value == other.p_value
    assert np.array_equal(one.heat, other.heat)
    whole = path.read_bytes()
    random = np.random.default_rng(7)
    for at in [0, 7, 8, 9, 100, *random.integers(len(whole), size=60).tolist()]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(DecodeError):
            Detector.load(tmp_path / "run")
    for length in (0, 4, 8, 1000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DecodeError):
            Detector.load(tmp_path / "run")
    with pytest.raises(InputError):
        Detector.load(tmp_path / "nothing")


def test_pictures_are_resampled_as_those_that_it_learned_from(data: Path) -> None:
    taken = list(samples(data, [GENUINE], size=(32, 32)))[:3]
    for sample in taken:
        image = next(i for i in read_manifest(data).images if i.name == sample.name)
        original = originals.read(originals.Item(path=data / image.file, folder=data, image=image))
        shown, breast = framed(original.pixels, original.breast, (32, 32), original.unit)
        assert np.array_equal(shown, sample.picture)
        assert np.array_equal(breast, sample.breast)
    tall = np.ones((32, 16), np.float32)
    assert unframed(tall, (100, 50), (32, 32)).shape == (100, 50)


def test_too_few_women_are_refused(others: Path) -> None:
    with pytest.raises(LearningError, match="too few"):
        train(others, {}, MAKING)


def test_the_calibration_is_of_women_used_for_nothing_else(
    data: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other pictures of the women of calibration would not change what was learned."""
    parts = verdicts.parted(
        (i.patient for i in read_manifest(data).images),
        {"learn": 0.55, "weigh": 0.15, "calibrate": 0.30},
        MAKING.seed,
    )
    assert detector.facts.counts == {name: len(part) for name, part in parts.items()}
    assert len(detector.calibration.scores) == len(parts["calibrate"])
    kept = [*parts["learn"], *parts["weigh"], *parts["calibrate"]]
    assert len(set(kept)) == len(kept) == len(detector.facts.women)
    seen: list[set[str]] = []
    fit = Network.fit

    def watched(self: Network, taken: list[object]) -> Network:
        seen.append({s.patient for s in taken})  # type: ignore[attr-defined]
        return fit(self, taken)  # type: ignore[arg-type]

    monkeypatch.setattr(Network, "fit", watched)
    train(data, {}, replace(MAKING, epochs=1))
    assert seen == [set(parts["learn"])]
    assert isinstance(detector.calibration, Calibration)
    assert detector.facts.format == detector_files.FORMAT
