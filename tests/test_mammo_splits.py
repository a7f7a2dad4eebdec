"""Splits are by patient, always; a leak between parts is an error."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.cli.main import cli
from scanward.errors import InputError, LeakError, ScanwardError, SettingsError
from scanward.mammography import Books, Image, Label, Manifest
from scanward.mammography.manifest import write_manifest
from scanward.mammography.splits import (
    Split,
    check_disjoint,
    check_split,
    fingerprint,
    folds_by_patient,
    read_split,
    split_by_patient,
    worst_label,
    write_split,
)

SEVERITY = [Label.NORMAL, Label.UNKNOWN, Label.BENIGN, Label.MALIGNANT]


def image(name: str, patient: str, label: Label = Label.NORMAL, sha256: str | None = None) -> Image:
    return Image(
        name=name,
        patient=patient,
        label=label,
        file=f"images/{name}.png",
        breast=f"breast/{name}.png",
        rows=64,
        columns=64,
        sha256=sha256 or f"sha-{name}",
    )


def manifest(images: list[Image], kind: str = "toy") -> Manifest:
    count = len(images)
    return Manifest(
        kind=kind,
        phantom=False,
        licence="none",
        cite="",
        images=tuple(images),
        books=Books(listed=count, imported=count),
    )


def women(*labels: Label, each: int = 2, kind: str = "toy") -> Manifest:
    """A data set of one woman per label, with ``each`` pictures: the first one shows her label, the others nothing."""
    return manifest(
        [
            image(f"i{number}-{k}", f"p{number}", label if k == 0 else Label.NORMAL)
            for number, label in enumerate(labels)
            for k in range(each)
        ],
        kind,
    )


@dataclass(frozen=True)
class Case:
    data: Manifest
    parts: dict[str, float]
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Data sets with women of several pictures, some of them shared by women, and parts of any shares."""
    patients = draw(
        st.lists(st.lists(st.sampled_from(SEVERITY), min_size=1, max_size=3), min_size=4, max_size=40)
    )
    twins = draw(st.integers(0, 2))
    images = [
        image(f"i{number}-{k}", f"p{number}", label, "shared" if k == 0 and number < twins else None)
        for number, labels in enumerate(patients)
        for k, label in enumerate(labels)
    ]
    weights = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    parts = {f"part{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    return Case(manifest(images), parts, draw(st.integers(0, 2**32 - 1)))


def made(case: Case) -> Split | None:
    try:
        return split_by_patient(case.data, case.parts, case.seed)
    except SettingsError:  # too few women for a part: said, never filled with somebody else's
        return None


@given(cases())
@settings(max_examples=150, deadline=None)
def test_every_woman_is_in_exactly_one_part(case: Case) -> None:
    split = made(case)
    if split is None:
        return
    placed = Counter(patient for patients in split.parts.values() for patient in patients)
    assert placed == dict.fromkeys(case.data.patients(), 1)
    part_of = split.part_of()
    parts_of_pictures: dict[str, set[str]] = {}
    for one in case.data.images:
        parts_of_pictures.setdefault(one.sha256, set()).add(part_of[one.patient])
    assert max(map(len, parts_of_pictures.values())) == 1
    check_split(case.data, split)


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_images_changes_nothing(case: Case, random: object) -> None:
    images = list(case.data.images)
    random.shuffle(images)  # type: ignore[attr-defined]
    split, again = made(case), made(Case(manifest(images), case.parts, case.seed))
    assert split == again
    assert split == made(case)


@given(
    st.lists(st.integers(0, 30), min_size=4, max_size=4),
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_parts_are_alike_in_the_worst_label(counts: list[int], weights: list[int], seed: int) -> None:
    """Of every stratum each part gets its share to within one woman."""
    labels = [label for label, count in zip(SEVERITY, counts, strict=True) for _ in range(count)]
    data = women(*labels)
    parts = {f"part{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    split = made(Case(data, parts, seed))
    if split is None:
        return
    worst = {patient: worst_label(images) for patient, images in data.patients().items()}
    for label, count in zip(SEVERITY, counts, strict=True):
        for name, share in parts.items():
            got = sum(worst[patient] is label for patient in split.parts[name])
            assert abs(got - share * count) < len(parts), (label, name)
            if len(parts) == 2:
                assert abs(got - share * count) <= 1 + 1e-9


def test_seeds_matter_and_shares_are_kept() -> None:
    data = women(*[Label.MALIGNANT] * 40, *[Label.NORMAL] * 60)
    splits = [split_by_patient(data, {"train": 0.7, "test": 0.3}, seed) for seed in range(5)]
    assert len({split.parts["test"] for split in splits}) == 5
    assert {len(split.parts["test"]) for split in splits} == {30}
    malignant = {f"p{i}" for i in range(40)}
    assert {len(malignant & set(split.parts["test"])) for split in splits} == {12}


def test_folds_are_equal() -> None:
    split = folds_by_patient(women(*[Label.MALIGNANT] * 10, *[Label.NORMAL] * 15), 5, seed=3)
    assert {name: len(patients) for name, patients in split.parts.items()} == {
        f"fold-{i}": 5 for i in range(1, 6)
    }


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"a": 0.5},
        {"a": 0.7, "b": 0.7},
        {"a": 1.5, "b": -0.5},
        {"a": 1.0, "b": 0.0},
        {"a": float("nan"), "b": 0.5},
        {"a": float("inf"), "b": 0.5},
    ],
)
def test_shares_that_make_no_sense(parts: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="sum to 1"):
        split_by_patient(women(*[Label.NORMAL] * 9), parts)


def test_too_few_women() -> None:
    with pytest.raises(SettingsError, match="2 patients cannot fill 3 parts"):
        folds_by_patient(women(Label.NORMAL, Label.NORMAL), 3)
    with pytest.raises(SettingsError, match="1 folds"):
        folds_by_patient(women(Label.NORMAL, Label.NORMAL), 1)
    with pytest.raises(SettingsError, match="no patient falls to the part 'rare'"):
        split_by_patient(women(*[Label.NORMAL] * 9), {"most": 0.99, "rare": 0.01})


# --- leaks


def by_hand(data: Manifest, parts: dict[str, tuple[str, ...]]) -> Split:
    return Split(kind=data.kind, manifest=fingerprint(data), seed=0, parts=parts)


def test_a_woman_in_two_parts_is_a_leak() -> None:
    data = women(Label.NORMAL, Label.MALIGNANT, Label.NORMAL)
    with pytest.raises(LeakError, match="patient 'p1' is in the parts 'train' and 'test'"):
        check_split(data, by_hand(data, {"train": ("p0", "p1"), "test": ("p1", "p2")}))


def test_a_woman_in_no_part_is_a_leak() -> None:
    data = women(Label.NORMAL, Label.MALIGNANT, Label.NORMAL)
    with pytest.raises(LeakError, match="patient 'p2' is in no part"):
        check_split(data, by_hand(data, {"train": ("p0",), "test": ("p1",)}))


def test_one_picture_of_two_women_in_two_parts_is_a_leak() -> None:
    data = manifest([image("a", "p0", sha256="same"), image("b", "p1", sha256="same"), image("c", "p2")])
    with pytest.raises(LeakError, match=r"the same picture is in the parts 'train' \(a\) and 'test' \(b\)"):
        check_split(data, by_hand(data, {"train": ("p0",), "test": ("p1", "p2")}))
    check_split(data, by_hand(data, {"train": ("p0", "p1"), "test": ("p2",)}))
    together = split_by_patient(data, {"train": 0.5, "test": 0.5}).part_of()
    assert together["p0"] == together["p1"] != together["p2"]


def test_women_stay_together_along_a_chain_of_shared_pictures() -> None:
    """p0 shares one picture with p1, p1 another with p2, ...: they are one group although p0 and p5 share none."""
    chain = [image(f"{k}{i}", f"p{i + k}", sha256=f"s{i}") for i in range(5) for k in (0, 1)]
    others = [image(f"o{i}", f"q{i}") for i in range(6)]
    for seed in range(20):
        split = split_by_patient(manifest(chain + others), {"train": 0.5, "test": 0.5}, seed)
        assert len({split.part_of()[f"p{i}"] for i in range(6)}) == 1


def test_a_split_by_rows_is_caught() -> None:
    """What a careless hand would do: shuffle the images and cut the list. Every such cut through a woman is refused."""
    data = women(*[Label.MALIGNANT] * 10, *[Label.NORMAL] * 10)
    rng = np.random.default_rng(0)
    caught = 0
    for _ in range(20):
        order = rng.permutation(len(data.images))
        cut = {"train": order[:28], "test": order[28:]}
        parts = {name: tuple(sorted({data.images[i].patient for i in rows})) for name, rows in cut.items()}
        assert set(parts["train"]) & set(parts["test"])  # 40 pictures of 20 women: no cut spares them all
        with pytest.raises(LeakError):
            check_split(data, by_hand(data, parts))
        caught += 1
    assert caught == 20


def test_a_split_of_another_state_is_refused() -> None:
    data = women(Label.NORMAL, Label.MALIGNANT, Label.NORMAL, Label.MALIGNANT)
    split = split_by_patient(data, {"train": 0.5, "test": 0.5})
    relabelled = manifest([msgspec.structs.replace(data.images[0], label=Label.BENIGN), *data.images[1:]])
    with pytest.raises(InputError, match="another state of the data set"):
        check_split(relabelled, split)
    check_split(manifest(list(data.images[::-1])), split)


def test_data_sets_that_share_a_woman_or_a_picture() -> None:
    one = manifest([image("a", "p0"), image("b", "p1")])
    with pytest.raises(LeakError, match="1 pictures are in both"):
        check_disjoint(one, manifest([image("x", "q9", sha256="sha-a")], "other"))
    with pytest.raises(LeakError, match="1 patients are in both data sets, as 'p1'"):
        check_disjoint(one, manifest([image("x", "p1")]))
    check_disjoint(one, manifest([image("x", "p1")], "other"))  # p1 of another data set is another woman
    check_disjoint(one, manifest([image("x", "p2")]))


# --- files


def test_file_and_back(tmp_path: Path) -> None:
    data = women(*[Label.NORMAL, Label.MALIGNANT] * 6)
    split = folds_by_patient(data, 3, seed=9)
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: b"",
        lambda good: good[: len(good) // 2],
        lambda good: b"\xff\xfe" + good,
        lambda good: b"[" * 100_000,
        lambda good: b"[]",
        lambda good: good.replace(b'"parts"', b'"part"'),
        lambda good: good.replace(b'"seed": 0', b'"seed": "zero"'),
        lambda good: good.replace(b'"scanward-split-1"', b'"scanward-split-9"'),
        lambda good: good.replace(b'"kind"', b'"more": 1, "kind"'),
    ],
)
def test_damaged_split_files(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "split.json"
    write_split(path, split_by_patient(women(*[Label.NORMAL] * 4), {"train": 0.5, "test": 0.5}))
    good = path.read_bytes()
    bad = damage(good)  # type: ignore[operator]
    assert bad != good
    path.write_bytes(bad)
    with pytest.raises(InputError, match="split") as caught:
        read_split(path)
    assert caught.value.where == str(path)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_split(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.json"
    path.write_bytes(noise)
    with pytest.raises(ScanwardError):
        read_split(path)


def test_split_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_split(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_split(tmp_path)
    split = split_by_patient(women(*[Label.NORMAL] * 4), {"train": 0.5, "test": 0.5})
    (tmp_path / "file").touch()
    for path in (tmp_path / "none" / "split.json", tmp_path / "file" / "split.json", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            write_split(path, split)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- the command


def run(*arguments: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, ["mammo", "split", *map(str, arguments)])
    assert done.exit_code == status, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set without its pictures: a split needs none."""
    (tmp_path / "set").mkdir()
    write_manifest(tmp_path / "set", women(*[Label.MALIGNANT] * 10, *[Label.NORMAL] * 10))
    return tmp_path / "set"


def test_the_command_splits(folder: Path, tmp_path: Path) -> None:
    told = json.loads(run(folder, "--out", tmp_path / "s.json", "--parts", "a=0.5,b=.3, c=0.2", "--json"))
    assert [(part["part"], part["patients"], part["images"]) for part in told["parts"]] == [
        ("a", 10, 20),
        ("b", 6, 12),
        ("c", 4, 8),
    ]
    assert [part["labels"]["malignant"] for part in told["parts"]] == [5, 3, 2]
    split = read_split(tmp_path / "s.json")
    assert {name: len(patients) for name, patients in split.parts.items()} == {"a": 10, "b": 6, "c": 4}
    assert told["manifest"] == split.manifest
    assert "fold-5" in run(folder, "--out", tmp_path / "f.json", "--folds", 5)
    assert "train" in run(folder, "--out", tmp_path / "d.json")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--parts", "a=0.5"), "sum to 1"),
        (("--parts", "a"), "'a' is no part"),
        (("--parts", "a=nan,b=1"), "'a=nan' is no part"),
        (("--parts", "../a=0.5,b=0.5"), "is no part"),
        (("--parts", "a=0.5,a=0.5"), "the part 'a' twice"),
        (("--parts", "a=1", "--folds", "2"), "both parts and folds"),
        (("--folds", "999"), "20 patients cannot fill 999 parts"),
    ],
)
def test_the_command_says_what_is_wrong(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], what: str
) -> None:
    told = json.loads(run(folder, "--out", tmp_path / "s.json", *arguments, "--json", status=2))
    assert what in told["what"]
    assert told["todo"]
    assert not (tmp_path / "s.json").exists()


def test_the_command_replaces_nothing_unasked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    out.write_text("mine")
    assert json.loads(run(folder, "--out", out, "--json", status=2))["what"] == "the file exists"
    assert out.read_text() == "mine"
    run(folder, "--out", out, "--force")
    read_split(out)
    assert "folder" in json.loads(run(folder, "--out", tmp_path, "--force", "--json", status=2))["what"]
    assert (
        "no data set here" in json.loads(run(tmp_path, "--out", out, "--force", "--json", status=2))["what"]
    )
