"""CBIS-DDSM in three layouts of its folders: the mask is found by its size, films are one image, all odd is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import _mammo_layouts as layouts
from _mammo_layouts import fates, sorted_out, whys
from scanward.errors import InputError
from scanward.mammography import Label, LesionKind
from scanward.mammography.adapters import cbis_ddsm
from scanward.mammography.adapters.tables import Row

MASS_TRAIN = "mass_case_description_train_set.csv"


@pytest.mark.parametrize("layout", ["uid", "nbia", "bare"])
def test_the_three_layouts(tmp_path: Path, layout: str) -> None:
    found, strange = sorted_out(cbis_ddsm.read, layouts.cbis_ddsm(tmp_path / "a", layout))
    assert {name: (one.label, one.partition, one.birads) for name, one in found.items()} == {
        "P_00001_L_CC": (Label.MALIGNANT, None, 4),
        "P_00001_L_MLO": (Label.MALIGNANT, "train", 4),
        "P_00016_R_CC": (Label.BENIGN, "test", 4),
        "P_00005_R_CC": (Label.BENIGN, "train", 3),
    }
    film = found["P_00001_L_CC"]
    assert (film.patient, film.laterality, film.view, film.density) == ("P_00001", "L", "CC", "ACR 3")
    lesions = [lesion for _, lesion in film.rasters]
    assert [lesion.label for lesion in lesions] == [Label.MALIGNANT, Label.BENIGN, Label.BENIGN]
    assert [lesion.spiculated for lesion in lesions] == [True, False, None]
    assert found["P_00001_L_MLO"].rasters[0][1].kind is LesionKind.DISTORTION
    for one in found.values():
        size = cbis_ddsm.picture_size(one.path)
        for mask, _ in one.rasters:
            assert cbis_ddsm.picture_size(mask) == size, "the cropped picture was taken for the mask"
    assert whys(strange, "duplicate").keys() == {"P_00001_L_CC"}
    assert "training set and in its test set" in whys(strange, "remark")["P_00001"]
    assert fates(strange) == {"duplicate": 1, "remark": 1}


def test_everything_odd_is_reported(tmp_path: Path) -> None:
    src = layouts.cbis_ddsm(tmp_path / "a", "uid")
    for path in (src / "Mass-Test_P_00016_RIGHT_CC").rglob("*.dcm"):
        path.unlink()
    for path in (src / "Calc-Training_P_00005_RIGHT_CC").rglob("*.dcm"):
        path.write_bytes(b"x")
    masks = sorted((src / "Mass-Training_P_00001_LEFT_CC_1").rglob("*.dcm"))
    masks[0].unlink()  # the mask; the cropped picture is left
    for path in (src / "Mass-Training_P_00001_LEFT_MLO_1").rglob("*.dcm"):
        path.unlink()
    layouts.write_dicom(src / "Mass-Training_P_00777_LEFT_CC" / "a" / "1.dcm", layouts.drawn(64, 48, "left"))
    layouts.write_dicom(
        src / "Mass-Training_P_00778_LEFT_CC_1" / "a" / "1.dcm", layouts.drawn(64, 48, "left")
    )
    text = (src / MASS_TRAIN).read_text()
    row = "P_00001,3,LEFT,CC,1,mass,OVAL,ILL_DEFINED,4,MALIGNANT,4,a,b,c\n"
    (src / MASS_TRAIN).write_text(
        text
        + row
        + row.replace("P_00001", "00001")
        + row.replace("LEFT", "BOTH")
        + row.replace("MALIGNANT", "PERHAPS")
        + row.replace("CC,1", "CC,one")
        + "P_00001,3\n",
        newline="",
    )
    found, strange = sorted_out(cbis_ddsm.read, src)
    film = found["P_00001_L_CC"]
    assert [lesion.located for lesion in film.lesions] == [False]
    assert any("no file has the film's size" in remark for remark in film.remarks)
    assert len(film.rasters) == 2
    assert found["P_00001_L_MLO"].remarks == ("abnormality 1: no mask: its place is unknown",)
    rejected = whys(strange, "rejected")
    assert rejected.keys() == {"P_00005_R_CC", "mass-training_p_00777_left_cc"}
    assert "not a DICOM file" in rejected["P_00005_R_CC"]
    assert whys(strange, "missing").keys() == {"P_00016_R_CC"}
    remarks = [record.why for record in strange if record.fate == "remark"]
    for said in (
        "like P_00001",
        "PERHAPS",
        "abnormality id is no number",
        "listed twice",
        "2 cells",
        "no list names",
    ):
        assert any(said in remark for remark in remarks), said
    assert fates(strange) == {"rejected": 2, "missing": 1, "duplicate": 1, "remark": 8}


def test_a_mask_of_another_size_is_scaled_and_a_cropped_picture_is_not(tmp_path: Path) -> None:
    whole, half, crop = (tmp_path / f"{name}.dcm" for name in ("whole", "half", "crop"))
    layouts.write_dicom(whole, layouts.drawn(128, 96, "left"))
    layouts.write_dicom(half, layouts.drawn(64, 48, "left"))
    layouts.write_dicom(crop, layouts.drawn(40, 44, "left"))
    assert cbis_ddsm.find_mask([crop, whole, half], (128, 96)) == (whole, "")
    mask, remark = cbis_ddsm.find_mask([crop, half], (128, 96))
    assert mask == half
    assert "scaled" in remark
    assert cbis_ddsm.find_mask([half], (128, 96))[0] is None
    assert cbis_ddsm.find_mask([crop], (128, 96))[0] is None
    assert cbis_ddsm.find_mask([], (128, 96))[0] is None


def test_folders_of_uids_need_the_downloaders_list(tmp_path: Path) -> None:
    src = layouts.cbis_ddsm(tmp_path / "a", "bare")
    (src / "metadata.csv").rename(src / "other.csv")
    with pytest.raises(InputError, match=r"metadata\.csv"):
        list(cbis_ddsm.read(src))


def test_a_metadata_list_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    src = layouts.cbis_ddsm(tmp_path / "a", "nbia")
    (src / "metadata.csv").write_text("something,else\n")
    found, strange = sorted_out(cbis_ddsm.read, src)
    assert len(found) == 4
    assert "lacks subject_id" in whys(strange, "remark")["metadata.csv"]


def test_films_of_a_list_that_is_not_there_have_no_label(tmp_path: Path) -> None:
    src = layouts.cbis_ddsm(tmp_path / "a", "nbia")
    (src / "mass_case_description_test_set.csv").unlink()
    found, strange = sorted_out(cbis_ddsm.read, src)
    assert "P_00016_R_CC" not in found
    assert "mass-test_p_00016_right_cc" in whys(strange, "rejected")


words = st.sampled_from(
    [
        "P_00001",
        "P_1",
        "LEFT",
        "RIGHT",
        "CC",
        "MLO",
        "1",
        "0",
        "-3",
        "1e9",
        "mass",
        "calcification",
        "MALIGNANT",
        "",
        "N/A",
    ]
)


@given(st.fixed_dictionaries(dict.fromkeys((*cbis_ddsm.NEEDED, *cbis_ddsm.OPTIONAL), words)))
def test_any_row_is_read_or_refused(row: dict[str, str]) -> None:
    try:
        film, abnormality = cbis_ddsm.read_row(Row(row, 1), "train")
    except ValueError:
        return
    assert film.side in "LR"
    assert abnormality.folder.startswith(film.folders[0])
    assert abnormality.lesion.label in (Label.BENIGN, Label.MALIGNANT)
