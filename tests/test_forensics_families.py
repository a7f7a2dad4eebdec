"""Forged pictures by family: altered where they say, genuine ones untouched, nobody tested whom a generator knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanward.errors import InputError, LeakError, SettingsError
from scanward.forensics.families import CLASSICAL, GENUINE, Sample, samples
from scanward.forensics.fillings import copied, exemplar, spliced
from scanward.mammography.manifest import read_manifest
from scanward.mammography.phantom_sets import write_phantoms
from scanward.mammography.pictures import load
from scanward.tampering.presets import change, find
from scanward.tampering.running import Settings, train

FAMILIES = [GENUINE, "generator:known", "cycle:known", *CLASSICAL]


@pytest.fixture(scope="module")
def women(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forensics") / "women"
    write_phantoms(out, patients=4, rows=48, columns=48, seed=71, prevalence=1.0, both_breasts=True)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forensics-run")
    write_phantoms(
        folder / "known", patients=4, rows=32, columns=32, seed=72, prevalence=1.0, both_breasts=True
    )
    preset = change(
        find("scanward-64"), {"rows": "32", "columns": "32", "optimiser.steps": "2", "optimiser.epochs": "0"}
    )
    train(folder / "known", preset, folder / "run", None, Settings(threads=1, device="cpu"))
    return folder


@pytest.fixture(scope="module")
def drawn(women: Path, run: Path) -> list[Sample]:
    return list(samples(women, FAMILIES, 3, runs={"known": run / "run"}))


def test_every_family_is_there_and_genuine_is_the_source_bit_for_bit(
    women: Path, drawn: list[Sample]
) -> None:
    assert {s.family for s in drawn} == set(FAMILIES)
    images = {i.name: i for i in read_manifest(women).images}
    genuine = [s for s in drawn if s.family == GENUINE]
    assert len(genuine) == len(images)
    for sample in genuine:
        pixels, breast = load(women, images[sample.name])
        assert np.array_equal(sample.picture, pixels)
        assert np.array_equal(sample.breast, breast)
        assert not sample.region.any()
        assert not sample.forged


def test_altered_pictures_differ_inside_the_breast_alone(drawn: list[Sample]) -> None:
    genuine = {s.name: s for s in drawn if s.family == GENUINE}
    for sample in drawn:
        if sample.family == GENUINE:
            continue
        change = sample.picture.astype(int) - genuine[sample.name].picture
        assert sample.region.any()
        assert change[sample.region].all(), "what is called altered is altered"
        assert not change[~sample.breast].any(), "outside the breast nothing is"
        assert sample.picture.dtype == np.uint16
        assert sample.forged == (sample.family != "cycle:known")


def test_the_same_seed_makes_the_same_pictures(women: Path, run: Path, drawn: list[Sample]) -> None:
    again = list(samples(women, FAMILIES, 3, runs={"known": run / "run"}))
    assert [(s.name, s.family) for s in again] == [(s.name, s.family) for s in drawn]
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(again, drawn, strict=True))
    other = list(samples(women, ["copy-move"], 4))
    mine = [s for s in drawn if s.family == "copy-move"]
    assert any(not np.array_equal(a.picture, b.picture) for a, b in zip(other, mine, strict=True))


def test_a_woman_of_the_generators_training_is_refused(run: Path) -> None:
    with pytest.raises(LeakError, match="women"):
        samples(run / "known", ["generator:known"], runs={"known": run / "run"})
    allowed = samples(run / "known", ["generator:known"], runs={"known": run / "run"}, seen_ok=True)
    assert next(allowed).family == "generator:known"


def test_one_size_is_given_to_genuine_and_forged_alike(women: Path) -> None:
    for sample in samples(women, [GENUINE, "splicing"], size=(40, 32)):
        assert sample.picture.shape == sample.breast.shape == sample.region.shape == (40, 32)
        assert sample.region.any() == (sample.family != GENUINE)


def test_only_the_women_asked_for_are_used(women: Path) -> None:
    one, other = sorted(read_manifest(women).patients())[:2]
    assert {s.patient for s in samples(women, [GENUINE], patients={one, other})} == {one, other}
    # a splice needs another woman, and nobody else may be opened
    assert not list(samples(women, ["splicing"], patients={one}))
    with pytest.raises(InputError, match="none of these women"):
        samples(women, [GENUINE], patients=())


@pytest.mark.parametrize("family", ["morphing", "generator:other", "cycle:", "generator"])
def test_unknown_families_are_refused(women: Path, family: str) -> None:
    with pytest.raises(SettingsError):
        samples(women, [family])


def test_a_copy_is_tissue_of_the_breast() -> None:
    random = np.random.default_rng(0)
    picture = random.uniform(1000, 40000, (64, 64))
    breast, region = np.ones((64, 64), bool), np.zeros((64, 64), bool)
    region[20:30, 20:30] = True
    made = copied(picture, breast, region, random)
    core = made[23:27, 23:27]
    assert not np.allclose(core, picture[23:27, 23:27], rtol=0.05)
    places = np.lib.stride_tricks.sliding_window_view(picture, (4, 4))
    nearest = np.abs(places - core).mean(axis=(2, 3)).min()
    assert nearest < 500, "the middle of it is found elsewhere in the picture"


def test_an_exemplar_continues_a_pattern() -> None:
    picture = np.tile([[10000.0, 30000.0]], (48, 24))
    region = np.zeros((48, 48), bool)
    region[20:27, 20:27] = True
    filled = exemplar(np.where(region, 0, picture), np.ones((48, 48), bool), region, np.random.default_rng(0))
    assert np.array_equal(filled, picture)


def test_a_poisson_splice_meets_the_border() -> None:
    down, _ = np.indices((48, 48))
    picture, donor = 100.0 * down + 5000, 100.0 * down + 30000
    region = np.zeros((48, 48), bool)
    region[15:30, 15:30] = True
    made = spliced(picture, donor, region, poisson=True)
    assert np.allclose(made, picture, atol=1.0), "equal gradients: nothing is left of the other brightness"
