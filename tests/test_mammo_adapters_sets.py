"""INbreast, BCDR, VinDr-Mammo and CMMD in their published layouts: what is read, and that all that is odd is told."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import _mammo_layouts as layouts
from _mammo_layouts import fates, sorted_out, whys
from scanward.errors import DecodeError, InputError
from scanward.mammography import Label, LesionKind
from scanward.mammography.adapters import bcdr, cbis_ddsm, cmmd, inbreast, vindr
from scanward.mammography.adapters.tables import Row
from scanward.mammography.sources import Adapter


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_bytes(change(path.read_bytes().decode()).encode())


@pytest.mark.parametrize(
    ("read", "looked_for"),
    [
        (inbreast.read, "AllDICOMs"),
        (bcdr.read, "bcdr_d01_outlines.csv"),
        (vindr.read, "finding_annotations.csv"),
        (cmmd.read, "CMMD/D1-0001"),
        (cbis_ddsm.read, "calc_case_description_test_set.csv"),
    ],
)
def test_another_folder_is_refused_and_says_what_was_looked_for(
    tmp_path: Path, read: Adapter, looked_for: str
) -> None:
    (tmp_path / "file.txt").write_text("x")
    for src in (tmp_path, tmp_path / "none", tmp_path / "file.txt"):
        with pytest.raises(InputError) as caught:
            list(read(src))
        if src == tmp_path:
            assert looked_for in str(caught.value)


# INbreast -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "eol"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("latin-1", "\r")])
def test_inbreast(tmp_path: Path, encoding: str, eol: str) -> None:
    found, strange = sorted_out(inbreast.read, layouts.inbreast(tmp_path / "a", encoding=encoding, eol=eol))
    assert strange == []
    assert {name: (one.label, one.birads) for name, one in found.items()} == {
        "20586908": (Label.MALIGNANT, 4),
        "20586934": (Label.NORMAL, 1),
        "20586960": (Label.MALIGNANT, 5),
        "20587054": (Label.BENIGN, 3),
        "20587080": (Label.BENIGN, 2),
    }
    first = found["20586908"]
    assert (first.patient, first.laterality, first.view, first.density) == (
        "6c613a14b80a8591",
        "R",
        "CC",
        "ACR 3",
    )
    assert [lesion.spiculated for lesion in first.lesions] == [None, True]
    assert first.lesions[0].outline[0] == (70.0, 60.0)
    assert found["20586960"].view == "MLO"
    assert found["20586934"].lesions == (), "the pectoral muscle is no lesion"
    calcification = found["20586960"].lesions[1]
    assert (calcification.kind, calcification.outline) == (LesionKind.CALCIFICATION, ((40.0, 90.0),))
    assert found["20587080"].lesions[0].kind is LesionKind.ASYMMETRY
    assert found["20587080"].density is None


def test_inbreast_everything_odd_is_reported(tmp_path: Path) -> None:
    src = layouts.inbreast(tmp_path / "a")
    dicoms = src / "AllDICOMs"
    taken = dicoms / "20586934_6c613a14b80a8591_MG_L_CC_ANON.dcm"
    (src / "copy").mkdir()
    (src / "copy" / taken.name).write_bytes(taken.read_bytes())
    (dicoms / "30000000_6c613a14b80a8591_MG_L_CC_ANON.dcm").write_bytes(taken.read_bytes())
    (dicoms / "20587080_b6a4f750c6df4f90_MG_R_ML_ANON.dcm").unlink()
    (src / "AllXML" / "20587054.xml").write_bytes(b"<plist><dict/></plist>")
    (src / "AllXML" / "99.xml").write_bytes(layouts.plist([]))
    edit(
        src / "INbreast.csv",
        lambda text: (
            text.replace("R;MLO;201001;20586960;3;5", "L;MLO;201001;20586960;3;5").replace(
                ";20586908;3;4a", ";20586908;3;four"
            )
            + "r;r;L;CC;201001;20586934;3;2\nr;r;L;CC;201001;file;3;2\nr;r;L\n"
        ),
    )
    found, strange = sorted_out(inbreast.read, src)
    assert sorted(found) == ["20586934"]
    rejected = whys(strange, "rejected")
    assert "'four'" in rejected["20586908"]
    assert "the list says side 'L'" in rejected["20586960"]
    assert "property list" in rejected["20587054"]
    assert "does not list" in rejected["30000000"]
    assert list(whys(strange, "missing")) == ["20587080"]
    assert list(whys(strange, "duplicate")) == ["20586934"]
    remarks = whys(strange, "remark")
    assert "listed twice" in remarks["20586934"]
    assert "not there" in remarks["99"]
    assert fates(strange) == {"rejected": 4, "missing": 1, "duplicate": 1, "remark": 4}


def test_inbreast_workbook_is_named(tmp_path: Path) -> None:
    src = layouts.inbreast(tmp_path / "a")
    (src / "INbreast.csv").rename(src / "INbreast.xls")
    with pytest.raises(InputError, match=r"save it as INbreast\.csv"):
        list(inbreast.read(src))


def test_inbreast_odd_regions_are_remarked(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    path.write_bytes(
        layouts.plist([("Point 1", [(1.0, 2.0)]), ("Mass", []), (" spiculated  REGION ", [(1, 1)])])
    )
    lesions, remarks = inbreast.read_rois(path)
    assert [lesion.kind for lesion in lesions] == [LesionKind.OTHER, LesionKind.MASS, LesionKind.MASS]
    assert [lesion.located for lesion in lesions] == [True, False, True]
    assert len(remarks) == 2


ENTITY = b"""<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b SYSTEM "file:///etc/hostname">]>
<plist version="1.0"><dict><key>Images</key><array><dict><key>ROIs</key><array><dict><key>Name</key>
<string>&b;</string></dict></array></dict></array></dict></plist>"""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<plist>",
        ENTITY,
        plistlib.dumps({"Images": 3}),
        plistlib.dumps({"Images": [3]}),
        plistlib.dumps({"Images": {"a": "b"}}),
        plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass"}] * 1001}]}),
        plistlib.dumps({"Images": [{"ROIs": [{}]}]}, fmt=plistlib.FMT_BINARY),
        b"<plist><dict><key>Images</key><integer>" + b"9" * 5000 + b"</integer></dict></plist>",
        b"<plist>" + b"<array>" * 50_000,
    ],
)
def test_property_lists_that_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "1.xml"
    path.write_bytes(raw)
    with pytest.raises(DecodeError):
        inbreast.read_rois(path)


plain = st.recursive(
    st.text(max_size=20) | st.integers(-(2**63), 2**63) | st.floats() | st.booleans() | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Name", "Point_px", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.lists(plain, max_size=4), st.binary(max_size=40), st.integers(0, 900))
def test_any_property_list_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rois: list[object], noise: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("plist") / "1.xml"
    try:
        raw = plistlib.dumps({"Images": [{"ROIs": rois}]})
    except (ValueError, OverflowError):  # control characters and numbers that property lists cannot hold
        raw = layouts.plist([])
    for data in (raw, raw[:at] + noise + raw[at + len(noise) :]):
        path.write_bytes(data)
        try:
            lesions, _ = inbreast.read_rois(path)
        except DecodeError:
            continue
        assert all(isinstance(x, float) for lesion in lesions for point in lesion.outline for x in point)


# BCDR ---------------------------------------------------------------------------------------------------------


def test_bcdr(tmp_path: Path) -> None:
    found, strange = sorted_out(bcdr.read, layouts.bcdr(tmp_path))
    assert strange == []
    assert {name.removeprefix("d01-img_"): one.label for name, one in found.items()} == {
        "3_3_1_RCC": Label.MALIGNANT,
        "3_3_1_RO": Label.UNKNOWN,
        "3_3_1_LCC": Label.BENIGN,
        "3_3_1_LO": Label.UNKNOWN,
        "4_4_1_LO": Label.NORMAL,
        "4_4_1_LCC": Label.NORMAL,
    }
    first = found["d01-img_3_3_1_RCC"]
    assert (first.patient, first.laterality, first.view, first.density) == ("bcdr-3", "R", "CC", "ACR 2")
    assert first.lesions[0].outline[0] == (59.0, 50.0)
    assert (found["d01-img_3_3_1_LO"].laterality, found["d01-img_3_3_1_LO"].view) == ("L", "MLO")
    assert found["d01-img_3_3_1_LO"].density is None
    kinds = [lesion.kind for lesion in found["d01-img_3_3_1_LCC"].lesions]
    assert kinds == [LesionKind.CALCIFICATION, LesionKind.MASS]
    assert [lesion.located for lesion in found["d01-img_3_3_1_LCC"].lesions] == [True, False]
    assert found["d01-img_3_3_1_LCC"].remarks == ("lesion 2: no outline, its place is unknown",)
    assert first.remarks == ()


def test_bcdr_parts_together_and_outlines_alone(tmp_path: Path) -> None:
    layouts.bcdr(tmp_path, "d01")
    layouts.bcdr(tmp_path, "f03", images=False, patient=3)
    found, strange = sorted_out(bcdr.read, tmp_path)
    assert strange == []
    alone = {name: (one.label, one.laterality) for name, one in found.items() if name.startswith("f03")}
    assert alone == {"f03-img_3_3_1_RCC": (Label.MALIGNANT, "R"), "f03-img_3_3_1_LCC": (Label.BENIGN, "L")}
    assert {one.patient for one in found.values()} == {"bcdr-3", "bcdr-4"}


def test_bcdr_everything_odd_is_reported(tmp_path: Path) -> None:
    base = layouts.bcdr(tmp_path) / "BCDR-D01_dataset"
    (base / "patient_4" / "study_4" / "img_4_4_1_LO.tif").unlink()
    (base / "patient_4" / "study_4" / "img_4_4_9_LO.tif").write_bytes(b"x")
    line = "9, 9, 1, patient_9/img_9.tif, XX, 1, 50, 2\r\n"
    again = "3, 3, 1, patient_3/study_3/img_3_3_1_RCC.tif, RCC, 0, 50, 2\r\n"
    out = "9, 9, 1, /etc/passwd, RCC, 0, 50, 2\r\n"
    edit(base / "bcdr_d01_img.csv", lambda text: text + line + again + out + "1, 2\r\n")
    edit(
        base / "bcdr_d01_outlines.csv",
        lambda text: (
            text.replace(" Malign ", " Worse ").replace("1, 1, 2, patient", "1, 1, 3, patient")
            + text.splitlines()[-1]
            + "\r\n"
            + text.splitlines()[-1].replace("patient_3/study_3", "elsewhere")
            + "\r\n"
        ),
    )
    found, strange = sorted_out(bcdr.read, tmp_path)
    unknown = found["d01-img_3_3_1_RCC"]
    assert unknown.label is Label.UNKNOWN
    assert any("neither Benign nor Malign" in remark for remark in unknown.remarks)
    assert any("does not say LCC" in remark for remark in found["d01-img_3_3_1_LCC"].remarks)
    rejected = whys(strange, "rejected")
    assert "image_type_name 'XX'" in rejected["d01-img_9"]
    assert "is no path" in rejected["odd row"]
    assert "no table lists it" in rejected["img_4_4_9_LO"]
    assert list(whys(strange, "missing")) == ["d01-img_4_4_1_LO"]
    assert fates(strange) == {"rejected": 3, "missing": 1, "remark": 4}


def test_bcdr_one_picture_of_two_patients_is_refused(tmp_path: Path) -> None:
    base = layouts.bcdr(tmp_path) / "BCDR-D01_dataset"
    edit(base / "bcdr_d01_outlines.csv", lambda text: text.replace("\r\n3, 3", "\r\n8, 3", 1))
    _, strange = sorted_out(bcdr.read, tmp_path)
    assert whys(strange, "rejected") == {"d01-img_3_3_1_RCC": "the tables give it two patients"}


@given(st.text("0123456789. -eNa", max_size=30), st.text("0123456789. -eNa", max_size=30))
def test_any_outline_is_read_or_refused(xs: str, ys: str) -> None:
    try:
        points = bcdr.read_points(xs, ys)
    except ValueError:
        return
    assert len(points) == len(xs.split()) == len(ys.split())


# VinDr-Mammo --------------------------------------------------------------------------------------------------


def test_vindr(tmp_path: Path) -> None:
    found, strange = sorted_out(vindr.read, layouts.vindr(tmp_path / "a"))
    assert strange == []
    labels = [(one.label, one.birads, one.partition, one.density) for one in found.values()]
    assert labels == [
        ("malignant", 4, "train", "C"),
        ("malignant", 4, "train", "C"),
        ("normal", 1, "train", "C"),
        ("normal", 1, "train", "C"),
        ("benign", 2, "test", "B"),
        ("benign", 3, "test", "B"),
    ]
    assert len({one.patient for one in found.values()}) == 2
    second = found[layouts.vindr_ids(1, "L", "MLO")[1]]
    assert [lesion.note for lesion in second.lesions] == ["Suspicious Calcification, Mass", "Skin Thickening"]
    assert [lesion.label for lesion in second.lesions] == [Label.MALIGNANT, Label.UNKNOWN]
    assert second.lesions[0].outline == ((28, 53), (42, 53), (42, 67), (28, 67))
    assert (second.laterality, second.view) == ("L", "MLO")


def test_vindr_everything_odd_is_reported(tmp_path: Path) -> None:
    src = layouts.vindr(tmp_path / "a")
    ids = [layouts.vindr_ids(*one[:3]) for one in layouts.VINDR]
    (src / "images" / ids[2][0] / f"{ids[2][1]}.dicom").unlink()
    (src / "images" / ids[2][0] / "unknown.dicom").write_bytes(b"")
    breasts = src / "breast-level_annotations.csv"
    edit(
        breasts,
        lambda text: (
            text.replace("BI-RADS 2", "BIRADS 2").replace("DENSITY B,test", "DENSITY E,validation")
            + text.splitlines()[1]
            + "\n"
            + text.splitlines()[1].replace(ids[0][1], "../../../../etc/passwd")
            + "\n"
        ),
    )
    edit(
        src / "finding_annotations.csv",
        lambda text: (
            text.replace("22.0,32.0,38.0,48.0", "122.0,32.0,138.0,48.0").replace(
                f"{ids[3][1]},R,MLO,111,90,BI-RADS 1,DENSITY C,['No Finding'],,,,,",
                f"{ids[3][1]},R,MLO,111,90,BI-RADS 1,DENSITY C,['No Finding'],,1,2,3,4",
            )
            + text.splitlines()[1].replace(ids[0][1], "f" * 32)
            + "\n"
        ),
    )
    found, strange = sorted_out(vindr.read, src)
    first = found[ids[0][1]]
    assert not first.lesions[0].located
    assert "outside the picture" in first.remarks[0]
    assert found[ids[5][1]].partition is None
    assert any("validation" in remark for remark in found[ids[5][1]].remarks)
    rejected = whys(strange, "rejected")
    assert "BIRADS 2" in rejected[ids[4][1]]
    assert "but a box" in rejected[ids[3][1]]
    assert "no identifier" in rejected["../../../../etc/passwd"]
    assert "does not list" in rejected["unknown"]
    assert list(whys(strange, "missing")) == [ids[2][1]]
    assert set(whys(strange, "remark")) == {ids[0][1], "f" * 32}
    assert fates(strange) == {"rejected": 4, "missing": 1, "remark": 2}


def test_vindr_without_findings_is_refused(tmp_path: Path) -> None:
    src = layouts.vindr(tmp_path / "a")
    (src / "finding_annotations.csv").unlink()
    with pytest.raises(InputError, match=r"finding_annotations\.csv"):
        list(vindr.read(src))


@given(st.text(max_size=60) | st.lists(st.sampled_from([*vindr.CATEGORIES, vindr.NOTHING, "x"])).map(str))
def test_any_categories_are_read_or_refused(text: str) -> None:
    try:
        words = vindr.read_categories(text)
    except ValueError:
        return
    assert set(words) <= set(vindr.CATEGORIES)


cells = st.sampled_from(["", "1", "-5", "NaN", "1e9", "x", "50.5", "BI-RADS 4", "['Mass']", "['No Finding']"])


@given(st.fixed_dictionaries(dict.fromkeys(vindr.FINDING, cells)))
def test_any_finding_is_read_or_refused(row: dict[str, str]) -> None:
    try:
        lesion, remark = vindr.read_finding(Row(row, 1), 100, 100)
    except ValueError:
        return
    if lesion is not None and not lesion.located:
        assert remark
    for x, y in lesion.outline if lesion else ():
        assert 0 <= x <= 99
        assert 0 <= y <= 99


def test_a_box_is_cut_off_at_the_edge() -> None:
    cells = {"finding_categories": "['Mass']", "xmin": "-20", "ymin": "10.5", "xmax": "90", "ymax": "100.5"}
    lesion, remark = vindr.read_finding(Row(cells, 1), 100, 80)
    assert lesion is not None
    assert lesion.outline == ((0, 10.5), (79, 10.5), (79, 99), (0, 99))
    assert "cut off" in remark


# CMMD ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig")])
def test_cmmd(tmp_path: Path, delimiter: str, encoding: str) -> None:
    found, strange = sorted_out(
        cmmd.read, layouts.cmmd(tmp_path / "a", delimiter=delimiter, encoding=encoding)
    )
    assert strange == []
    assert {name: one.label for name, one in found.items()} == {
        "D1-0001-R-CC-1-1": Label.BENIGN,
        "D1-0001-R-MLO-1-2": Label.BENIGN,
        "D1-0002-L-CC-1-1": Label.MALIGNANT,
        "D1-0002-R-CC-1-2": Label.UNKNOWN,
        "D2-0003-L-MLO-1-1": Label.MALIGNANT,
        "D2-0003-R-MLO-1-2": Label.BENIGN,
    }
    both = found["D1-0002-L-CC-1-1"]
    assert [lesion.kind for lesion in both.lesions] == [LesionKind.MASS, LesionKind.CALCIFICATION]
    assert not any(lesion.located for lesion in both.lesions)
    assert both.spacing == (0.07, 0.07)
    assert found["D1-0002-R-CC-1-2"].remarks == ("the list names only the other breast",)
    assert found["D2-0003-L-MLO-1-1"].lesions[0].note == "subtype Luminal A"


def test_cmmd_everything_odd_is_reported(tmp_path: Path) -> None:
    src = layouts.cmmd(tmp_path / "a")
    study = src / "CMMD" / "D1-0001" / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244"
    picture = layouts.drawn(100, 90, "left")
    layouts.write_dicom(study / "1-3.dcm", picture, patient="D1-0002", side="L", view="CC")
    layouts.write_dicom(study / "1-4.dcm", picture, patient="D1-0001", view="CC")
    layouts.write_dicom(study / "1-6.dcm", picture, side="R", view="CC")
    (study / "1-5.dcm").write_bytes(b"no DICOM")
    layouts.write_dicom(src / "CMMD" / "D2-0009" / "s" / "1-1.dcm", picture, patient="D2-0009", side="L")
    layouts.write_dicom(src / "stray.dcm", picture, patient="somebody", side="L")
    with (src / "CMMD_clinicaldata_revision.csv").open("ab") as file:
        file.write(
            b"D1-0044,L,44,2,mass,Benign,\r\nD1-0001,R,44,2,mass,Benign,\r\nD2-0003,R,51,2,mass,Malignant,\r\n"
            b"D1,R,1,2,mass,Benign,\r\nD1-0005,R,1,2,mass,Perhaps,\r\nD1-0005,R,1,2,lump,Benign,\r\n"
        )
    found, strange = sorted_out(cmmd.read, src)
    reasons = sorted(record.why for record in strange if record.fate == "rejected")
    assert reasons == [
        "folder and header name two patients",
        "neither folder nor header name a patient like D1-0001",
        "not a DICOM file",
        "the header does not say left or right: no label",
        "the list does not name this patient: no label",
    ]
    assert found["D1-0001-R-CC-1-6"].patient == "D1-0001"
    assert len(found["D1-0001-R-CC-1-1"].lesions) == 2
    assert found["D2-0003-R-MLO-1-2"].label is Label.UNKNOWN
    assert list(whys(strange, "missing")) == ["D1-0044 L"]
    assert fates(strange) == {"rejected": 5, "missing": 1, "remark": 5}


def test_cmmd_workbook_is_named(tmp_path: Path) -> None:
    src = layouts.cmmd(tmp_path / "a")
    (src / "CMMD_clinicaldata_revision.csv").rename(src / "CMMD_clinicaldata_revision.xlsx")
    with pytest.raises(InputError, match=r"save it as CMMD_clinicaldata_revision\.csv"):
        list(cmmd.read(src))


words = st.sampled_from(["D1-0001", "R", "L", "mass", "both", "Benign", "malignant", "", "x", "D1-0001\n"])


@given(st.fixed_dictionaries(dict.fromkeys((*cmmd.NEEDED, "subtype"), words)))
def test_any_row_of_cmmd_is_read_or_refused(row: dict[str, str]) -> None:
    try:
        (patient, side), label, lesions = cmmd.read_breast(Row(row, 1))
    except ValueError:
        return
    assert (patient, side in "LR") == ("D1-0001", True)
    assert all(lesion.label is label for lesion in lesions)
