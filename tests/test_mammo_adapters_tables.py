"""Reading lists of data sets: encodings, delimiters, odd rows; any bytes are a table or one of our errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.errors import InputError
from scanward.mammography import Label, Lesion
from scanward.mammography.adapters import tables
from scanward.mammography.adapters.tables import Table, read_table
from scanward.mammography.sources import Found, Strange


def table_of(tmp_path: Path, raw: bytes, needed: tuple[str, ...] = ("a", "b")) -> Table:
    path = tmp_path / "list.csv"
    path.write_bytes(raw)
    return read_table(path, needed)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_line_ends_delimiters(tmp_path: Path, encoding: str, eol: str, delimiter: str) -> None:
    text = eol.join((f"A{delimiter} B ", f" 1 {delimiter}Mädchen", f"3{delimiter}")) + eol
    table = table_of(tmp_path, text.encode(encoding))
    assert [(row["a"], row["b"]) for row in table.rows] == [("1", "Mädchen"), ("3", "")]
    assert [record.what for record in table.strange] == (["encoding"] if encoding == "latin-1" else [])


def test_names_of_columns() -> None:
    assert (
        tables.column("left or right breast")
        == tables.column(" Left_or_right-breast ")
        == "left_or_right_breast"
    )
    assert tables.column("Bi-Rads") == "bi_rads"


def test_line_feeds_within_quotes_are_kept_in_one_row(tmp_path: Path) -> None:
    table = table_of(tmp_path, b'a,b\n1,"x/y.dcm\n"\n2,z\n')
    assert [(row["b"], row.line) for row in table.rows] == [("x/y.dcm", 3), ("z", 4)]


def test_every_odd_row_is_reported_and_reading_goes_on(tmp_path: Path) -> None:
    table = table_of(tmp_path, b'\na,b\n1\n1,2,3\n1,2,,\n\n,\n4,"5"6\n7,8\n9,"open\n10,11\n')
    assert [(row["a"], row["b"]) for row in table.rows] == [("1", "2"), ("7", "8")]
    assert [record.where for record in table.strange] == [
        "list.csv line 3",
        "list.csv line 4",
        "list.csv line 8",
        "list.csv line 11",
    ]
    assert "lines 10 to 11" in table.strange[-1].why


def test_a_cell_without_end_does_not_take_the_memory(tmp_path: Path) -> None:
    table = table_of(tmp_path, b"a,b\n1," + b"x" * 200_000 + b"\n2,3\n")
    assert [row["a"] for row in table.rows] == ["2"]
    assert "larger than field limit" in table.strange[0].why


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"", "empty"), (b"\n\n", "empty"), (b"a,c\n1,2\n", "lacks b; it has a, c"), (b"a,b,B\n", "b twice")],
)
def test_tables_that_are_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table_of(tmp_path, raw)


def test_missing_and_too_large(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv", ("a",))
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path, ("a",))
    (tmp_path / "list.csv").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="larger than 10 bytes"):
        tables.read_bytes(tmp_path / "list.csv", 10)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    table_of(tmp_path_factory.mktemp("table"), b"a,b\n" + raw)
    try:
        table_of(tmp_path_factory.mktemp("table"), raw)
    except InputError:
        return


@given(
    st.lists(
        st.tuples(st.text("01ab ,;\"'\n\r\0é", max_size=8), st.text('01ab ,;"\n', max_size=8)), max_size=6
    )
)
def test_no_row_is_lost_silently(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    """A row that carries a mark is read, or a complaint names its lines."""
    lines = [f"{first},{second},mark{at}" for at, (first, second) in enumerate(cells)]
    table = table_of(
        tmp_path_factory.mktemp("table"), "\n".join(("a,b,c", *lines, "")).encode(), ("a", "b", "c")
    )
    read = "\n".join(cell for row in table.rows for cell in row.cells.values())
    if not table.strange:
        assert all(f"mark{at}" in read for at in range(len(cells)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../x",
        "/etc/passwd",
        "a/../../b",
        "C:\\x",
        "\\\\host\\x",
        "a\0b",
        "x" * 256,
        "a/" * 600,
        ".",
        "é" * 200,
    ],
)
def test_paths_that_lead_out_are_refused(text: str) -> None:
    assert tables.relative_path(text) is None


def test_paths_out_of_tables() -> None:
    assert str(tables.relative_path(' .\\CBIS-DDSM\\a b\\1-1.dcm\n"')) == "CBIS-DDSM/a b/1-1.dcm"


@given(st.text(max_size=40))
def test_any_path_stays_below_the_folder(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tables.relative_path(text)
    if path is not None:
        base = tmp_path_factory.getbasetemp()
        assert (base / path).is_relative_to(base)
        assert ".." not in path.parts
        (base / path).is_file()  # whatever it says, it can be asked


@given(st.text(max_size=30) | st.floats().map(str) | st.integers().map(str))
def test_any_number_is_finite_or_none(text: str) -> None:
    value = tables.number(text)
    assert value is None or abs(value) < float("inf")
    whole = tables.whole(text)
    assert whole is None or whole == value


def test_numbers() -> None:
    assert [tables.number(text) for text in ("1", " -2.5 ", "3.", "1e3")] == [1.0, -2.5, 3.0, 1000.0]
    assert [tables.number(text) for text in ("", "NaN", "inf", "1_0", "0x1", "1e999", "١")] == [None] * 7
    assert [tables.whole(text) for text in ("4.0", "4.5", "x")] == [4, None, None]


def test_the_worst_label_takes_unknown_for_worse_than_benign() -> None:
    assert tables.worst([]) is Label.UNKNOWN
    assert tables.worst([Label.NORMAL, Label.BENIGN]) is Label.BENIGN
    assert tables.worst([Label.UNKNOWN, Label.BENIGN]) is Label.UNKNOWN
    assert tables.worst([Label.MALIGNANT, Label.UNKNOWN]) is Label.MALIGNANT


def test_frame() -> None:
    box = Lesion(outline=((0, 0), (9, 0), (9, 19), (0, 19)))
    assert tables.in_frame(box, 20, 10)
    assert not tables.in_frame(box, 19, 10)
    assert not tables.in_frame(box, 20, 9)
    assert tables.in_frame(Lesion(circle=(9.4, 5, 50)), 20, 10)
    assert not tables.in_frame(Lesion(circle=(-0.6, 5, 1)), 20, 10)


def test_names_are_made_unique() -> None:
    found = Found(name="x", path=Path("x"), patient="p", label=Label.NORMAL)
    odd = Strange(what="x", where="", why="")
    names = [
        record.name for record in tables.unique_names([found, odd, found, found]) if isinstance(record, Found)
    ]
    assert names == ["x", "x-2", "x-3"]


def test_a_list_is_found_in_any_case_and_not_too_deep(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "INFO.txt").write_text("")
    assert tables.find_list(tmp_path, ("Info.txt",)) is None
    (tmp_path / "a" / "b" / "iNFO.TXT").write_text("")
    assert tables.find_list(tmp_path, ("Info.txt",)) == tmp_path / "a" / "b" / "iNFO.TXT"


def test_pictures_are_listed_in_order_without_what_macos_leaves(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/1.DCM", "a.dcm", "._a.dcm", "c.txt"):
        (tmp_path / name).write_text("")
    assert tables.files_below(tmp_path, (".dcm",)) == [tmp_path / "a.dcm", tmp_path / "b" / "1.DCM"]
