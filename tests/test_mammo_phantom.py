"""Phantoms: the truth is exact, the tissue has the power spectrum of mammograms, a set of them is a data set."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from house import REPOSITORY, SRC
from scanward.cli.main import cli
from scanward.config import PHANTOM_BOUNDS
from scanward.errors import InputError, ScanwardError, SettingsError
from scanward.mammography import Label, LesionKind, read_manifest
from scanward.mammography.import_one import OutputError
from scanward.mammography.inspecting import check, summarise
from scanward.mammography.phantom import FULL_SCALE, HEIGHT_MM, Phantom, phantom, power_law
from scanward.mammography.phantom_lesions import DIAMETER, EDGE_OF_MASK, Growth, draw_growth
from scanward.mammography.phantom_sets import draw_phantoms, read_truth, write_phantoms
from scanward.mammography.pictures import lesion_mask, lesions_mask, load, read_picture
from scanward.mammography.splits import check_disjoint, split_by_patient

sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product

from benchmarks import phantoms
from benchmarks.phantoms import exponent, tissue_exponent

ILL = (Label.BENIGN, Label.MALIGNANT)


def growth(seed: int, label: Label = Label.MALIGNANT, masses: float = 0.8) -> Growth:
    return draw_growth(np.random.default_rng(seed), label, masses=masses)


def arrays(one: Phantom) -> list[NDArray[np.generic]]:
    return [one.picture, one.healthy, one.breast, one.muscle, one.lesion, *one.masks]


def same(one: Phantom, other: Phantom) -> bool:
    return one.lesions == other.lesions and all(
        np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True)
    )


# --- one phantom


@dataclass(frozen=True)
class Recipe:
    seed: tuple[int, int]
    rows: int
    columns: int
    growths: tuple[Growth, ...]
    laterality: str
    view: str

    def draw(self) -> Phantom:
        return phantom(
            self.seed,
            self.rows,
            self.columns,
            lesions=self.growths,
            laterality=self.laterality,
            view=self.view,
        )


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    rows = draw(st.integers(PHANTOM_BOUNDS.least_side, 90))
    masses = st.sampled_from((0.0, 1.0))
    growths = st.lists(st.builds(growth, st.integers(0, 10**6), st.sampled_from(ILL), masses), max_size=3)
    return Recipe(
        seed=draw(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 10**6))),
        rows=rows,
        columns=draw(st.integers(max(-(-rows // 2), PHANTOM_BOUNDS.least_side), 100)),
        growths=tuple(draw(growths)),
        laterality=draw(st.sampled_from("LR")),
        view=draw(st.sampled_from(("MLO", "CC"))),
    )


@given(recipes())
@settings(max_examples=120, deadline=None)
def test_the_truth_of_every_phantom_is_exact(recipe: Recipe) -> None:
    one, growths = recipe.draw(), recipe.growths
    changed = one.picture != one.healthy
    assert (one.picture >= one.healthy).all()  # lesions add light
    assert not (changed & ~one.breast).any()
    assert not (one.lesion & ~one.breast).any()
    assert len(one.lesions) == len(one.masks) == len(growths)
    assert changed.any() == bool(growths)
    near = np.zeros_like(changed)
    down, right = np.mgrid[: changed.shape[0], : changed.shape[1]] * one.spacing
    for lesion, mask, grown in zip(one.lesions, one.masks, growths, strict=True):
        assert mask.any()
        assert (lesion.kind, lesion.label, lesion.spiculated) == (grown.kind, grown.label, grown.spiculated)
        assert lesion.circle is not None
        assert (
            mask & ~lesion_mask(lesion, (mask.shape[0], mask.shape[1]))
        ).sum() == 0  # the circle holds the mask
        x, y, _ = lesion.circle
        assert one.breast[int(y), int(x)]
        # as far as spicules reach, and 15 widths of the soft edge, where it is below a grey level
        reach = 1.5 * grown.diameter + 15 * max(0.6 * one.spacing, 0.06 * grown.diameter) + one.spacing
        near |= np.hypot(right - x * one.spacing, down - y * one.spacing) <= reach
    assert not (changed & ~near).any()
    assert one.lesion.sum() == (np.logical_or.reduce(one.masks).sum() if growths else 0)
    worst = Label.MALIGNANT if any(g.label is Label.MALIGNANT for g in growths) else Label.BENIGN
    assert one.label is (worst if growths else Label.NORMAL)


@given(recipes())
@settings(max_examples=60, deadline=None)
def test_every_breast_hangs_on_the_left_edge(recipe: Recipe) -> None:
    one = recipe.draw()
    _, pieces = scipy.ndimage.label(one.breast)
    assert pieces == 1
    rows = one.breast.any(axis=1)
    assert (one.breast[rows, 0] | (np.argmax(one.breast[rows], axis=1) <= 1)).all()
    half = one.breast.shape[1] // 2
    assert one.breast[:, :half].sum() > one.breast[:, half:].sum()
    assert 3_000 < one.breast.sum() * one.spacing**2 < 30_000  # mm2
    assert one.breast.mean() < 0.95
    assert not one.breast[:, -1].any()  # the nipple is in the picture
    assert one.healthy[~one.breast].max() < 0.1 * FULL_SCALE < np.median(one.healthy[one.breast])


def test_outside_its_mask_a_lesion_is_faint() -> None:
    """By the definition of the mask: no more than a fifth of its brightest point, inside it more, save where full scale
    cuts the light off."""
    for number in range(40):
        one = phantom((5, number), 64, 64, lesions=[growth(number)])
        light = one.picture.astype(np.int64) - one.healthy
        if one.picture.max() == FULL_SCALE:
            continue
        assert light[~one.lesion].max() <= EDGE_OF_MASK * light.max() + 1
        assert light[one.lesion].min() >= EDGE_OF_MASK * light.max() - 1


def test_the_same_seed_is_the_same_woman_with_and_without_lesions() -> None:
    ill = phantom((3, 4), 64, 48, lesions=[growth(1)])
    assert same(ill, phantom((3, 4), 64, 48, lesions=[growth(1)]))
    well = phantom((3, 4), 64, 48)
    assert np.array_equal(ill.healthy, well.picture)
    assert np.array_equal(well.picture, well.healthy)
    others = [
        phantom((3, 5), 64, 48),
        phantom((4, 4), 64, 48),
        phantom((3, 4), 64, 48, laterality="R"),
        phantom((3, 4), 64, 48, view="CC"),
    ]
    for other in others:
        assert (other.picture != well.picture).mean() > 0.5
    assert [other.density == well.density for other in others] == [False, False, True, True]


def test_another_process_draws_the_same_pixels() -> None:
    code = (
        "import hashlib; from scanward.mammography.phantom_sets import draw_phantoms\n"
        "drawn = draw_phantoms(patients=4, seed=11)\n"
        "pixels = b''.join(d.shown.picture.tobytes() + d.twin.picture.tobytes() for d in drawn)\n"
        "print(hashlib.sha256(pixels).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    here = b"".join(
        one.shown.picture.tobytes() + one.twin.picture.tobytes() for one in draw_phantoms(patients=4, seed=11)
    )
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize("beta", [2.0, 2.7, 3.0, 3.3])
def test_random_fields_have_the_power_spectrum_that_is_asked_for(beta: float) -> None:
    fields = [power_law(np.random.default_rng(i), (256, 256), beta, 0.5) for i in range(12)]
    assert np.mean([exponent(field, 0.5, 0.05, 0.5) for field in fields]) == pytest.approx(beta, abs=0.12)
    assert all(abs(field.mean()) < 1e-9 and abs(field.std() - 1) < 1e-9 for field in fields)


def test_the_whole_tissue_has_an_exponent_near_three() -> None:
    """Mammograms: beta 2.8 to 3 with a spread of some 0.3 (Burgess 1999; Heine et al. 1999)."""
    drawn = [tissue_exponent(phantom((7, number), 256, 256)) for number in range(30)]
    found = [beta for beta in drawn if beta is not None]
    assert len(found) > 10
    assert 2.6 < np.mean(found) < 3.4
    assert np.std(found) < 0.6


def test_the_pectoral_muscle_is_seen_from_the_side_alone() -> None:
    oblique = np.array([phantom((1, i), 64, 64, view="MLO").picture[:20, :6].mean() for i in range(20)])
    cranial = np.array([phantom((1, i), 64, 64, view="CC").picture[:20, :6].mean() for i in range(20)])
    assert oblique.mean() > 1.3 * cranial.mean()
    for number in range(20):
        one = phantom((1, number), 64, 64, lesions=[growth(number)])
        assert one.muscle.any()
        assert not (one.muscle & ~one.breast).any()
        assert np.median(one.healthy[one.muscle]) > np.median(one.healthy[one.breast & ~one.muscle])
        assert one.lesions[0].circle is not None
        x, y, _ = one.lesions[0].circle
        assert not one.muscle[int(y), int(x)]
        assert not phantom((1, number), 64, 64, view="CC").muscle.any()


def test_spicules_belong_to_malignant_masses() -> None:
    """Seen at 128 pixels: for its area the mask of a mass with spicules has a longer border."""

    def roughness(label: Label) -> float:
        found = []
        for number in range(30):
            grown = Growth(LesionKind.MASS, label, 16.0, 0.4)
            mask = phantom((2, number), 128, 128, lesions=[grown]).lesion
            border = mask & ~scipy.ndimage.binary_erosion(mask)
            found.append(border.sum() / np.sqrt(mask.sum()))
        return float(np.mean(found))

    assert roughness(Label.MALIGNANT) > 1.2 * roughness(Label.BENIGN)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"rows": 15}, "15 x 64"),
        ({"rows": 5000, "columns": 5000}, "5000 x 5000"),
        ({"rows": 64, "columns": 20}, "too narrow"),
        ({"laterality": "B"}, "no phantom of B MLO"),
        ({"view": "LM"}, "no phantom of L LM"),
    ],
)
def test_phantoms_that_cannot_be_drawn(arguments: dict[str, int], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        phantom((0, 0), **arguments)  # type: ignore[arg-type]


# --- sets


def test_women_are_the_same_however_many_are_drawn() -> None:
    few = list(draw_phantoms(patients=5, seed=2, rows=32, columns=32))
    many = list(draw_phantoms(patients=12, seed=2, rows=32, columns=32))
    assert len(many) == 12
    for one, other in zip(few, many, strict=False):
        assert (one.name, one.patient) == (other.name, other.patient)
        assert same(one.shown, other.shown)
        assert same(one.twin, other.twin)
    others = list(draw_phantoms(patients=5, seed=3, rows=32, columns=32))
    assert not {one.patient for one in few} & {one.patient for one in others}


@given(st.integers(1, 25), st.integers(0, 100), st.integers(0, 100), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_shares_are_exact_to_one_woman(patients: int, malignant: int, benign: int, seed: int) -> None:
    benign = min(benign, 100 - malignant)
    shares = {Label.MALIGNANT: malignant / 100, Label.BENIGN: benign / 100}
    drawn = draw_phantoms(
        patients=patients, rows=16, columns=16, seed=seed, prevalence=malignant / 100, benign=benign / 100
    )
    counts: Counter[Label] = Counter()
    for number, one in enumerate(drawn, start=1):
        counts[one.shown.label] += 1
        for label, share in shares.items():
            assert abs(counts[label] - share * number) <= 1 + 1e-6


def test_twins_are_the_same_breast_in_the_other_state() -> None:
    for one in draw_phantoms(patients=12, seed=4, benign=0.3, both_breasts=True, views=("MLO", "CC")):
        shown, twin = one.shown, one.twin
        assert np.array_equal(shown.healthy, twin.healthy)
        assert bool(shown.lesions) is not bool(twin.lesions)
        assert (shown.label is Label.NORMAL) is not (twin.label is Label.NORMAL)
        healthy, ill = (twin, shown) if shown.lesions else (shown, twin)
        assert np.array_equal(healthy.picture, healthy.healthy)
        assert not healthy.lesion.any()
        assert shown.lesions or twin.label is Label.MALIGNANT
        assert np.array_equal(one.truth.lesion, ill.lesion)
        assert np.array_equal(one.truth.twin, twin.picture)


def test_both_breasts_and_both_views(tmp_path: Path) -> None:
    manifest = write_phantoms(
        tmp_path, patients=6, rows=32, columns=32, both_breasts=True, views=("CC", "MLO"), prevalence=0.5
    )
    for images in manifest.patients().values():
        assert [(one.laterality, one.view) for one in images] == [
            ("L", "CC"),
            ("L", "MLO"),
            ("R", "CC"),
            ("R", "MLO"),
        ]
        assert len({one.density for one in images}) == 1
        ill = {one.laterality for one in images if one.label is Label.MALIGNANT}
        assert len(ill) <= 1
        assert sum(one.label is Label.MALIGNANT for one in images) == 2 * len(ill)
        lesions = [(one.lesions[0].kind, one.lesions[0].spiculated) for one in images if one.lesions]
        assert len(set(lesions)) <= 1
    split = split_by_patient(manifest, {"train": 0.5, "test": 0.5})
    assert [len(patients) for patients in split.parts.values()] == [3, 3]


def test_a_folder_of_phantoms_is_a_data_set(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options = {"patients": 12, "rows": 40, "columns": 32, "seed": 5, "benign": 0.25}
    written = write_phantoms(tmp_path / "set", **options, progress=lambda *t: told.append(t))  # type: ignore[arg-type]
    manifest = read_manifest(tmp_path / "set")
    assert manifest == written
    assert told == [(i, 12) for i in range(1, 13)]
    assert manifest.phantom
    assert manifest.kind == "phantom"
    assert (manifest.books.listed, manifest.books.imported) == (12, 12)
    assert Counter(image.label for image in manifest.images) == {
        Label.MALIGNANT: 6,
        Label.BENIGN: 3,
        Label.NORMAL: 3,
    }
    assert {image.laterality for image in manifest.images} == {"L", "R"}
    drawn = {one.name: one for one in draw_phantoms(**options)}  # type: ignore[arg-type]
    for image in manifest.images:
        one = drawn[image.name]
        pixels, breast = load(tmp_path / "set", image, verify=True)
        assert np.array_equal(pixels, one.shown.picture)
        assert np.array_equal(breast, one.shown.breast)
        assert np.array_equal(lesions_mask(image, tmp_path / "set"), one.shown.lesion)
        assert image.mirrored is (image.laterality == "R")
        assert image.spacing == (one.shown.spacing, one.shown.spacing)
        truth = read_truth(tmp_path / "set", image)
        assert truth is not None
        assert np.array_equal(truth.twin, one.twin.picture)
        assert np.array_equal(truth.lesion, one.truth.lesion)
        assert np.array_equal(truth.pectoral, one.shown.muscle)
        if image.lesions:
            assert np.array_equal(
                truth.twin, read_picture(tmp_path / "set" / "healthy" / f"{image.name}.png")
            )
    found = check(tmp_path / "set", manifest)
    assert (found.verified, found.wrong, found.strangers) == (12, (), ())
    assert summarise(manifest).leaks == ()
    assert len({image.sha256 for image in manifest.images}) == 12
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "breast",
        "healthy",
        "images",
        "lesioned",
        "lesions",
        "manifest.json",
        "pectoral",
    ]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_phantoms(tmp_path / name, patients=4, rows=32, columns=32, seed=9)
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")}
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_sets_of_two_seeds_share_nobody(tmp_path: Path) -> None:
    one, other = (write_phantoms(tmp_path / str(s), patients=6, rows=16, columns=16, seed=s) for s in (0, 1))
    check_disjoint(one, other)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"patients": 0}, "0 women"),
        ({"patients": PHANTOM_BOUNDS.patients + 1}, "women"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1 << 32}, "seed"),
        ({"prevalence": 1.2}, "shares"),
        ({"prevalence": -0.1}, "shares"),
        ({"prevalence": float("nan")}, "shares"),
        ({"prevalence": 0.7, "benign": 0.4}, "shares"),
        ({"contrast": 0.0}, "contrast"),
        ({"contrast": float("nan")}, "contrast"),
        ({"views": ()}, "views none"),
        ({"views": ("CC", "CC")}, "views CC, CC"),
        ({"views": ("LM",)}, "LM"),
        ({"rows": 8}, "8 x 64"),
    ],
)
def test_sets_that_cannot_be_made_touch_nothing(
    tmp_path: Path, arguments: dict[str, object], what: str
) -> None:
    with pytest.raises(SettingsError, match=what):
        write_phantoms(tmp_path / "set", **{"patients": 3, **arguments})  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


# --- folders in use, interruption, full disks


def small(out: Path, **options: object) -> None:
    write_phantoms(out, **{"patients": 3, "rows": 32, "columns": 32, **options})  # type: ignore[arg-type]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for force in (False, True):
        with pytest.raises(SettingsError, match="something else"):
            small(tmp_path / "mine", force=force)
    small(tmp_path / "set")
    before = (tmp_path / "set" / "manifest.json").read_bytes()
    with pytest.raises(SettingsError, match="holds a data set"):
        small(tmp_path / "set", seed=1)
    assert (tmp_path / "set" / "manifest.json").read_bytes() == before
    small(tmp_path / "set", seed=1, prevalence=0.0, force=True)
    assert check(tmp_path / "set", read_manifest(tmp_path / "set")).strangers == ()
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "breast",
        "images",
        "lesioned",
        "manifest.json",
        "pectoral",
    ]


def test_what_was_interrupted_is_no_data_set(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "set", progress=stop)
    with pytest.raises(InputError, match="no data set here"):
        read_manifest(tmp_path / "set")
    small(tmp_path / "set")  # without force: there is nothing to be lost
    assert check(tmp_path / "set", read_manifest(tmp_path / "set")).verified == 3


def test_what_was_killed_is_no_data_set(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "scanward.cli",
        "mammo",
        "phantom",
        str(tmp_path / "set"),
        "--patients",
        "9999",
    ]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(SRC)}, stderr=subprocess.DEVNULL
    ) as writer:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "set" / "images").glob("*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
    assert list((tmp_path / "set" / "images").glob("*.png"))
    with pytest.raises(InputError, match="no data set here"):
        read_manifest(tmp_path / "set")
    small(tmp_path / "set")
    assert check(tmp_path / "set", read_manifest(tmp_path / "set")).strangers == ()


@contextmanager
def files_up_to(limit: int) -> Iterator[None]:
    """No file may become longer: Python ignores SIGXFSZ, so a write beyond it fails as on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 100, 1000])
def test_a_full_disk_leaves_no_data_set(tmp_path: Path, limit: int) -> None:
    with files_up_to(limit), pytest.raises(OutputError, match="cannot be written"):
        small(tmp_path / "set")
    with pytest.raises(InputError, match="no data set here"):
        read_manifest(tmp_path / "set")
    small(tmp_path / "set")


def test_a_damaged_truth_is_said(tmp_path: Path) -> None:
    small(tmp_path / "set", rows=40)
    small(tmp_path / "other")
    ill, well, _ = read_manifest(tmp_path / "set").images
    for image, folder in ((ill, "pectoral"), (well, "pectoral"), (ill, "healthy"), (well, "lesioned")):
        path = tmp_path / "set" / folder / f"{image.name}.png"
        whole = path.read_bytes()
        for bad in (whole[: len(whole) // 2], b"", (tmp_path / "other" / folder / path.name).read_bytes()):
            path.write_bytes(bad)
            with pytest.raises(ScanwardError) as caught:
                read_truth(tmp_path / "set", image)
            assert caught.value.where == str(path)
        path.write_bytes(whole)
        assert read_truth(tmp_path / "set", image) is not None
    for image, folder in ((ill, "healthy"), (well, "lesioned")):
        (tmp_path / "set" / folder / f"{image.name}.png").unlink()
        assert read_truth(tmp_path / "set", image) is None


# --- the command


def run(*arguments: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, ["mammo", "phantom", *map(str, arguments)])
    assert done.exit_code == status, (done.output, done.exception)
    return done.stdout


def test_the_command_makes_a_data_set(tmp_path: Path) -> None:
    told = json.loads(
        run(
            tmp_path / "set",
            "--patients",
            8,
            "--size",
            "48x32",
            "--seed",
            3,
            "--view",
            "CC",
            "--benign",
            0.25,
            "--json",
        )
    )
    assert told["phantom"] is True
    assert told["images"] == told["patients"] == 8
    assert told["lesions_located"] == 6
    assert told["smallest"] == told["largest"] == [48, 32]
    manifest = read_manifest(tmp_path / "set")
    assert {image.view for image in manifest.images} == {"CC"}
    assert {image.name[:10] for image in manifest.images} == {"phantom-3-"}
    assert "no human being" in run(tmp_path / "more", "--patients", 2)
    assert {image.rows for image in read_manifest(tmp_path / "more").images} == {64}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--size", "big"), "'big' is no size"),
        (("--size", "64x"), "'64x' is no size"),
        (("--size", "-64"), "is no size"),
        (("--size", "8"), "8 x 8 pixels"),
        (("--prevalence", "0.8", "--benign", "0.4"), "shares of 0.8 malignant"),
        (("--view", "CC", "--view", "CC"), "views CC, CC"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    told = json.loads(run(tmp_path / "set", "--patients", 2, *arguments, "--json", status=2))
    assert what in told["what"]
    assert told["todo"]
    assert not (tmp_path / "set").exists()


def test_lesions_are_as_large_as_they_are_said_to_be() -> None:
    for number in range(50):
        grown = growth(number)
        assert DIAMETER[0] <= grown.diameter <= DIAMETER[1]
        half, doubled = (
            draw_growth(np.random.default_rng(number), grown.label, contrast=c) for c in (0.5, 2)
        )
        assert (half.brightness, doubled.brightness) == pytest.approx(
            (grown.brightness / 2, grown.brightness * 2)
        )


# --- what the page tells to run


def test_the_benchmark_tells_what_brightness_alone_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phantoms.main(["--quick", "--json", "--out", str(tmp_path / "told.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0.5 < told["brightness"]["32"]["brightest after a blur of 4 mm"]["value"] <= 1
    faint = ["--quick", "--json", "--contrast", "0.01", "--out", str(tmp_path / "faint.json")]
    assert phantoms.main(faint) == 0
    fainter = json.loads(capsys.readouterr().out)["brightness"]["32"]["brightest pixel"]["value"]
    assert fainter < told["brightness"]["32"]["brightest pixel"]["value"]


def test_the_page_says_the_sizes_that_are_drawn() -> None:
    page = " ".join((REPOSITORY / "docs" / "mammography.md").read_text("utf-8").split())
    assert f"A picture shows {HEIGHT_MM:.0f} mm from top to bottom" in page
    assert f"masses of {DIAMETER[0]:.0f} to {DIAMETER[1]:.0f} mm" in page


def test_the_example_draws_one(tmp_path: Path) -> None:
    example = REPOSITORY / "examples" / "phantom_mammogram.py"
    env = {"PATH": str(tmp_path), "PYTHONPATH": str(SRC)}  # no screen, no viewer
    done = subprocess.run(
        [sys.executable, str(example), "3", str(tmp_path / "three.png")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=env,
    )
    assert done.stdout.startswith("malignant")
    shown = read_picture(tmp_path / "three.png")
    assert shown.shape == (256, 768)
    ill, well, light = (shown[:, i : i + 256].astype(int) for i in (0, 256, 512))
    assert (ill != well).any()
    assert abs(ill - well - light).max() <= 1  # the last bit is lost three times
