"""Attacks on the mammogram wing: leaks by other names, claims of few women, hostile folders, names in outputs."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from _evaluation import toy_data
from _mammo import IDENTIFIER, NAME, breast_picture, dicom_file
from scanward.cli.main import cli
from scanward.errors import InputError, LeakError
from scanward.mammography.importing import Told, import_dataset
from scanward.mammography.kinds import KINDS, find
from scanward.mammography.manifest import Image, Manifest, read_manifest, write_manifest
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering.checkpoints import Run, hashed, load_run, marks
from scanward.tampering.evaluation import Settings, confirm, controls
from scanward.tampering.evaluation.bootstrap import LEAST_PATIENTS, Draws, auc, delong_p
from scanward.tampering.evaluation.classifiers import TrainSettings
from scanward.tampering.evaluation.loading import load_data
from scanward.tampering.presets import PRESETS, change
from scanward.tampering.running import Settings as RunSettings
from scanward.tampering.running import train

SIDE = 32


# --- leaks


def _phantoms(out: Path, patients: int, seed: int) -> Path:
    write_phantoms(
        out, patients=patients, rows=SIDE, columns=SIDE, seed=seed, prevalence=1.0, both_breasts=True
    )
    return out


def _renamed(data: Path, out: Path) -> Path:
    """The same films as another import calls them: other names of women, another kind of data set."""
    shutil.copytree(data, out)
    manifest = read_manifest(out)
    images = tuple(
        msgspec.structs.replace(image, patient=f"p{image.patient[::-1]}") for image in manifest.images
    )
    write_manifest(out, msgspec.structs.replace(manifest, images=images, kind="other"))
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """Phantom women, and a run (of one step) that learned from the first of them."""
    base = tmp_path_factory.mktemp("leaks")
    _phantoms(base / "seen", 6, 3)
    _phantoms(base / "unseen", 20, 4)
    small = {"rows": str(SIDE), "columns": str(SIDE), "generator.filters": "4", "generator.blocks": "1"}
    small |= {"discriminator.filters": "4", "discriminator.layers": "1", "optimiser.steps": "1"}
    preset = change(PRESETS["reference-64"], small)
    train(base / "seen", preset, base / "run", settings=RunSettings(threads=1, sheet_steps=0))
    return base, load_run(base / "run")


def test_films_imported_again_under_other_names_are_known_by_their_pixels(
    trained: tuple[Path, Run], tmp_path: Path
) -> None:
    base, run = trained
    again = _renamed(base / "seen", tmp_path / "again")
    assert not {*hashed(set(read_manifest(again).patients()))} & {*run.facts.patients}
    with pytest.raises(InputError, match="trained on every patient"):
        load_data(again, run)
    with pytest.raises(InputError, match="trained on every patient"):
        load_data(base / "unseen", run, learn_from=again)


def test_films_imported_again_with_other_curves_are_known_by_their_source() -> None:
    fields = {"patient": "p", "label": "normal", "file": "a", "breast": "b", "rows": 1, "columns": 1}
    made = [
        msgspec.convert({"name": name, "sha256": pixels * 64, "source_sha256": "f" * 64, **fields}, Image)
        for name, pixels in (("one", "a"), ("other", "b"))
    ]
    assert marks(made[:1]) & marks(made[1:])
    # phantoms have no source file: that is nothing that they share
    plain = [msgspec.structs.replace(one, source_sha256="") for one in made]
    assert not marks(plain[:1]) & marks(plain[1:])


def test_a_woman_with_one_seen_picture_is_left_out_whole(trained: tuple[Path, Run], tmp_path: Path) -> None:
    base, run = trained
    both = tmp_path / "both"
    shutil.copytree(base / "unseen", both)
    seen = read_manifest(base / "seen").images[0]
    manifest = read_manifest(both)
    victim = manifest.images[0]
    stained = msgspec.structs.replace(victim, sha256=seen.sha256)
    write_manifest(both, msgspec.structs.replace(manifest, images=(stained, *manifest.images[1:])))
    data = load_data(both, run)
    tested = {*data.learn.patients, *data.validate.patients, *data.test.patients}
    assert victim.patient not in tested
    assert len(tested) == 19


def test_the_learners_data_set_is_not_the_test(trained: tuple[Path, Run], tmp_path: Path) -> None:
    base, run = trained
    with pytest.raises(LeakError):
        load_data(base / "unseen", run, learn_from=base / "unseen")
    with pytest.raises(LeakError, match="pictures are in both"):
        load_data(base / "unseen", run, learn_from=_renamed(base / "unseen", tmp_path / "again"))


@pytest.mark.parametrize("options", [{"rows": 48, "columns": 40}, {"contrast": 2.0}, {"patients": 26}])
def test_phantoms_of_an_equal_seed_are_the_same_women(
    trained: tuple[Path, Run], tmp_path: Path, options: dict[str, int]
) -> None:
    base, run = trained
    asked = {"patients": 6, "rows": SIDE, "columns": SIDE, "seed": 3, "prevalence": 1.0, "both_breasts": True}
    write_phantoms(tmp_path / "set", **(asked | options))  # type: ignore[arg-type]
    women = {*read_manifest(base / "seen").patients()}
    if options.get("patients"):
        data = load_data(tmp_path / "set", run)
        assert not women & {*data.learn.patients, *data.validate.patients, *data.test.patients}
    else:
        with pytest.raises(InputError, match="trained on every patient"):
            load_data(tmp_path / "set", run)


# --- figures of few women


def test_one_cancer_has_no_interval() -> None:
    scores = np.random.default_rng(0).normal(size=30)
    draws = Draws.of([f"h{i}" for i in range(30)] + ["c"], resamples=400)
    made = draws.estimate(auc(draws, (np.arange(30), scores), (np.array([30]), np.array([9.0]))))
    assert (made.value, made.low, made.high) == (1.0, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert delong_p((scores, -scores), (np.array([9.0]), np.array([0.0]))) == 1.0


@pytest.mark.parametrize("count", range(1, LEAST_PATIENTS))
def test_a_handful_of_women_with_both_sides_each_has_no_interval(count: int) -> None:
    draws = Draws.of([f"{i // 2}" for i in range(2 * count)], resamples=200)
    rows = np.arange(0, 2 * count, 2)
    made = draws.estimate(auc(draws, (rows, np.zeros(count)), (rows + 1, np.ones(count))))
    assert made.value == 1.0
    assert made.low is None


@pytest.mark.parametrize(("all_or_none", "low", "high"), [(1.0, 0.692, 1.0), (0.0, 0.0, 0.308)])
def test_ten_of_ten_are_not_all(all_or_none: float, low: float, high: float) -> None:
    """Clopper and Pearson's interval of 10 of 10 is 69.2 to 100 %: twice as many pictures make no more women."""
    draws = Draws.of([str(i // 2) for i in range(20)], resamples=200)
    made = draws.share(np.arange(20), np.full(20, all_or_none))
    assert made.value == all_or_none
    assert (made.low, made.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
    some = draws.share(np.arange(20), np.arange(20) % 4 == 0)
    assert some == draws.mean(np.arange(20), np.arange(20) % 4 == 0)


def test_nothing_is_claimed_of_few_women() -> None:
    quick = Settings(training=TrainSettings(epochs=6, batch=8), processings=("none",), resamples=200)
    data = toy_data(learn=60, validate=30, test=9, side=24)
    told = confirm(data, controls(data.learn, data.test), quick)
    assert told.assessable
    assert {t.verdict for t in told.tampers} == {"fewer than 10 patients on a side: nothing is claimed"}


# --- folders out to do harm


def _png(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pil.fromarray(breast_picture(bits=16, seed=seed)).save(path, "PNG")


def _labels(path: Path, names: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "patient", "label"))
        writer.writerows((name, f"{NAME} {i // 2}", "normal") for i, name in enumerate(names))
    return path


def _run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_a_report_is_no_formula_and_no_terminal_command(tmp_path: Path) -> None:
    names = ["=HYPERLINK(1).png", "+1.png", "-1.png", "@SUM.png", "new\nline.png", "\x1b[31mred.png", "a.png"]
    for seed, name in enumerate(names):
        _png(tmp_path / "src" / name, seed)
    _png(tmp_path / "src" / os.fsdecode(b"\xff\xfe.png"), 99)
    labels = _labels(tmp_path / "labels.csv", names)
    report = tmp_path / "report.csv"
    arguments = ("--labels", labels, "--report", report, "--workers", "0")
    result = _run("mammo", "import", "pictures", tmp_path / "src", tmp_path / "out", *arguments)
    assert result.exit_code == 0
    with report.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == len(names) + 2
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert all(cell.isprintable() for row in rows for cell in row)
    assert "\x1b[31m" not in result.output


def test_a_link_that_leads_out_is_told(tmp_path: Path) -> None:
    _png(tmp_path / "src" / "a.png", 1)
    _png(tmp_path / "src" / "inside" / "b.png", 2)
    _png(tmp_path / "elsewhere.png", 3)
    (tmp_path / "src" / "c.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "src" / "d.png").symlink_to("d.png")
    labels = _labels(tmp_path / "labels.csv", ["a.png", "inside/b.png", "c.png", "d.png"])
    manifest = import_dataset(find("pictures", labels), tmp_path / "src", tmp_path / "out")
    led = [one for one in manifest.images if "leads out" in "".join(one.remarks)]
    assert len(led) == 1
    assert manifest.books == msgspec.structs.replace(manifest.books, listed=4, imported=3, missing=1)


_WRECKS = st.sampled_from(["cut", "flip", "empty", "folder", "gone", "text", "link", "copy", "claim", "fifo"])


def _wreck(path: Path, how: str, at: float, other: Path) -> None:
    """Damage one file of a folder in one way; ``at`` (0 to 1) says where."""
    if not path.is_file() or path.is_symlink() or (how == "fifo" and path.suffix == ".csv"):
        return  # a table is named by the user: it may well be a pipe, and is waited for
    content = path.read_bytes()
    place = int(at * max(len(content) - 1, 0))
    if how in ("folder", "gone", "link", "fifo"):
        path.unlink()
    match how:
        case "cut":
            path.write_bytes(content[:place])
        case "flip" if content:
            path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("=1+1\n\x1b[2J" * 9)
        case "link":
            path.symlink_to("/proc/self/environ")
        case "copy" if other.is_file():
            path.write_bytes(other.read_bytes())
        case "claim":  # a PNG that says it has four thousand million pixels on a side
            path.write_bytes(content[:16] + b"\xff\xff\xff\xfe" * 2 + content[24:])
        case "fifo":
            os.mkfifo(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small folders: DICOM and pictures, with a table of labels each."""
    base = tmp_path_factory.mktemp("sources")
    for seed in range(3):
        _png(base / "pictures" / f"{seed}.png", seed)
        dicom_file(base / "dicom" / f"{seed}.dcm", breast_picture(seed=seed), PatientID=f"SECRET-{seed}")
    _labels(base / "pictures" / "labels.csv", [f"{i}.png" for i in range(4)])
    _labels(base / "dicom" / "labels.csv", [f"{i}.dcm" for i in range(4)])
    return base


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["pictures", "dicom"]),
    wrecks=st.lists(st.tuples(st.integers(0, 3), _WRECKS, st.floats(0, 1)), min_size=1, max_size=4),
)
@example(kind="pictures", wrecks=[(0, "copy", 0.0)])  # the same picture of one woman twice
@example(kind="dicom", wrecks=[(2, "copy", 0.0), (1, "copy", 0.0)])
def test_books_balance_over_wreckage(sources: Path, kind: str, wrecks: list[tuple[int, str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        src, out = Path(folder) / "src", Path(folder) / "out"
        shutil.copytree(sources / kind, src)
        files = sorted(src.iterdir())
        for index, how, at in wrecks:
            _wreck(files[index], how, at, files[(index + 1) % len(files)])
        told: list[Told] = []
        try:
            made = import_dataset(find(kind, src / "labels.csv"), src, out, tell=told.append)
        except InputError as error:
            if "bug" in error.todo:  # books that do not balance are refused, too: nobody's fault but ours
                raise
            assert not (out / "manifest.json").exists()
            return
        assert made.books.balance()
        assert read_manifest(out) == made  # which checks names, paths and books
        _each_file_is_accounted_for(src, out, made, told)


def _each_file_is_accounted_for(src: Path, out: Path, made: Manifest, told: list[Told]) -> None:
    entries = [one for one in told if one.fate != "remark"]
    assert len(entries) == made.books.listed
    assert sum(one.fate == "imported" for one in entries) == len(made.images)
    where = {one.where for one in told}
    for path in src.iterdir():
        if path.is_file() and path.suffix in (".png", ".dcm"):
            assert path.name in where
    kept = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert kept == {"manifest.json", *(file for one in made.images for file in (one.file, one.breast))}


def test_every_kind_refuses_wreckage_with_an_error_of_ours(sources: Path, tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        if kind.labels == "none":
            with pytest.raises(InputError) as refused:
                import_dataset(kind, sources / "pictures", tmp_path / name)
            assert refused.value.what
            assert refused.value.todo


# --- names in outputs


def test_nothing_that_an_import_writes_or_says_names_a_woman(tmp_path: Path) -> None:
    """Manifest, pictures and messages, with --debug, of whole and of broken files; --report alone has file names."""
    src = tmp_path / "src"
    known = {
        "AccessionNumber": "ACC-990017",
        "PatientBirthDate": "19500704",
        "InstitutionName": "MERCY",
        "StudyInstanceUID": "1.2.826.0.1.3680043.77.1",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.77.2",
        "SOPInstanceUID": "1.2.826.0.1.3680043.77.3",
        "StudyDescription": "WIDOW OF DOE",
        "ImageComments": "COMMENT-DOE",
    }
    good = dicom_file(src / "DOE-JANE-1.dcm", breast_picture(), **known)
    content = good.read_bytes()
    (src / "DOE-JANE-2.dcm").write_bytes(content[: len(content) // 2])
    (src / "DOE-JANE-3.dcm").write_bytes(content[:400])
    dicom_file(src / "DOE-JANE-4.dcm", breast_picture(seed=1), **(known | {"Modality": "CT"}))
    dicom_file(src / "DOE-JANE-5.dcm", breast_picture(seed=2), **(known | {"ViewPosition": "DOE^JANE"}))
    dicom_file(src / "DOE-JANE-6.dcm", breast_picture(seed=3), **(known | {"ImageLaterality": "SECRET-4711"}))
    dicom_file(src / "DOE-JANE-7.dcm", breast_picture(seed=4), **known, PhotometricInterpretation="DOE^JANE")
    report = tmp_path / "report.csv"
    arguments = ("--report", report, "--workers", "0", "--debug")
    result = _run("mammo", "import", "dicom", src, tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.output
    shown = _run("mammo", "inspect", tmp_path / "out", "--json")
    secrets = [NAME, "DOE", IDENTIFIER, *known.values()]
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for secret in secrets:
        for text in (result.output, shown.output, written.decode("latin-1")):
            assert secret not in text
    told = report.read_text()
    for secret in (NAME, IDENTIFIER, *known.values()):
        assert secret not in told
    assert report.stat().st_mode & 0o077 == 0
    only_bad = tmp_path / "bad"
    only_bad.mkdir()
    shutil.copy(src / "DOE-JANE-3.dcm", only_bad)
    refused = _run("mammo", "import", "dicom", only_bad, tmp_path / "none", "--workers", "0", "--debug")
    assert refused.exit_code == 2
    for secret in secrets:
        assert secret not in refused.output


# --- wrong use


@pytest.mark.parametrize(
    "arguments",
    [
        ("tamper", "train", "--preset", "nope", "--out", "{t}/r", "--data", "{t}/data"),
        ("tamper", "train", "--preset", "reference-64", "--out", "{t}/r", "--data", "{t}"),
        (
            "tamper",
            "train",
            "--preset",
            "reference-64",
            "--out",
            "{t}/r",
            "--data",
            "{t}/data",
            "--part",
            "x",
        ),
        (
            "tamper",
            "train",
            "--preset",
            "reference-64",
            "--out",
            "{t}/r",
            "--data",
            "{t}/data",
            "--set",
            "steps",
        ),
        (
            "tamper",
            "train",
            "--preset",
            "reference-64",
            "--out",
            "{t}/r",
            "--data",
            "{t}/data",
            "--set",
            "z=1",
        ),
        ("tamper", "evaluate", "--data", "{t}", "--model", "{t}/run", "--out", "{t}/e"),
        ("tamper", "evaluate", "--data", "{t}/data", "--model", "{t}/data", "--out", "{t}/e"),
        ("tamper", "insert", "{t}/nothing.png", "--model", "{t}/data", "--out", "{t}/e"),
        ("mammo", "import", "nope", "{t}/data", "{t}/o"),
        ("mammo", "import", "mias", "{t}/data", "{t}/o"),
        ("mammo", "import", "mias", "{t}/data", "{t}/o", "--labels", "{t}/l.csv"),
        ("mammo", "inspect", "{t}"),
        ("mammo", "split", "{t}/data", "--out", "{t}/s.json", "--parts", "train"),
        ("mammo", "split", "{t}/data", "--out", "{t}/s.json", "--parts", "train=nan,test=1"),
    ],
)
def test_wrong_use_says_what_where_and_what_to_do(arguments: tuple[str, ...], tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", patients=2, rows=SIDE, columns=SIDE)
    result = _run(*(one.replace("{t}", str(tmp_path)) for one in arguments))
    assert result.exit_code == 2, result.output
    said = result.output.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert said.count(", ") >= 1
    assert "Traceback" not in result.output
    assert not (tmp_path / "o" / "manifest.json").exists()
