"""Importing data sets: books that balance, nobody's name, nothing half done."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from _mammo import IDENTIFIER, NAME, breast_picture, dicom_file
from scanward import keys
from scanward.cli.main import cli
from scanward.errors import InputError, SettingsError
from scanward.mammography import Label, Lesion, LesionKind, Manifest, read_manifest
from scanward.mammography.import_one import OutputError
from scanward.mammography.importing import Told, import_dataset
from scanward.mammography.inspecting import check, summarise
from scanward.mammography.kinds import KINDS, find
from scanward.mammography.labels import read_labels
from scanward.mammography.pictures import lesion_mask, load, read_picture, write_picture
from scanward.mammography.sources import Found, Kind, Strange

KEY = bytes(range(32))


def _kind(read: Callable[..., Iterator[Found | Strange]], **more: Any) -> Kind:
    return Kind(name="test", title="a test", read=read, licence="none", cite="", layout="any", **more)


def _png(path: Path, seed: int, *, left: bool = True, rows: int = 64, columns: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, breast_picture(rows, columns, bits=16, left=left, seed=seed))
    return path


def _founds(src: Path, count: int) -> Kind:
    """A kind with ``count`` good pictures of as many patients."""
    for number in range(count):
        if not (src / f"{number}.png").exists():
            _png(src / f"{number}.png", number)

    def read(folder: Path) -> Iterator[Found | Strange]:
        for number in range(count):
            yield Found(
                name=str(number), path=folder / f"{number}.png", patient=f"P{number}", label=Label.NORMAL
            )

    return _kind(read)


# --- what arrives


def test_a_folder_of_dicom_arrives_turned_and_whole(tmp_path: Path) -> None:
    left, right = breast_picture(seed=1), breast_picture(seed=2, left=False)
    src = tmp_path / "src"
    dicom_file(src / "a" / "one.dcm", left, ImageLaterality="L", ImagerPixelSpacing=[0.07, 0.07])
    dicom_file(src / "two", 4095 - right, ImageLaterality="R", PhotometricInterpretation="MONOCHROME1")
    (src / "notes.txt").write_text("not DICOM")
    dicom_file(src / "ct.dcm", left, Modality="CT")
    manifest = import_dataset(find("dicom"), src, tmp_path / "out", site_key=KEY)
    assert manifest == read_manifest(tmp_path / "out")
    assert (manifest.books.listed, manifest.books.imported, manifest.books.rejected) == (3, 2, 1)
    by_side = {image.laterality: image for image in manifest.images}
    assert by_side["L"].spacing == (0.07, 0.07)
    assert by_side["R"].inverted
    assert (by_side["L"].mirrored, by_side["R"].mirrored) == (False, True)
    for image, stored in ((by_side["L"], left), (by_side["R"], right[:, ::-1])):
        assert (image.bits, image.view, image.label) == (12, "CC", Label.UNKNOWN)
        pixels, breast = load(tmp_path / "out", image, verify=True)
        assert np.array_equal(pixels >> 4, stored)
        assert breast[:, :5].any()
        assert not breast[:, -5:].any()
    assert {odd.what for odd in manifest.odd} == {"no DICOM file", "no mammogram"}
    assert len(manifest.patients()) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["breast", "images", "manifest.json"]


def test_no_name_and_no_identifier_is_written_anywhere(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for number in range(3):
        dicom_file(src / NAME / f"{IDENTIFIER}-{number}.dcm", breast_picture(seed=number))
    (src / NAME / f"{IDENTIFIER}-3.dcm").write_bytes((src / NAME / f"{IDENTIFIER}-0.dcm").read_bytes()[:3000])
    (src / f"{NAME}.dcm").write_bytes((src / NAME / f"{IDENTIFIER}-1.dcm").read_bytes())
    (src / f"{IDENTIFIER}.txt").write_text("hello")
    dicom_file(src / f"{NAME}-ct.dcm", breast_picture(seed=9), Modality="CT")
    result = CliRunner().invoke(
        cli, ["mammo", "import", "dicom", str(src), str(tmp_path / "out"), "--workers", "0"]
    )
    assert result.exit_code == 0, result.output
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 7
    everything = [result.output, result.stderr, *(str(path.relative_to(tmp_path)) for path in written)]
    data = b"".join(path.read_bytes() for path in written) + "".join(everything).encode()
    for secret in (NAME, IDENTIFIER, "DOE", "SECRET", "19500101"):
        assert secret.encode() not in data
    books = read_manifest(tmp_path / "out").books
    assert (books.imported, books.rejected, books.duplicate) == (3, 2, 1)


def test_one_site_key_gives_the_same_pseudonyms_and_none_gives_new_ones(tmp_path: Path) -> None:
    src = tmp_path / "src"
    dicom_file(src / "a.dcm", breast_picture(seed=1))
    made = [
        import_dataset(find("dicom"), src, tmp_path / str(number), site_key=key)
        for number, key in enumerate((KEY, KEY, bytes(32), None, None))
    ]
    patients = [manifest.images[0].patient for manifest in made]
    assert patients[0] == patients[1]
    assert len(set(patients)) == 4
    assert made[0].images == made[1].images


def test_lesions_of_a_table_arrive_at_their_pixels(tmp_path: Path) -> None:
    src = tmp_path / "src"
    _png(src / "l.png", 1)
    _png(src / "r.png", 2, left=False)
    table = tmp_path / "labels.csv"
    table.write_text(
        "image,patient,label,laterality,view,x,y,radius,kind\n"
        "l.png,A,malignant,L,MLO,10,30,5,mass\n"
        "l.png,A,malignant,L,MLO,20,40,2.5,calcification\n"
        "r.png,A,benign,R,CC,40,30,4,mass\n"
    )
    manifest = import_dataset(find("pictures", table), src, tmp_path / "out", site_key=KEY)
    images = {image.laterality: image for image in manifest.images}
    assert [lesion.kind for lesion in images["L"].lesions] == [LesionKind.MASS, LesionKind.CALCIFICATION]
    assert images["L"].lesions[0].circle == (10, 30, 5)
    assert images["R"].lesions[0].circle == (47 - 40, 30, 4)
    assert images["R"].lesions[0].label == Label.BENIGN
    assert images["L"].patient == images["R"].patient != "A"


def test_rasters_are_scaled_turned_and_kept(tmp_path: Path) -> None:
    src = tmp_path / "src"
    _png(src / "a.png", 1, left=False)
    raster = np.zeros((128, 96), dtype=np.uint8)
    raster[40:60, 70:80] = 255
    Pil.fromarray(raster).save(src / "raster.png")

    def read(folder: Path) -> Iterator[Found | Strange]:
        yield Found(
            name="a",
            path=folder / "a.png",
            patient="P",
            label=Label.MALIGNANT,
            lesions=(Lesion(outline=((40, 10), (44, 10), (44, 14), (40, 14))),),
            rasters=((folder / "raster.png", Lesion(kind=LesionKind.MASS)),),
        )

    image = import_dataset(_kind(read), src, tmp_path / "out").images[0]
    assert [lesion.raster for lesion in image.lesions] == [None, "lesions/a-2.png"]
    expected = np.zeros((64, 48), dtype=np.bool_)
    expected[20:30, 35:40] = True
    assert np.array_equal(lesion_mask(image.lesions[1], (64, 48), tmp_path / "out"), expected[:, ::-1])
    expected[:] = False
    expected[10:15, 40:45] = True
    assert np.array_equal(lesion_mask(image.lesions[0], (64, 48)), expected[:, ::-1])


def test_what_contradicts_is_remarked_and_the_picture_decides(tmp_path: Path) -> None:
    src = tmp_path / "src"
    dicom_file(src / "a.dcm", breast_picture(400, 300), ImageLaterality="R")
    dicom_file(src / "b.dcm", breast_picture(400, 300, seed=2), PatientOrientation=["A", "R"], Laterality="R")
    manifest = import_dataset(find("dicom"), src, tmp_path / "out", site_key=KEY)
    remarks = [image.remarks for image in manifest.images if image.remarks]
    assert remarks == [("chest wall on the left, against its laterality",)]
    assert not any(image.mirrored for image in manifest.images)
    assert [odd.why for odd in manifest.odd] == list(remarks[0])


def test_a_negative_without_a_header_is_turned_round(tmp_path: Path) -> None:
    src = tmp_path / "src"
    picture = breast_picture(200, 150, bits=16)
    src.mkdir()
    write_picture(src / "a.png", 65535 - picture)

    def read(folder: Path) -> Iterator[Found | Strange]:
        yield Found(name="a", path=folder / "a.png", patient="P", label=Label.NORMAL)

    image = import_dataset(_kind(read), src, tmp_path / "out").images[0]
    assert image.inverted
    assert np.array_equal(read_picture(tmp_path / "out" / image.file), picture)


# --- the books


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(["good", "twin", "stolen", "corrupt", "gone", "empty", "colour"]), max_size=8)
)
def test_the_books_balance_whatever_the_source_holds(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str]
) -> None:
    src, out = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("out")
    _png(src / "first.png", 0)
    founds = [Found(name="first", path=src / "first.png", patient="P", label=Label.NORMAL)]
    for number, fate in enumerate(fates, start=1):
        path, patient = src / f"{number}.png", "P"
        if fate == "good":
            _png(path, number)
        elif fate in ("twin", "stolen"):
            _png(path, 0)
            patient = "P" if fate == "twin" else f"Q{number}"
        elif fate == "corrupt":
            path.write_bytes(_png(path, number).read_bytes()[:500])
        elif fate == "empty":
            write_picture(path, np.zeros((64, 48), dtype=np.uint16))
        elif fate == "colour":
            colour = np.zeros((64, 48, 3), dtype=np.uint8)
            colour[..., 0] = 99
            Pil.fromarray(colour).save(path)
        founds.append(Found(name=str(number), path=path, patient=patient, label=Label.NORMAL))
    stolen = fates.count("stolen")
    rejected = fates.count("corrupt") + fates.count("empty") + fates.count("colour")
    rejected += stolen + 1 if stolen else 0  # the first is nobody's either
    imported = fates.count("good") + (0 if stolen else 1)
    kind = _kind(lambda _: iter(founds))
    if imported == 0:
        with pytest.raises(InputError, match="nothing could be imported"):
            import_dataset(kind, src, out)
        assert not (out / "manifest.json").exists()
        return
    manifest = import_dataset(kind, src, out)
    books = manifest.books
    assert books.balance()
    assert (books.listed, books.imported) == (len(founds), imported)
    assert (books.rejected, books.missing) == (rejected, fates.count("gone"))
    assert books.duplicate == fates.count("twin")
    assert len(manifest.odd) == books.rejected + books.missing + books.duplicate
    kept = {image.file for image in manifest.images} | {image.breast for image in manifest.images}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert found == kept


def test_an_adapters_own_records_are_counted_and_remarks_are_not(tmp_path: Path) -> None:
    src = tmp_path / "src"
    _png(src / "a.png", 1)

    def read(folder: Path) -> Iterator[Found | Strange]:
        yield Found(name="a", path=folder / "a.png", patient="P", label=Label.NORMAL)
        for fate in ("rejected", "missing", "duplicate", "remark"):
            yield Strange(what=fate, where="x", why="because", fate=fate)  # type: ignore[arg-type]

    books = import_dataset(_kind(read), src, tmp_path / "out").books
    assert (books.listed, books.imported, books.rejected, books.missing, books.duplicate) == (4, 1, 1, 1, 1)


def test_names_are_made_harmless_and_kept_apart(tmp_path: Path) -> None:
    src = tmp_path / "src"
    names = ["../../etc/x", "a b", "a_b", "A_B", "", "\N{SNOWMAN}", "x" * 300]
    for number in range(len(names)):
        _png(src / f"{number}.png", number)

    def read(folder: Path) -> Iterator[Found | Strange]:
        for number, name in enumerate(names):
            yield Found(name=name, path=folder / f"{number}.png", patient="P", label=Label.NORMAL)

    manifest = import_dataset(_kind(read), src, tmp_path / "out")
    assert len(manifest.images) == len({image.name.lower() for image in manifest.images}) == len(names)
    for image in manifest.images:
        assert (tmp_path / "out" / "images" / f"{image.name}.png").is_file()


def test_a_path_out_of_the_source_is_not_followed(tmp_path: Path) -> None:
    src = tmp_path / "src"
    _png(src / "a.png", 1)
    _png(tmp_path / "other.png", 2)

    def read(folder: Path) -> Iterator[Found | Strange]:
        yield Found(name="a", path=folder / "a.png", patient="P", label=Label.NORMAL)
        yield Found(name="b", path=folder / ".." / "other.png", patient="P", label=Label.NORMAL)
        yield Found(name="c", path=tmp_path / "other.png", patient="P", label=Label.NORMAL)
        yield Found(name="d", path=folder / "a.png", patient="  ", label=Label.NORMAL)

    books = import_dataset(_kind(read), src, tmp_path / "out").books
    assert (books.imported, books.rejected) == (1, 3)


def test_pictures_are_asked_for_one_at_a_time(tmp_path: Path) -> None:
    kind = _founds(tmp_path / "src", 6)
    images = tmp_path / "out" / "images"
    ahead = []

    def read(folder: Path) -> Iterator[Found | Strange]:
        for number, found in enumerate(kind.read(folder)):
            ahead.append(number - len(list(images.iterdir())))
            yield found

    import_dataset(_kind(read), tmp_path / "src", tmp_path / "out")
    assert ahead == [0] * 6


# --- OUT


def test_out_is_never_mixed_with_anything(tmp_path: Path) -> None:
    kind = _founds(tmp_path / "src", 2)
    src, out = tmp_path / "src", tmp_path / "out"
    first = import_dataset(kind, src, out)
    with pytest.raises(SettingsError, match="holds a data set"):
        import_dataset(kind, src, out)
    assert import_dataset(_founds(src, 1), src, out, force=True).books.imported == 1
    assert len(list((out / "images").iterdir())) == 1
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="something else"):
        import_dataset(kind, src, out, force=True)
    assert (out / "thesis.txt").read_text() == "mine"
    assert read_manifest(out).books.imported == 1
    for bad in (src, src / "inside", tmp_path):
        with pytest.raises(SettingsError, match="lie in each other"):
            import_dataset(kind, src, bad, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="is a file"):
        import_dataset(kind, src, tmp_path / "file")
    with pytest.raises(InputError, match="no such folder"):
        import_dataset(kind, tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert first.books.imported == 2


def test_a_forced_import_that_fails_leaves_no_older_manifest(tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    kind = _founds(src, 2)
    import_dataset(kind, src, out)

    def read(folder: Path) -> Iterator[Found | Strange]:
        yield next(kind.read(folder))
        raise InputError("the list ends in the middle")

    with pytest.raises(InputError, match="in the middle"):
        import_dataset(_kind(read), src, out, force=True)
    assert not (out / "manifest.json").exists()
    assert import_dataset(kind, src, out).books.imported == 2


def test_links_in_out_are_not_followed(tmp_path: Path) -> None:
    kind = _founds(tmp_path / "src", 1)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "precious")
    with pytest.raises(SettingsError, match="links"):
        import_dataset(kind, tmp_path / "src", tmp_path / "out", force=True)
    assert (tmp_path / "precious" / "data").read_text() == "mine"


def test_two_imports_into_one_folder_do_not_meet(tmp_path: Path) -> None:
    kind = _founds(tmp_path / "src", 1)
    out = tmp_path / "out"
    out.mkdir()
    with (out / "unfinished").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(SettingsError, match="another import"):
            import_dataset(kind, tmp_path / "src", out)
    assert import_dataset(kind, tmp_path / "src", out).books.imported == 1


_KILLED = """
import sys, time
from pathlib import Path
from test_mammo_import import _founds, _kind
from scanward.mammography.importing import import_dataset
src, out = Path(sys.argv[1]), Path(sys.argv[2])
kind = _founds(src, 3)
def read(folder):
    for number, found in enumerate(kind.read(folder)):
        if number == 2:
            print("half", flush=True)
            time.sleep(60)
        yield found
import_dataset(_kind(read), src, out)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_is_killed_leaves_no_manifest_and_the_next_starts_clean(
    tmp_path: Path, how: signal.Signals
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(src), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(how)
        process.wait(30)
    assert len(list((out / "images").iterdir())) == 2
    assert not (out / "manifest.json").exists()
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        read_manifest(out)
    stray = out / "images" / "stray.png"
    stray.write_bytes(b"")
    assert import_dataset(_founds(src, 3), src, out).books.imported == 3
    assert not stray.exists()
    assert not (out / "unfinished").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_one_of_our_errors_and_leaves_no_manifest(tmp_path: Path, workers: int) -> None:
    """A limit on the size of files stands for the disk: writing then fails, of a picture or of the manifest."""
    kind, src, out = _founds(tmp_path / "src", 2), tmp_path / "src", tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (200, 1000) if workers == 0 else (200,):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OutputError, match=r"cannot be written: ") as caught:
                import_dataset(kind, src, out, workers=workers)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.exit_status == 2
        assert os.strerror(errno.EFBIG) in caught.value.what
        assert not (out / "manifest.json").exists()
    assert import_dataset(kind, src, out).books.imported == 2


# --- workers


def test_workers_make_the_same_data_set(tmp_path: Path) -> None:
    kind, src = _founds(tmp_path / "src", 5), tmp_path / "src"
    (src / "3.png").write_bytes(b"damaged")
    alone = import_dataset(kind, src, tmp_path / "alone")
    seen: list[tuple[int, int | None]] = []
    shared = import_dataset(kind, src, tmp_path / "shared", workers=2, progress=lambda *how: seen.append(how))
    assert alone == shared
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[-1] == (5, 5)
    for path in (tmp_path / "alone").rglob("*.png"):
        other = tmp_path / "shared" / path.relative_to(tmp_path / "alone")
        assert path.read_bytes() == other.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deadly(Found):
    """Taking it out of its parcel ends the process, as a decoder does that goes wrong."""

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return os._exit, (9,)


def test_a_picture_that_ends_its_process_costs_one_image(tmp_path: Path) -> None:
    kind, src = _founds(tmp_path / "src", 4), tmp_path / "src"

    def read(folder: Path) -> Iterator[Found | Strange]:
        for number, found in enumerate(kind.read(folder)):
            yield found
            if number == 1:
                assert isinstance(found, Found)
                yield _Deadly(name="deadly", path=found.path, patient="X", label=Label.NORMAL)

    manifest = import_dataset(_kind(read), src, tmp_path / "out", workers=1)
    assert (manifest.books.imported, manifest.books.rejected) == (4, 1)
    assert [odd.why for odd in manifest.odd] == ["the process that read it died"]


# --- the table of labels


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "need one column"),
        ("patient,label\n", "need one column"),
        ("image,SOPInstanceUID\n", "need one column"),
        ("image,colour\n", "unknown column"),
        ("image,image\n", "twice"),
        ("image,label\na.png,bad\n", "label 'bad'"),
        ("image,label\na.png\n", "more or fewer"),
        ("image,label\na.png,benign,x\n", "more or fewer"),
        ("image,laterality\na.png,B\n", "laterality 'B'"),
        ("image,view\na.png,C/C\n", "view"),
        ("image,birads\na.png,7\n", "birads"),
        ("image,x,y,radius\na.png,1,2,\n", "three numbers"),
        ("image,x,y,radius\na.png,1,2,nan\n", "no circle"),
        ("image,x,y,radius\na.png,1,2,-1\n", "no circle"),
        ("image,kind\na.png,wart\n", "kind 'wart'"),
        ("image,label\na.png,benign\na.png,benign\n", "there twice"),
        ("image,label,x,y,radius\na.png,benign,1,1,1\na.png,normal,2,2,1\n", "another label"),
        ("image,patient\n,A\n", "no image"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_labels(tmp_path / "l.csv")


@given(st.text(max_size=200), st.booleans())
def test_any_table_gives_rows_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, head: bool
) -> None:
    path = tmp_path_factory.mktemp("labels") / "l.csv"
    path.write_text(("image,patient,label,x,y,radius\n" if head else "") + text, encoding="utf-8", newline="")
    try:
        rows = read_labels(path)
    except InputError:
        return
    assert all(row.key for row in rows.values())


def test_a_table_names_dicom_by_instance_and_gives_what_is_missing(tmp_path: Path) -> None:
    src = tmp_path / "src"
    dicom_file(
        src / "a.dcm", breast_picture(seed=1), SOPInstanceUID="1.2.3", PatientID=None, PatientName=None
    )
    dicom_file(src / "b.dcm", breast_picture(seed=2), SOPInstanceUID="1.2.4", PatientID="", PatientName=None)
    (tmp_path / "l.csv").write_text(
        "SOPInstanceUID,patient,label\n1.2.3,Mrs A,malignant\n1.2.99,Mrs B,normal\n"
    )
    manifest = import_dataset(find("dicom", tmp_path / "l.csv"), src, tmp_path / "out")
    assert [image.label for image in manifest.images] == [Label.MALIGNANT]
    assert (manifest.books.listed, manifest.books.rejected, manifest.books.missing) == (3, 1, 1)
    assert "1.2.99" not in (tmp_path / "out" / "manifest.json").read_text()


def test_labels_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs a table"):
        find("pictures")
    with pytest.raises(SettingsError, match="brings its own"):
        find("mias", tmp_path / "l.csv")
    with pytest.raises(SettingsError, match="no kind"):
        find("paintings")
    assert find("dicom") is KINDS["dicom"]


# --- inspecting, and the command line


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Manifest]:
    """A data set of three images."""
    kind = _founds(tmp_path / "src", 3)
    return tmp_path / "set", import_dataset(kind, tmp_path / "src", tmp_path / "set")


def test_inspect_counts_and_finds_what_was_changed(small: tuple[Path, Manifest]) -> None:
    folder, manifest = small
    assert check(folder, manifest).verified == 3
    summary = summarise(manifest)
    assert summary.rows == (("normal", "?", "?", 3, 3, 0),)
    assert summary.leaks == ()
    picture = folder / manifest.images[1].file
    pixels = read_picture(picture).copy()
    pixels[5, 5] += 1
    write_picture(picture, pixels)
    (folder / manifest.images[2].breast).unlink()
    (folder / "images" / "other.png").write_bytes(b"")
    found = check(folder, manifest)
    assert found.verified == 1
    assert [name for name, _ in found.wrong] == ["1", "2"]
    assert found.strangers == ("images/other.png",)
    result = CliRunner().invoke(cli, ["mammo", "inspect", str(folder), "--verify"])
    assert result.exit_code == 2
    assert "2 of 3 images are not what was imported" in result.stderr


def test_inspect_tells_leaks(small: tuple[Path, Manifest]) -> None:
    folder, manifest = small
    text = (folder / "manifest.json").read_text()
    facts = json.loads(text)
    facts["images"][1]["sha256"] = facts["images"][0]["sha256"]
    (folder / "manifest.json").write_text(json.dumps(facts))
    result = CliRunner().invoke(cli, ["mammo", "inspect", str(folder), "--json"])
    assert json.loads(result.stdout)["leaks"] == [["0", "1"]]
    assert manifest.images[0].sha256 != manifest.images[1].sha256


def test_the_command_imports_reports_and_repeats(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for number in range(2):
        _png(src / f"{number}.png", number)
    _png(src / "x" / "0.png", 7)
    (tmp_path / "l.csv").write_text(
        "image,patient,label\n0.png,A,normal\n1.png,B,malignant\n2.png,B,normal\n"
    )
    keys.write_site_key(tmp_path / "k.sitekey", KEY)
    arguments = ["mammo", "import", "pictures", str(src), str(tmp_path / "out"), "--workers", "0"]
    arguments += ["--labels", str(tmp_path / "l.csv"), "--site-key", str(tmp_path / "k.sitekey")]
    report = tmp_path / "report.csv"
    result = CliRunner().invoke(cli, [*arguments, "--json", "--report", str(report)])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["books"] == {"listed": 4, "imported": 2, "rejected": 1, "missing": 1, "duplicate": 0}
    assert facts["groups"][0] == {
        "label": "malignant",
        "laterality": "?",
        "view": "?",
        "images": 1,
        "patients": 1,
        "lesions": 0,
    }
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    with report.open(newline="") as file:
        told = {row["file"]: row["outcome"] for row in csv.DictReader(file)}
    assert told == {"0.png": "imported", "1.png": "imported", "2.png": "missing", "x/0.png": "rejected"}
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 2
    assert "OUT holds a data set" in again.stderr
    forced = CliRunner().invoke(cli, [*arguments, "--force"])
    assert forced.exit_code == 0
    assert "random key" not in forced.stderr


def test_the_help_lists_every_kind_with_its_layout() -> None:
    text = " ".join(CliRunner().invoke(cli, ["mammo", "import", "--help"]).stdout.split())
    for kind in KINDS.values():
        assert f"{kind.name} " in text
        assert kind.title.split()[0] in text


def test_what_became_of_each_file_is_told_once(tmp_path: Path) -> None:
    kind, src = _founds(tmp_path / "src", 3), tmp_path / "src"
    (src / "1.png").write_bytes((src / "0.png").read_bytes())  # the picture of another patient
    told: list[Told] = []
    import_dataset(kind, src, tmp_path / "out", tell=told.append)
    assert sorted((one.where, one.fate) for one in told) == [
        ("0.png", "rejected"),
        ("1.png", "rejected"),
        ("2.png", "imported"),
    ]
