"""MIAS, as published and as derived copies: labels, women, sides, places, and everything odd reported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import _mammo_layouts as layouts
from _mammo_layouts import fates, sorted_out, whys
from scanward.errors import InputError
from scanward.mammography import Label, LesionKind
from scanward.mammography.adapters import mias, mias_copies
from scanward.mammography.sources import Adapter


def test_published_layout(tmp_path: Path) -> None:
    found, strange = sorted_out(mias.read, layouts.mias(tmp_path))
    assert {name: film.label for name, film in found.items()} == {
        "mdb001": Label.BENIGN,
        "mdb002": Label.BENIGN,
        "mdb003": Label.NORMAL,
        "mdb004": Label.NORMAL,
        "mdb005": Label.MALIGNANT,
        "mdb006": Label.NORMAL,
        "mdb059": Label.BENIGN,
        "mdb216": Label.MALIGNANT,
    }
    assert [found[f"mdb00{n}"].patient for n in (1, 2, 3, 4, 5)] == ["P001", "P001", "P002", "P002", "P003"]
    assert [found[f"mdb00{n}"].laterality for n in (1, 2)] == ["R", "L"]
    first = found["mdb001"]
    assert (first.view, first.density, first.spacing) == ("MLO", "fatty-glandular", (0.2, 0.2))
    assert first.lesions[0].circle == (535, 1024 - 425, 97)
    assert first.lesions[0].kind is LesionKind.MASS
    assert first.lesions[0].spiculated is False
    both = found["mdb005"].lesions
    assert [lesion.label for lesion in both] == [Label.BENIGN, Label.MALIGNANT]
    assert both[1].spiculated is True
    for name in ("mdb059", "mdb216"):
        assert [lesion.located for lesion in found[name].lesions] == [False]
        assert found[name].remarks == ("the list gives no place of a lesion",)
    assert found["mdb216"].lesions[0].kind is LesionKind.CALCIFICATION
    assert [record.what for record in strange] == ["left and right"]


@pytest.mark.parametrize(("encoding", "eol"), [("utf-8-sig", "\r\n"), ("latin-1", "\r"), ("utf-16", "\n")])
def test_list_in_other_encodings(tmp_path: Path, encoding: str, eol: str) -> None:
    found, _ = sorted_out(mias.read, layouts.mias(tmp_path, encoding=encoding, eol=eol))
    assert len(found) == 8


def test_everything_odd_is_reported(tmp_path: Path) -> None:
    lines = (
        "mdb001 G CIRC B 535 425 97",
        "mdb001 G CIRC B 535 425 97",
        "mdb002 G CIRC B 522 2800 69",
        "mdb003 D NORM",
        "mdb003 D CALC M 500 500 10",
        "mdb004 D WHAT B 1 2 3",
        "mdb005 F CIRC Q 477 133 30",
        "mdb006 F CIRC B 477 133",
        "mdb007 F NORM",
        "mdb008 F CIRC B 400 400 0",
        "mdb009 F NORM",
        "mdb010 G NORM",
    )
    layouts.mias(tmp_path, lines)
    (tmp_path / "mdb007.pgm").unlink()
    (tmp_path / "mdb009.pgm").write_bytes(b"GIF89a")
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "mdb010.pgm").write_bytes((tmp_path / "mdb010.pgm").read_bytes())
    (tmp_path / "mdb300.pgm").write_bytes((tmp_path / "mdb010.pgm").read_bytes())
    found, strange = sorted_out(mias.read, tmp_path)
    assert sorted(found) == ["mdb001", "mdb002", "mdb008", "mdb010"]
    assert len(found["mdb001"].lesions) == 1
    for name in ("mdb002", "mdb008"):
        assert not found[name].lesions[0].located
        assert "outside the picture" in found[name].remarks[0]
    rejected = {record.what: record.why for record in strange if record.fate == "rejected"}
    assert sorted(rejected) == ["mdb003", "mdb004", "mdb005", "mdb006", "mdb009", "mdb300"]
    assert "normal and with a lesion" in rejected["mdb003"]
    assert "WHAT" in rejected["mdb004"]
    assert "neither B nor M" in rejected["mdb005"]
    assert "three numbers" in rejected["mdb006"]
    assert "not a PGM" in rejected["mdb009"]
    assert "does not list" in rejected["mdb300"]
    assert fates(strange) == {"rejected": 6, "missing": 1, "duplicate": 1, "remark": 2}
    assert [record.what for record in strange if record.fate == "missing"] == ["mdb007"]
    assert any("there twice" in record.why for record in strange)


def test_full_resolution_names(tmp_path: Path) -> None:
    layouts.mias(tmp_path, ("mdb001 G CIRC B 535 425 97", "mdb002 G NORM"))
    (tmp_path / "mdb001.pgm").unlink()
    layouts.write_pgm(tmp_path / "mdb001lm.pgm", layouts.drawn(432, 205, "left"))
    found, _ = sorted_out(mias.read, tmp_path)
    film = found["mdb001"]
    assert film.laterality == "L"
    assert film.spacing is None
    assert [lesion.located for lesion in film.lesions] == [False]
    assert any("places do not apply" in remark for remark in film.remarks)
    assert any("left and right" in remark for remark in film.remarks)


@pytest.mark.parametrize(
    "head", [b"P5" + b" " * 5000, b"P5" + b"\n#" * 2000, b"P5 #a\n #b\n 10 ", b"P2 10 10 255\n", b""]
)
def test_headers_that_are_none(tmp_path: Path, head: bytes) -> None:
    layouts.mias(tmp_path, ("mdb001 G NORM", "mdb002 G NORM"))
    (tmp_path / "mdb001.pgm").write_bytes(head)
    found, strange = sorted_out(mias.read, tmp_path)
    assert list(found) == ["mdb002"]
    assert "not a PGM" in whys(strange, "rejected")["mdb001"]


@pytest.mark.parametrize("read", [mias.read, mias_copies.read])
def test_another_folder_is_refused_and_says_what_was_looked_for(tmp_path: Path, read: Adapter) -> None:
    for src in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError) as caught:
            list(read(src))
        assert "Info.txt" in str(caught.value) or "labels.csv" in str(caught.value)


def test_a_list_without_films_and_films_without_a_list(tmp_path: Path) -> None:
    (tmp_path / "Info.txt").write_text("nothing here\n")
    with pytest.raises(InputError, match="lines of films"):
        list(mias.read(tmp_path))
    (tmp_path / "Info.txt").write_text("mdb001 G NORM\n")
    with pytest.raises(InputError, match="no pictures"):
        list(mias.read(tmp_path))


def test_derived_copies(tmp_path: Path) -> None:
    found, strange = sorted_out(mias_copies.read, layouts.mias_png(tmp_path / "a"))
    assert [film.label for film in found.values()] == ["benign", "normal", "malignant", "malignant"]
    assert found["mdb003"].lesions[1].circle == (52, 60, 7)
    assert [lesion.located for lesion in found["mdb004"].lesions] == [False]
    assert fates(strange) == {"remark": 1}
    alone, _ = sorted_out(mias_copies.read, layouts.mias_png(tmp_path / "b", lesions=False))
    assert [film.label for film in alone.values()] == [film.label for film in found.values()]
    assert any("only the first of 2" in remark for remark in alone["mdb003"].remarks)


def test_badly_registered_copies_are_left_out(tmp_path: Path) -> None:
    src = layouts.mias_png(tmp_path / "a", lesions=False, correlation=("0.99", "0.9699", "nan", "0.97"))
    found, strange = sorted_out(mias_copies.read, src)
    assert sorted(found) == ["mdb001", "mdb004"]
    assert sorted(record.what for record in strange if record.fate == "rejected") == ["mdb002", "mdb003"]


def test_odd_rows_of_derived_copies(tmp_path: Path) -> None:
    src = layouts.mias_png(tmp_path / "a")
    (src / "images" / "mdb900.png").write_bytes(b"")
    (src / "images" / "mdb002.png").unlink()
    text = (src / "labels.csv").read_text()
    text += text.splitlines()[1] + "\n"
    text += "../mdb005.png,P003,R,MLO,normal,NORM,F,0,,,\n"
    text += "images/mdb001.png,P003\n"
    text = text.replace("malignant,SPIC,D,2", "malignant,SPIC,D,3").replace("malignant,CALC", "normal,CALC")
    (src / "labels.csv").write_text(text)
    with (src / "lesions.csv").open("a") as file:
        file.write("images/mdb077.png,P039,CIRC,benign,1,2,3\n")
    found, strange = sorted_out(mias_copies.read, src)
    assert sorted(found) == ["mdb001"]
    whys = {record.what: record.why for record in strange if record.fate == "rejected"}
    assert "3 lesions are announced" in whys["mdb003"]
    assert "does not fit" in whys["mdb004"]
    assert "not a film's path" in whys["../mdb005.png"]
    assert "no label" in whys["mdb900"]
    assert fates(strange) == {"rejected": 4, "missing": 1, "duplicate": 1, "remark": 3}


@given(st.text(alphabet=st.sampled_from("mdb0123456789 GFDCIRNOMB*TE.-\n\t#é\0"), max_size=400))
def test_any_list_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("list") / "Info.txt"
    path.write_text(f"mdb001 G NORM\n{text}", encoding="utf-8")
    films, _ = mias.read_info(path)
    assert 1 in films
    for film in films.values():
        assert film.wrong or film.normal or film.lesions


@given(st.text(max_size=60))
def test_any_line_is_read_or_refused(text: str) -> None:
    try:
        film, tissue, lesion, _ = mias.read_line(text)
    except ValueError:
        return
    assert 0 <= film <= 999
    assert tissue in mias.TISSUES
    assert lesion is None or lesion.label in (Label.BENIGN, Label.MALIGNANT)


def test_real_copies(shared_data: Path) -> None:
    src = shared_data / "mammography" / "mias"
    if not src.is_dir():
        pytest.skip(f"no MIAS copies at {src}")
    found, strange = sorted_out(mias_copies.read, src)
    assert Counter(film.label for film in found.values()) == {"normal": 207, "benign": 63, "malignant": 52}
    assert len({film.patient for film in found.values()}) == 161
    lesions = [lesion for film in found.values() for lesion in film.lesions]
    assert (len(lesions), sum(not lesion.located for lesion in lesions)) == (123, 4)
    assert [record.fate for record in strange] == ["remark"]
    assert all(film.path.is_file() for film in found.values())


def test_real_registered_copies(shared_data: Path) -> None:
    src = shared_data / "mammography" / "mias256"
    if not src.is_dir():
        pytest.skip(f"no registered MIAS copies at {src}")
    found, strange = sorted_out(mias_copies.read, src)
    left_out = {record.what for record in strange if record.fate == "rejected"}
    assert left_out == {f"mdb{film}" for film in ("060", "075", "076", "137", "151", "152", "191")}
    assert len(found) == 315
