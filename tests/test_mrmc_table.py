"""Tables of ratings: the formats in use, clear refusals with their line, and hostile bytes."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scanward.reading.mrmc.table as module
from scanward.config import MrmcBounds
from scanward.errors import DecodeError, InputError, ScanwardError, SettingsError
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.table import parse_table, read_table

PLAIN = """reader,treatment,case,truth,rating
A,x,1,0,1
A,x,2,1,4
A,y,1,0,2
A,y,2,1,5
"""


def parse(text: str, **columns: str) -> module.Table:
    return parse_table(text.encode(), source="t.csv", columns=columns)


# --- formats


@pytest.mark.parametrize("file", ["VanDyke", "Kundel", "iMRMC_input"])
def test_published_tables_are_read(shared_data: Path, file: str) -> None:
    table = read_table(shared_data / "mrmc" / f"{file}.csv")
    ratings = table.ratings()
    assert len(table) == int((~np.isnan(ratings.score)).sum())
    shape = {"VanDyke": (2, 5, 114), "Kundel": (3, 4, 190), "iMRMC_input": (2, 5, 80)}[file]
    assert ratings.score.shape == shape


def test_areas_of_the_published_table(shared_data: Path) -> None:
    ratings = read_table(shared_data / "mrmc" / "VanDyke.csv").ratings()
    means = EmpiricalAUC().values(ratings).mean(axis=1)
    assert [round(float(mean), 8) for mean in means] == [0.89703704, 0.94083736]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_byte_order_marks(delimiter: str, end: str, mark: str) -> None:
    text = mark + PLAIN.replace(",", delimiter).replace("\n", end)
    ratings = parse(text).ratings()
    assert ratings.score.tolist() == [[[1, 4]], [[2, 5]]]
    assert ratings.truth.tolist() == [False, True]
    assert (ratings.treatments, ratings.readers, ratings.cases) == (("x", "y"), ("A",), ("1", "2"))


def test_quoted_fields_and_other_columns() -> None:
    table = parse('reader,treatment,case,truth,rating,note\nA,"x, new",1,TRUE,1.5,"two\nlines"\nA,y,1,1,2,\n')
    assert table.ratings().treatments == ("x, new", "y")
    assert table.columns["note"] == ("two\nlines", "")
    assert table.lines == (3, 4)  # the line where a row ends


@pytest.mark.parametrize(
    "header",
    [
        "readerID,modalityID,caseID,truth,score",
        "READER,MODALITY,CASE_ID,STATUS,RATING",
        "reader_id,treatment_id,case,truth_value,rating",
    ],
)
def test_other_programs_names(header: str) -> None:
    assert parse(PLAIN.replace("reader,treatment,case,truth,rating", header)).ratings().score.sum() == 12


def test_columns_by_name() -> None:
    text = PLAIN.replace("reader,treatment,case,truth,rating", "who,reader,what,yes,how much")
    table = parse(text, reader="who", treatment="reader", case="what", truth="yes", rating="how much")
    assert table.ratings().readers == ("A",)
    with pytest.raises(InputError, match="no column 'whom' for the reader"):
        parse(text, reader="whom", treatment="reader", case="what", truth="yes", rating="how much")
    with pytest.raises(SettingsError, match="no column 'colour'"):
        parse(text, colour="who")


def test_patients_are_clusters() -> None:
    text = "reader,treatment,case,truth,rating,patient\nA,x,1,0,1,p\nA,x,2,1,4,p\n"
    assert parse(text).ratings().clustered
    assert not parse(PLAIN).ratings().clustered


def test_unread_cases_are_left_out_and_counted() -> None:
    table = parse(PLAIN + "A,x,3,1,NA\nA,y,3,1,\nA,x,4,0,NaN\n")
    assert (len(table), table.unread) == (4, 3)


# The layout of iMRMC's own test file (https://github.com/DIDSR/iMRMC, 000_iMRMC/inputFiles/forDebugging)
IMRMC = """Simulated data
NR: 2
reader, with, commas, above

BEGIN DATA:
-1 , case1 , any , 0
-1,case2,any,0
-1,3,0,1

reader1,case1,m1,1.0
reader1,case2,m1,0.5
reader1,3,m1,2.25
2,3,m1,1e0
2,case1,m2,-1
"""


def test_imrmc_files() -> None:
    table = parse_table(IMRMC.encode(), source="t.imrmc")
    ratings = table.ratings()
    assert ratings.readers == ("reader1", "2")
    assert ratings.treatments == ("m1", "m2")
    assert dict(zip(ratings.cases, ratings.truth.tolist(), strict=True)) == {
        "case1": False,
        "case2": False,
        "3": True,
    }
    assert np.isnan(ratings.score).sum() == 12 - 5
    assert table.lines[0] == 10


def test_the_data_frame_of_imrmc() -> None:
    text = "readerID,caseID,modalityID,score\ntruth,1,truth,0\ntruth,2,truth,1\nr,1,m,3\nr,2,m,4\n"
    assert parse(text).ratings().truth.tolist() == [False, True]


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("-1,a,0,0\nr,b,m,1", "no truth of case 'b', t.csv, line 3"),
        ("-1,a,0,0\n-1,a,0,0\nr,a,m,1", "second truth, t.csv, line 3"),
        ("-1,a,0,2\nr,a,m,1", "truth '2', t.csv, line 3"),
        ("r,a,m,1", "no column for the truth"),
        ("-1,a,0,0\nr,a,m", "3 fields, t.csv, line 3"),
        ("-1,a,0,0", "no row has a rating"),
        ("", "no ratings"),
    ],
)
def test_imrmc_files_that_are_wrong(lines: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse("BEGIN DATA:\n" + lines).ratings()


# --- refusals name the line


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no ratings"),
        ("reader,treatment,case,truth,rating\n", "no ratings"),
        ("reader,treatment,case,truth\nA,x,1,0\n", "no column for the rating, t.csv, header"),
        ("a,b\n1,2\n", "no column for the reader, the treatment, the case, the rating"),
        ("reader,treatment,case,rating\nA,x,1,0\n", "no column for the truth"),
        ("reader,reader,treatment,case,truth,rating\nA,A,x,1,0,1\n", "column 'reader' is there twice"),
        (PLAIN + "A,x,3\n", "3 fields where the header has 5, t.csv, line 6"),
        (PLAIN + "A,x,3,0,1,9\n", "6 fields where the header has 5, t.csv, line 6"),
        (PLAIN + "A,x,3,2,1\n", "truth '2', t.csv, line 6"),
        (PLAIN + "A,x,3,yes,1\n", "truth 'yes', t.csv, line 6"),
        (PLAIN + "A,x,3,0,high\n", "rating 'high', t.csv, line 6"),
        (PLAIN + "A,x,3,0,inf\n", "rating 'inf', t.csv, line 6"),
        (PLAIN + 'A,x,3,0,"1,5"\n', "rating '1,5', t.csv, line 6, use a decimal point"),
        (PLAIN + "A,x,1,0,1\n", "case '1' rated twice by reader 'A' under 'x', t.csv, line 6"),
        (PLAIN + "B,x,1,1,1\n", "case '1' with two truths, t.csv, line 6"),
        (PLAIN + ",x,1,1,1\n", "reader '', t.csv, line 6"),
        (PLAIN + f"A,x,{'c' * 201},1,1\n", "case 'ccc.*', t.csv, line 6"),
        (
            "reader,treatment,case,truth,rating,patient\nA,x,1,0,1,p\nA,y,1,0,1,q\n",
            "case '1' of two patients, t.csv, line 3",
        ),
        (
            "reader,treatment,case,truth,rating\nA,x,1,0,\nA,x,2,0,1\nA,x,2,0,1\n",
            "rated twice .* t.csv, line 4",
        ),
    ],
)
def test_wrong_tables_are_refused_with_their_line(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse(text).ratings()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"reader,treatment,case,truth,rating\n\xff,x,1,0,1\n", "not UTF-8 at byte 35"),
        (b"reader,treatment,case,truth,rating\nA\0,x,1,0,1\n", "zero byte"),
        (b'reader,treatment,case,truth,rating\nA,x,1,0,"1\n', "not CSV"),
        (b'reader,treatment,case,truth,rating\nA,x,1,0,"1"1\n', "not CSV"),
    ],
)
def test_bytes_that_are_no_table(data: bytes, match: str) -> None:
    with pytest.raises(DecodeError, match=match):
        parse_table(data, source="t.csv")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ({"file_bytes": 50}, "larger than 50 bytes"),
        ({"rows": 3}, "more than 3 rows"),
        ({"columns": 4}, "more than 4 columns"),
        ({"field_chars": 0}, "a field of more than 0 characters"),
        ({"treatments": 1}, "2 treatments"),
        ({"readers": 0}, "1 readers"),
        ({"cells": 3}, "2 treatments x 1 readers x 2 cases"),
    ],
)
def test_every_bound_holds(
    bounds: dict[str, int], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MRMC_BOUNDS", dataclasses.replace(MrmcBounds(), **bounds))
    path = tmp_path / "t.csv"
    path.write_text(PLAIN, encoding="utf-8")
    with pytest.raises(InputError, match=match):
        read_table(path).ratings()


def test_the_bound_of_rows_holds_for_imrmc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MRMC_BOUNDS", dataclasses.replace(MrmcBounds(), rows=3))
    with pytest.raises(InputError, match="more than 3 rows"):
        parse(IMRMC)


# --- hostile input yields ratings or one of our errors


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_an_error(data: bytes) -> None:
    with suppress(ScanwardError):
        parse_table(data, source="t.csv").ratings()


fields = st.text(
    st.sampled_from(
        ["0", "1", "2", ".", "-", "e", "N", "A", "n", "a", '"', ",", ";", "\t", "\n", " ", "²", "é"]
    ),
    max_size=6,
)


@given(st.lists(st.lists(fields, min_size=3, max_size=6), min_size=1, max_size=8), st.booleans())
def test_any_fields_are_a_table_or_an_error(rows: list[list[str]], imrmc: bool) -> None:
    start = "BEGIN DATA:\n-1,0,0,0\n-1,1,0,1\n" if imrmc else "reader,treatment,case,truth,rating\n"
    text = start + "\n".join(",".join(row) for row in rows)
    try:
        ratings = parse_table(text.encode(), source="t.csv").ratings()
    except ScanwardError:
        return
    assert np.isfinite(ratings.score[~np.isnan(ratings.score)]).all()
