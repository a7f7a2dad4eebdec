"""Making a study: from folders to frozen files, with nothing in them that tells genuine from modified."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image as Pil

from _mammo import breast_picture
from _study import SECRET, originals, small_study, source
from _tamper import phantoms
from _tamper_dicom import FakeRun, mammogram_file
from scanward.cli.main import cli
from scanward.errors import DecodeError, InputError, ScanwardError, SettingsError
from scanward.mammography.manifest import Label, read_manifest
from scanward.mammography.pictures import load
from scanward.reading import creating, pictures
from scanward.reading.checking import check, load_key, secret_of
from scanward.reading.creating import Made, build, create, encoded
from scanward.reading.mrmc import decisions
from scanward.reading.mrmc.components import Components
from scanward.reading.mrmc.power import Question, planned
from scanward.reading.planning import Case, choose
from scanward.reading.protocol import (
    Arm,
    Design,
    Hypothesis,
    Modification,
    Pathology,
    Planning,
    Protocol,
    Sessions,
    digest,
)
from scanward.reading.sample_size import sample_size
from scanward.reading.sources import Original, Twin
from scanward.tampering.applying import apply
from scanward.tampering.outputs import read_tampered

Grey = NDArray[np.uint16]
OWN = Arm(name="own", bits=16)
DESIGN = Design(
    title="Phantoms",
    readers=2,
    patients=6,
    practice=2,
    arms=(Arm(name="low", rows=16, columns=20, bits=8), OWN),
    sessions=Sessions(cases=40, block=4, washout_days=0),
)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, and what the tampering wing made of them: genuine/, inserted/, removed/, marked/."""
    folder = tmp_path_factory.mktemp("pictures")
    phantoms(folder / "genuine", patients=10)
    for direction in ("insert", "remove"):
        apply([folder / "genuine"], FakeRun(), direction, folder / f"{direction}ed", visible_mark=False)
    apply([folder / "genuine"], FakeRun(), "insert", folder / "marked")
    return folder


@pytest.fixture(scope="module")
def made(there: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    out = tmp_path_factory.mktemp("study") / "study"
    return out, create(there / "genuine", [there / "inserted", there / "removeed"], DESIGN, out)


def shown(study: Path, identifier: str) -> Grey:
    protocol = msgspec.json.decode((study / "protocol.json").read_bytes(), type=Protocol)
    one = next(p for p in protocol.pictures if p.identifier == identifier)
    data = (study / "pictures" / f"{identifier}.raw").read_bytes()
    return np.frombuffer(data, dtype="<u2").reshape(one.rows, one.columns)


def pair(genuine: Grey, modified: Grey, name: str = "one", ill: bool = False, bits: int = 16) -> Original:
    return Original(
        case=Case(name, f"woman {name}", Pathology.CANCER if ill else Pathology.NO_CANCER),
        source=source(genuine, f"{name}.png"),
        twins={
            "": Twin(source(modified, f"{name}-m.png"), Modification.REMOVE if ill else Modification.INSERT)
        },
    )


def lesson(**changes: object) -> Design:
    """A design without practice, of pictures at their own size."""
    settings: dict[str, object] = {"title": "t", "practice": 0, "arms": (OWN,), "readers": 1}
    return Design(**(settings | changes))  # type: ignore[arg-type]


# --- from folders to a study


def test_a_study_holds_what_the_folders_held(there: Path, made: tuple[Path, Made]) -> None:
    study, told = made
    assert (told.patients, told.cancers) == (6, 3)
    assert len(told.protocol.pictures) == 6 * 2 * 2 + 2
    images = {str(there / "genuine" / i.file): i for i in read_manifest(there / "genuine").images}
    outputs = {
        str(there / folder / record.output): (record, folder)
        for folder in ("inserted", "removeed")
        for record in read_tampered(there / folder).images
    }
    rendered = {p.identifier: p for p in told.protocol.pictures}
    for truth in told.key.truths:
        if truth.modification is Modification.NONE:
            image = images[truth.source]
            pixels = load(there / "genuine", image)[0]
            assert truth.pathology == ("cancer" if image.label == "malignant" else "no cancer")
        else:
            record, folder = outputs[truth.source]
            assert truth.source_sha256 == record.output_sha256
            assert f"{truth.modification}ed" == folder
            assert truth.pathology == ("cancer" if truth.modification == "remove" else "no cancer")
            pixels = np.asarray(Pil.open(truth.source)).astype(np.uint16)
        if rendered[truth.picture].arm == "own":  # 16 bits at its own size: the grey values themselves
            assert (shown(study, truth.picture) == pixels).all()
        else:
            assert shown(study, truth.picture).shape == (16, 20)
            assert shown(study, truth.picture).max() < 256


def test_twins_share_case_and_woman(made: tuple[Path, Made]) -> None:
    _, told = made
    arms = {p.identifier: p.arm for p in told.protocol.pictures}
    for case in {truth.case for truth in told.key.truths if not truth.practice}:
        own = [truth for truth in told.key.truths if truth.case == case]
        assert sorted((arms[t.picture], t.modification == "none") for t in own) == [
            ("low", False),
            ("low", True),
            ("own", False),
            ("own", True),
        ]
        assert len({t.patient for t in own}) == 1
        assert len({t.pathology for t in own}) == 1


def test_files_are_frozen_and_hashed(made: tuple[Path, Made]) -> None:
    study, told = made
    text = (study / "protocol.json").read_bytes()
    assert text == encoded(msgspec.json.decode(text, type=Protocol)) == encoded(told.protocol)
    assert (study / "protocol.sha256").read_text() == f"{digest(text)}  protocol.json\n"
    assert told.protocol.key_sha256 == digest((study / "key.json").read_bytes())
    assert stat.S_IMODE((study / "key.json").stat().st_mode) == 0o600
    assert sorted(p.name for p in study.iterdir()) == [
        "key.json",
        "pictures",
        "protocol.json",
        "protocol.sha256",
    ]
    assert "MODIFIED" in (study / "pictures" / "NOTICE").read_text()
    for one in told.protocol.pictures:
        data = (study / "pictures" / f"{one.identifier}.raw").read_bytes()
        assert digest(data) == one.sha256
        assert len(data) == one.rows * one.columns * 2
    assert told.key.phantom
    assert check(study).key


def test_no_truth_outside_the_key(there: Path, made: tuple[Path, Made]) -> None:
    study, told = made
    text = (study / "protocol.json").read_text()
    for truth in told.key.truths:
        for word in (truth.case, truth.patient, Path(truth.source).name, truth.source_sha256):
            assert word not in text
    assert told.key.secret not in text
    for image in read_manifest(there / "genuine").images:
        assert image.patient not in text
        assert image.name not in text
    key = (study / "key.json").read_text()
    assert all(
        r.patient not in key for r in read_manifest(there / "genuine").images if r.patient not in r.file
    )


def test_the_order_of_pictures_tells_nothing(made: tuple[Path, Made], tmp_path: Path) -> None:
    _, told = made
    names = [p.identifier for p in told.protocol.pictures]
    assert names == sorted(names) == [t.picture for t in told.key.truths]
    assert all(len(name) == 32 for name in names)
    # pseudonyms are dealt anew: the first woman of the folder is not P0001
    drawn = {build(originals(20), lesson(), study).key.truths for study in folders(tmp_path, 4)}
    first = {next(t.patient for t in truths if t.source == "woman-0000-0.png") for truths in drawn}
    assert len(first) > 1


def folders(tmp_path: Path, count: int) -> list[Path]:
    return [tmp_path / f"study-{number}" for number in range(count)]


# --- nothing tells but what is seen


def facts(study: Path, identifier: str) -> tuple[object, ...]:
    """What a script could look at without looking at the picture."""
    path = study / "pictures" / f"{identifier}.raw"
    status = path.stat()
    values = shown(study, identifier)
    used = int(np.bitwise_or.reduce(values, axis=None))
    return (
        status.st_size,
        status.st_mtime_ns,
        stat.S_IMODE(status.st_mode),
        values.shape,
        (used & -used).bit_length(),  # the lowest bit that is ever set
        int(values.min()),
        len(np.unique(values & 15)),
    )


@pytest.mark.parametrize("deep", ["modified", "genuine"])
def test_depth_size_time_and_padding_tell_nothing(tmp_path: Path, deep: str) -> None:
    """Twins whose files differ in depth, as when a model writes 16 bits where the detector gave 12."""
    random = np.random.default_rng(1)
    there = []
    for original in originals(12, 40, 24, bits=12):
        genuine, modified = original.source.read()[0], original.twin("").source.read()[0]
        noise = random.integers(0, 16, genuine.shape).astype(np.uint16)
        if deep == "modified":
            modified = np.where(modified > 0, modified | noise, 0).astype(np.uint16)
        else:
            genuine = np.where(genuine > 0, genuine | noise, 0).astype(np.uint16)
        ill = original.case.pathology is Pathology.CANCER
        there.append(pair(genuine, modified, original.case.name, ill))
    design = lesson(arms=(OWN, Arm(name="fit", rows=32, columns=32, bits=16)))
    told = build(there, design, tmp_path / "study")
    truths = {t.picture: t for t in told.key.truths}
    for arm in ("own", "fit"):
        found: list[set[tuple[object, ...]]] = [set(), set()]
        for one in told.protocol.pictures:
            if one.arm == arm:
                kind = int(truths[one.identifier].modification != "none")
                found[kind].add(facts(tmp_path / "study", one.identifier))
        if arm == "own":
            assert found[0] == found[1]
            assert len(found[0]) == 1
        else:  # resized pictures have all bits; what is left is size, time, mode, shape, padding
            assert {one[:4] for one in found[0]} == {one[:4] for one in found[1]}
            assert {one[5] for one in found[0]} == {one[5] for one in found[1]} == {0}


def test_far_from_the_modification_twins_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    (original,) = originals(1, 64, 48, bits=12)
    genuine = original.source.read()[0]
    modified = genuine.copy()
    modified[20:24, 10:14] += 1600
    design = lesson(arms=(OWN, Arm(name="fit", rows=32, columns=32, bits=10)))
    told = build([pair(genuine, modified)], design, tmp_path / "study")
    for arm, rows in (("own", slice(40, 64)), ("fit", slice(20, 32))):
        names = [p for p in told.protocol.pictures if p.arm == arm]
        one, two = (shown(tmp_path / "study", p.identifier) for p in names)
        assert (one[rows] == two[rows]).all()
        assert (one != two).any()
        for name, values in zip(names, (one, two), strict=True):
            assert name.window == pictures.window(values)  # of the picture's own values, and nothing else


def test_an_identity_twin_would_be_the_same_picture() -> None:
    """Whatever is done to a picture, is done to its twin: the same values give the same file and window."""
    for number, arm in enumerate((OWN, Arm(name="fit", rows=20, columns=33, bits=11))):
        genuine = originals(2, 40, 24, bits=12)[number].source.read()[0]
        twin = genuine.copy()
        one, two = pictures.rendered(genuine, arm), pictures.rendered(twin, arm)
        assert pictures.raw(one) == pictures.raw(two)
        assert pictures.window(one) == pictures.window(two)


def test_stored_grey_values_of_dicom_come_through_unchanged(tmp_path: Path) -> None:
    """12 bits in, 12 bits out: what the detector stored is what the page will be given."""
    (tmp_path / "g").mkdir()
    for number in range(2):
        stored = breast_picture(48, 40, 12)
        stored = np.where(stored > 100, stored - number, stored).astype(np.uint16)
        mammogram_file(tmp_path / "g" / f"{number}.dcm", stored)
    (tmp_path / "g" / "truth.csv").write_text(
        "file,patient,pathology\n0.dcm,anna,no cancer\n1.dcm,berta,normal\n"
    )
    apply(
        [tmp_path / "g" / f"{n}.dcm" for n in range(2)],
        FakeRun(),
        "insert",
        tmp_path / "m",
        visible_mark=False,
    )
    design = lesson(arms=(Arm(name="own", bits=12),))
    told = create(tmp_path / "g", [tmp_path / "m"], design, tmp_path / "study")
    assert not told.key.phantom
    from scanward.mammography.dicom_pixels import read_stored

    assert len(told.key.truths) == 4
    for truth in told.key.truths:
        assert truth.source.endswith(".dcm")
        assert (shown(tmp_path / "study", truth.picture) == read_stored(Path(truth.source)).values).all()


# --- rendering


@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)),
    st.integers(0, 24),
    st.integers(1, 24),
    st.integers(8, 16),
)
def test_any_picture_is_rendered_within_its_bits(picture: Grey, rows: int, columns: int, bits: int) -> None:
    arm = Arm(name="a", rows=rows, columns=columns if rows else 0, bits=bits)
    values = pictures.rendered(picture, arm)
    assert values.shape == ((rows, columns) if rows else picture.shape)
    assert values.max() < 1 << bits
    exact = picture / (1 << 16 - bits)
    # nothing darker or brighter than the picture itself, but the padding: 0, where there is any
    assert values.min() >= np.floor(exact.min()) or values[-1, -1] == 0
    assert values.max() <= np.ceil(exact.max())
    centre, width = pictures.window(values)
    assert width >= 2
    assert centre - width / 2 >= values.min()
    if not rows:
        assert (abs(values - exact) <= 0.5).sum() == (exact <= (1 << bits) - 0.5).sum()


@pytest.mark.parametrize("black", [0, 300])
def test_the_first_window_shows_tissue_from_black_to_white(black: int) -> None:
    values = np.full((100, 100), black, np.uint16)
    values[:, :50] = np.arange(5000).reshape(100, 50) % 1000 + 1000
    centre, width = pictures.window(values)
    low, high = centre - width / 2, centre + width / 2 - 1
    assert low in range(1008, 1012)
    assert high in range(1996, 2000)
    assert pictures.window(np.full((4, 4), 7, np.uint16)) == (8.0, 2.0)


def test_proportions_are_kept_and_the_rest_is_black() -> None:
    picture = np.full((40, 20), 40_000, np.uint16)
    picture[0, 0] = 3000
    values = pictures.rendered(picture, Arm(name="a", rows=20, columns=20, bits=16))
    assert (values[5:, :10] == 40_000).all()
    assert len(np.unique(values[:, 10:])) == 1
    assert values[0, 15] == values.min()


def test_depth_counts_the_bits_that_are_used() -> None:
    for bits in range(1, 17):
        values = (np.arange(1 << min(bits, 10), dtype=np.uint32) << (16 - bits)).astype(np.uint16)
        assert pictures.depth(values) == bits
    assert pictures.depth(np.zeros((2, 2), np.uint16)) == 1
    assert pictures.shallowed(np.array([[65535, 24, 23]], np.uint16), 12).tolist() == [[65520, 32, 16]]


# --- refused


def test_a_visible_mark_gives_the_truth_away(there: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="visible mark") as caught:
        create(there / "genuine", [there / "marked"], DESIGN, tmp_path / "study")
    assert "--no-visible-mark" in caught.value.todo
    # nor does it help to bring the same pictures without their manifest
    shutil.copytree(there / "marked" / "images", tmp_path / "m")
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    rows = [f"{name},,,{name.removesuffix('.png')}" for name in names]
    (tmp_path / "m" / "truth.csv").write_text("\n".join(["file,patient,pathology,case", *rows]))
    with pytest.raises(InputError, match="visible mark"):
        create(there / "genuine", [tmp_path / "m"], lesson(), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_modified_picture_is_no_genuine_one(there: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="modified pictures, not genuine"):
        create(there / "inserted", [there / "inserted"], DESIGN, tmp_path / "study")
    folders = plain(tmp_path, there)
    record = read_tampered(there / "inserted").images[0]
    for folder in folders[:1]:
        shutil.copy(there / "inserted" / record.output, folder / f"{record.name}.png")
    with pytest.raises(InputError, match="its metadata say that it was modified"):
        create(folders[0], [folders[1]], lesson(), tmp_path / "study")


def plain(tmp_path: Path, there: Path) -> tuple[Path, Path]:
    """The same pictures in plain folders with tables."""
    genuine, modified = tmp_path / "pg", tmp_path / "pm"
    genuine.mkdir()
    modified.mkdir()
    rows = ["file,patient,pathology"]
    for image in read_manifest(there / "genuine").images:
        # encoded anew: other bytes, the same pixels
        Pil.open(there / "genuine" / image.file).save(genuine / f"{image.name}.png", compress_level=1)
        rows.append(f"{image.name}.png,{image.patient},{image.label}")
    (genuine / "truth.csv").write_text("\n".join(rows))
    rows = ["file,modification"]
    for record in read_tampered(there / "inserted").images:
        shutil.copy(there / "inserted" / record.output, modified / f"{record.name}.png")
        rows.append(f"{record.name}.png,insert")
    (modified / "truth.csv").write_text("\n".join(rows))
    return genuine, modified


def test_plain_folders_do_as_well(there: Path, tmp_path: Path) -> None:
    genuine, modified = plain(tmp_path, there)
    told = create(genuine, [modified], lesson(), tmp_path / "study")
    assert told.patients == len(read_tampered(there / "inserted").images) == 5
    assert told.cancers == 0
    assert any("5 genuine pictures without a modified twin" in remark for remark in told.remarks)


def test_an_original_that_was_written_anew_is_known_by_its_pixels(there: Path, tmp_path: Path) -> None:
    genuine, _ = plain(tmp_path, there)
    told = create(genuine, [there / "inserted", there / "removeed"], DESIGN, tmp_path / "study")
    assert told.patients == 6


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda g: g.copy(), InputError, "nothing was modified"),
        (lambda g: g[:-1], InputError, "39 x 24 px, its original 40 x 24"),
    ],
)
def test_a_twin_that_is_none_is_refused(
    tmp_path: Path, change: Callable[[Grey], Grey], error: type[ScanwardError], words: str
) -> None:
    genuine = originals(1, 40, 24)[0].source.read()[0]
    with pytest.raises(error, match=words):
        build([pair(genuine, change(genuine))], lesson(), tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_a_modification_that_an_arm_does_not_show_is_refused(tmp_path: Path) -> None:
    genuine = originals(1, 40, 24)[0].source.read()[0]
    modified = genuine.copy()
    modified[20, 5] += 1
    with pytest.raises(InputError, match="nothing of the modification is left in arm 'small'"):
        build(
            [pair(genuine, modified)],
            lesson(arms=(OWN, Arm(name="small", rows=16, columns=16, bits=8))),
            tmp_path / "study",
        )
    assert list(tmp_path.iterdir()) == []


def test_one_picture_under_two_names_is_refused(tmp_path: Path) -> None:
    genuine, modified = (one.source.read()[0] for one in originals(2, 40, 24))
    again = genuine.copy()
    again[20, 5] += 900
    with pytest.raises(InputError, match="the same picture as that of case"):
        build([pair(genuine, modified, "a"), pair(genuine, again, "b")], lesson(), tmp_path / "study")


def test_a_background_that_tells_is_remarked(tmp_path: Path) -> None:
    genuine, modified = (
        originals(1, 40, 24)[0].source.read()[0],
        originals(1, 40, 24)[0].twin("").source.read()[0],
    )
    told = build([pair(genuine, modified)], lesson(), tmp_path / "one")
    assert told.remarks == ()
    told = build([pair(genuine, np.maximum(modified, np.uint16(200)))], lesson(), tmp_path / "two")
    assert "differ from their originals where these are black: 1, one-m.png" in told.remarks[0]


def test_a_twin_of_another_depth_is_refused(tmp_path: Path) -> None:
    (original,) = originals(1)
    deeper = original.twin("").source
    twin = Twin(
        type(deeper)(where="m.png", sha256="", read=lambda: (deeper.read()[0] >> 4, 12)), Modification.INSERT
    )
    with pytest.raises(InputError, match="12 bits, its original 16"):
        build(
            [Original(case=original.case, source=original.source, twins={"": twin})], lesson(), tmp_path / "s"
        )


def test_a_file_that_changed_since_is_refused(there: Path, tmp_path: Path) -> None:
    shutil.copytree(there / "inserted", tmp_path / "m")
    record = read_tampered(tmp_path / "m").images[0]
    Pil.open(tmp_path / "m" / record.output).save(tmp_path / "m" / record.output)  # its marks are gone
    with pytest.raises(DecodeError, match="not the file that was written"):
        create(there / "genuine", [tmp_path / "m"], lesson(), tmp_path / "study")


def test_two_twins_of_one_original_need_arms_of_their_own(there: Path, tmp_path: Path) -> None:
    apply([there / "genuine"], FakeRun(amount=0.4), "insert", tmp_path / "strong", visible_mark=False)
    both = lesson(arms=(OWN, Arm(name="two")))
    with pytest.raises(InputError, match="two modified pictures of one original"):
        create(there / "genuine", [there / "inserted", tmp_path / "strong"], both, tmp_path / "study")
    told = create(
        there / "genuine",
        [("own", there / "inserted"), ("two", tmp_path / "strong")],
        both,
        tmp_path / "study",
    )
    arms = {p.identifier: p.arm for p in told.protocol.pictures}
    for truth in told.key.truths:
        if truth.modification != "none":
            assert ("strong" in truth.source) is (arms[truth.picture] == "two")
    with pytest.raises(SettingsError, match="no arm 'three'"):
        create(there / "genuine", [("three", there / "inserted")], both, tmp_path / "other")


def test_strangers_are_left_out_and_told(there: Path, tmp_path: Path) -> None:
    genuine, _ = plain(tmp_path, there)
    table = (genuine / "truth.csv").read_text().splitlines()
    (genuine / "truth.csv").write_text("\n".join(table[:7]))  # six of the ten
    told = create(genuine, [there / "inserted", there / "removeed"], lesson(), tmp_path / "study")
    assert told.patients == 6
    assert told.remarks == ("left out: 4 modified pictures whose original is not among the genuine",)
    # insertions into cancers answer no endpoint
    apply(
        [there / "genuine"],
        FakeRun(),
        "insert",
        tmp_path / "ill",
        visible_mark=False,
        labels=[Label.MALIGNANT],
    )
    with pytest.raises(InputError, match="left out: 5 insertions into pictures with cancer"):
        create(there / "genuine", [tmp_path / "ill"], lesson(), tmp_path / "other")


def test_too_few_women_leave_nothing_behind(there: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few women"):
        create(
            there / "genuine",
            [there / "inserted", there / "removeed"],
            msgspec.structs.replace(DESIGN, patients=10),
            tmp_path / "study",
        )
    assert list(tmp_path.iterdir()) == []


def test_a_hypothesis_without_cancers_is_refused(there: Path, tmp_path: Path) -> None:
    design = lesson(hypotheses=(Hypothesis(question="lesion", aim="superiority"),))
    with pytest.raises(InputError, match="only one kind of pictures"):
        create(there / "genuine", [there / "inserted"], design, tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


# --- whole or not at all


class Stop(Exception):
    """Whoever watches the progress has enough."""


def test_a_study_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stop(done: int, of: int) -> None:
        assert not (tmp_path / "study").exists()
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        build(originals(4), lesson(), tmp_path / "study", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ScanwardError, match="cannot be written: No space left"):
        build(originals(4), lesson(), tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_never_changed(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    before = {path.name: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="not empty"):
        small_study(tmp_path)
    assert before == {path.name: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="not a folder"):
        small_study(tmp_path, name="link")
    (tmp_path / "empty").mkdir()
    assert check(small_study(tmp_path, name="empty"))


def test_the_same_secret_makes_the_same_study(tmp_path: Path) -> None:
    one, two, other = (small_study(tmp_path, name=name) for name in ("one", "two", "three"))
    assert (one / "protocol.json").read_bytes() == (two / "protocol.json").read_bytes()
    drawn = build(originals(4), lesson(), tmp_path / "drawn")
    again = build(originals(4), lesson(), tmp_path / "again")
    assert {p.identifier for p in drawn.protocol.pictures}.isdisjoint(
        p.identifier for p in again.protocol.pictures
    )
    seeded = build(originals(4), lesson(seed=1), tmp_path / "seeded", secret=bytes.fromhex(drawn.key.secret))
    assert seeded.protocol.readers != drawn.protocol.readers
    assert other.is_dir()
    assert SECRET.hex() == load_key(one / "key.json").secret


# --- check


def test_check_finds_what_was_changed(tmp_path: Path) -> None:
    def spoilt(name: str, spoil: Callable[[Path], object]) -> str:
        study = small_study(tmp_path, name=name, practice=2)
        spoil(study)
        with pytest.raises(InputError) as caught:
            check(study)
        return str(caught.value)

    def flip(study: Path) -> None:
        path = next((study / "pictures").glob("*.raw"))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    def no_picture(study: Path) -> None:
        next((study / "pictures").glob("*.raw")).unlink()

    def other_title(study: Path) -> None:
        text = (study / "protocol.json").read_bytes()
        (study / "protocol.json").write_bytes(text.replace(b"A small study", b"A great study"))

    def other_key(study: Path) -> None:
        text = (study / "key.json").read_bytes()
        (study / "key.json").write_bytes(text.replace(b'"insert"', b'"remove"', 1))

    assert "not the one that was frozen" in spoilt("a", flip)
    assert "missing" in spoilt("b", no_picture)
    assert "protocol is not the one that was frozen" in spoilt("c", other_title)
    assert "not the key of this study" in spoilt("d", other_key)
    assert "none of the study's" in spoilt("e", lambda s: (s / "pictures" / "x.raw").write_bytes(b""))
    assert "may be read by others" in spoilt("f", lambda s: (s / "key.json").chmod(0o644))


def test_check_holds_the_plan_to_its_rules(tmp_path: Path) -> None:
    """A protocol made by other hands, hashes and all, that shows a reader both twins in one session."""
    study = small_study(tmp_path, readers=1)
    protocol = msgspec.json.decode((study / "protocol.json").read_bytes(), type=Protocol)
    (reader,) = protocol.readers
    first, second = reader.sessions
    both = msgspec.structs.replace(first, cases=(*first.cases, *second.cases))
    forged = msgspec.structs.replace(protocol, readers=(msgspec.structs.replace(reader, sessions=(both,)),))
    (study / "protocol.json").write_bytes(encoded(forged))
    (study / "protocol.sha256").write_text(digest(encoded(forged)))
    with pytest.raises(InputError, match="shows a case twice"):
        check(study)
    half = msgspec.structs.replace(protocol, readers=(msgspec.structs.replace(reader, sessions=(first,)),))
    (study / "protocol.json").write_bytes(encoded(half))
    (study / "protocol.sha256").write_text(digest(encoded(half)))
    with pytest.raises(InputError, match="does not read every picture exactly once"):
        check(study)


@pytest.mark.parametrize("secret", ["", "00", "zz" * 32, "AB" * 32])
def test_a_key_without_a_secret_makes_nothing_again(tmp_path: Path, secret: str) -> None:
    key = load_key(small_study(tmp_path) / "key.json")
    (tmp_path / "key.json").write_bytes(encoded(msgspec.structs.replace(key, secret=secret)))
    with pytest.raises(InputError, match="holds no secret"):
        secret_of(tmp_path / "key.json")


def test_a_key_may_be_kept_elsewhere(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    (study / "key.json").rename(tmp_path / "safe.json")
    assert not check(study).key
    assert check(study, tmp_path / "safe.json").key
    with pytest.raises(InputError, match="cannot be read"):
        check(study, tmp_path / "none.json")


# --- tables


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,patient\na.png,x\n", "no column pathology"),
        ("file,patient,pathology,size\n", "unknown column 'size'"),
        ("file,patient,pathology,file\n", "a column is there twice"),
        ("file,patient,pathology\n", "no picture in the table"),
        ("file,patient,pathology\na.png,x\n", "line 2"),
        ("file,patient,pathology\na.png,x,ill\n", "pathology 'ill'"),
        ("file,patient,pathology\na.png,,cancer\n", "no patient"),
        ("file,patient,pathology\n../a.png,x,cancer\n", "no path below the folder"),
        ("file,patient,pathology\n/a.png,x,cancer\n", "no path below the folder"),
        ("file,patient,pathology\na.png,x,cancer\na.png,y,cancer\n", "line 3"),
        ("file,patient,pathology,modification\na.png,x,cancer,insert\n", "these are genuine"),
        ('file,patient,pathology\n"a.png,x,cancer\n', "not CSV"),
        ("file,patient,pathology\ngone.png,x,cancer\n", "gone.png"),
        ("", "no column file"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, there: Path, table: str, words: str) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "truth.csv").write_text(table)
    with pytest.raises(InputError) as caught:
        create(tmp_path / "g", [there / "inserted"], DESIGN, tmp_path / "study")
    assert words in str(caught.value)


def test_a_twin_cannot_say_other_things_of_its_original(there: Path, tmp_path: Path) -> None:
    genuine, modified = plain(tmp_path, there)
    name = read_tampered(there / "inserted").images[0].name
    for column, value in (("patient", "somebody"), ("pathology", "cancer")):
        (modified / "truth.csv").write_text(f"file,{column}\n{name}.png,{value}\n")
        with pytest.raises(InputError, match=f"another {column}"):
            create(genuine, [modified], lesson(), tmp_path / "study")


def test_what_is_no_source_is_refused(tmp_path: Path, there: Path) -> None:
    with pytest.raises(InputError, match="neither a data set nor a folder"):
        create(tmp_path, [there / "inserted"], DESIGN, tmp_path / "study")


# --- the command line


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_commands(there: Path, tmp_path: Path) -> None:
    design = tmp_path / "design.toml"
    design.write_text(
        'title = "Phantoms"\nreaders = 3\npatients = 6\npractice = 2\n'
        '[[arms]]\nname = "a"\n'
        '[[hypotheses]]\nquestion = "manipulation"\naim = "equivalence"\n'
        '[[hypotheses]]\nquestion = "lesion"\naim = "superiority"\neffect = -0.4\n'
    )
    words = (
        "--genuine",
        there / "genuine",
        "--modified",
        there / "inserted",
        "--modified",
        f"a={there / 'removeed'}",
    )
    done = run("study", "create", *words, "--design", design, "--out", tmp_path / "study")
    assert done.exit_code == 0, done.output
    assert "6, 3 of them with cancer" in done.output
    assert "manipulation equivalence, a" in done.output
    assert "is below the 0.80 wanted" in done.output
    assert "6, 6 by session, 2 for practice" in done.output
    again = run(
        *("study", "create", *words, "--design", design, "--out", tmp_path / "again"),
        *("--again", tmp_path / "study" / "key.json", "--json"),
    )
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert told["pictures"] == 6 * 2 + 2
    assert told["sample_size"]["lesion superiority, a: readers"] == 3
    for truth in load_key(tmp_path / "study" / "key.json").truths:
        assert truth.source not in again.stdout
        assert truth.picture not in again.stdout
    one, two = (
        msgspec.json.decode((tmp_path / name / "protocol.json").read_bytes(), type=Protocol)
        for name in ("study", "again")
    )
    assert (one.readers, one.pictures) == (two.readers, two.pictures)
    checked = run("study", "check", tmp_path / "study", "--json")
    assert json.loads(checked.stdout)["sha256"] == digest((tmp_path / "study" / "protocol.json").read_bytes())
    assert "the study is as it was made" in run("study", "check", tmp_path / "again").output
    assert run("study", "check", tmp_path).exit_code == 2
    design.write_text("title = 1")
    failed = run("study", "create", *words, "--design", design, "--out", tmp_path / "third")
    assert failed.exit_code == 2
    assert "design.toml, line 1" in failed.output


def test_the_protocol_says_what_was_planned(tmp_path: Path) -> None:
    design = lesson(
        readers=3, hypotheses=(Hypothesis(question="manipulation", aim="equivalence", primary=True),)
    )
    told = build(originals(8), design, tmp_path / "study")
    (plan,) = told.plans
    assert (plan.achieved.readers, plan.achieved.cases) == (3, 16)
    size = told.protocol.sample_size
    assert size["manipulation equivalence, own: power"] == plan.achieved.power < 0.8
    assert size["manipulation equivalence, own: cases"] == 16
    assert creating.NOTICE_TEXT


OWN_COMPONENTS = {
    "reader": 0.0015,
    "treatment_reader": 0.0002,
    "error": 0.0008,
    "cov1": 0.00035,
    "cov2": 0.00034,
    "cov3": 0.00024,
    "positives": 45.0,
    "cases": 114.0,
}


@pytest.mark.parametrize(
    ("planning", "where"),
    [
        (Planning(published="nobody"), "planning.published"),
        (Planning(components={"error": 0.1}), "planning.components"),
        (Planning(components=OWN_COMPONENTS | {"size": 1.0}), "planning.components"),
        (Planning(components=OWN_COMPONENTS | {"cov1": 1.0}), "planning.components"),
    ],
)
def test_variances_that_are_none_are_refused(tmp_path: Path, planning: Planning, where: str) -> None:
    design = lesson(hypotheses=(Hypothesis(question="lesion", aim="superiority"),), planning=planning)
    with pytest.raises(SettingsError) as caught:
        build(originals(4), design, tmp_path / "study")
    assert caught.value.where == where
    assert list(tmp_path.iterdir()) == []


def test_power_grows_with_readers_and_falls_with_correction() -> None:
    """Against the analysis' own planning: superiority of the lesion area with the components of a pilot."""
    cases = [original.case for original in originals(40)]
    one = Hypothesis(question="lesion", aim="superiority", effect=-0.1)

    def power(readers: int, *hypotheses: Hypothesis, pairing: str = "paired") -> float:
        design = lesson(
            readers=readers,
            hypotheses=hypotheses,
            pairing=pairing,
            planning=Planning(components=OWN_COMPONENTS),
        )
        plans = sample_size(design, choose(design, cases, SECRET).study)
        assert plans[0].achieved.cases == (40 if pairing == "paired" else 20)
        return plans[0].achieved.power

    question = Question(claim=decisions.superiority(0.0, 0.05), effect=-0.1, share=0.5)
    components = Components(**OWN_COMPONENTS)
    assert power(5, one) == pytest.approx(planned(components, question, 5, 40).power)
    assert power(5, one) > power(3, one)
    assert power(5, one) > power(5, one, one)  # two primary ones share alpha
    assert power(5, one) == power(5, one, msgspec.structs.replace(one, primary=False))
    assert power(5, one) > power(5, one, pairing="unpaired")  # other women: less is common to both
    assert 0 < power(1, one) < 1  # one reader speaks for himself, of other cases


def test_padding_does_not_follow_what_was_modified() -> None:
    """A modification that is darker than all else must not darken the frame as well."""
    genuine = np.full((40, 20), 9000, dtype=np.uint16)
    modified = genuine.copy()
    modified[10:20, 5:15] = 100
    arm = Arm(name="a", rows=32, columns=32, bits=12)
    one, two = pictures.rendered(genuine, arm), pictures.rendered(modified, arm)
    assert (one[:, 16:] == two[:, 16:]).all()
    assert (one[:, :16] != two[:, :16]).any()
