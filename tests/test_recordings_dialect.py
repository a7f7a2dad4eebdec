"""Dialects: what they say is done, what they cannot mean is refused with the key that says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.commands import FIELDS, Kind, Mode, Role, Source
from scanward.errors import DialectError
from scanward.recordings import Recording, dump_dialect, load_dialect, parse_dialect, read
from scanward.recordings.units import canonical_unit, factor, units_for


def through(folder: Path, dialect: str, table: str) -> Recording:
    path = folder / "t.csv"
    path.write_text(table, encoding="utf-8")
    parsed = parse_dialect("format = 1\n" + dialect)
    assert parse_dialect(dump_dialect(parsed)) == parsed
    return read([path], dialect=parsed)


@pytest.mark.parametrize(
    ("field", "unit", "cell", "value"),
    [
        ("RevolutionTime", "ms", "350", 0.35),
        ("ExposureTimeInms", "s", "0.6", 600.0),
        ("XRayTubeCurrentInmA", "uA", "250000", 250.0),
        ("XRayTubeCurrentInmA", "A", "0.25", 250.0),
        ("Exposure", "µAs", "100000", 100.0),
        ("KVP", "V", "120000", 120.0),
        ("KVP", "kVp", "120", 120.0),
        ("ScanLength", "cm", "30.5", 305.0),
        ("ScanLength", "m", "0.3", 300.0),
        ("PatientSize", "cm", "172", 1.72),
        ("PatientSize", "in", "70", 1.778),
        ("PatientWeight", "lb", "100", 45.359237),
        ("PatientWeight", "g", "3500", 3.5),
        ("PatientAge", "months", "6", 0.5),
        ("PatientAge", "years", "6", 6.0),
        ("PatientAge", "d", "365.25", 1.0),
        ("PatientAge", "AS", "006M", 0.5),
        ("CTDIvol", "cGy", "1.2", 12.0),
        ("DLP", "mGy*cm", "500", 500.0),
        ("DLP", "Gy.cm", "0.5", 500.0),
        ("DLP", "mGy.m", "5", 500.0),
        ("SpiralPitchFactor", "%", "98", 0.98),
        ("GantryDetectorTilt", "rad", "0.1", 5.72957795131),
    ],
)
def test_units_are_converted(tmp_path: Path, field: str, unit: str, cell: str, value: float) -> None:
    dialect = f'[fields.{field}]\ncolumn = "x"\nunit = "{unit}"\n[fields.TableHeight]\ncolumn = "h"\n'
    (command,) = through(tmp_path, dialect, f"x,h\n{cell},1\n").commands
    assert command.value(field) == pytest.approx(value, rel=1e-12)


def test_a_plain_number_is_no_age_string(tmp_path: Path) -> None:
    dialect = '[fields.PatientAge]\ncolumn = "x"\nunit = "AS"\n[fields.KVP]\ncolumn = "h"\n'
    recording = through(tmp_path, dialect, "x,h\n41,120\n041Y,120\n")
    assert [r.reason for r in recording.rejected] == ["PatientAge is not an age such as 034Y"]


@given(st.sampled_from([f for f in FIELDS.values() if f.kind is Kind.NUMBER]))
def test_every_unit_offered_is_understood(field: object) -> None:
    unit = field.unit  # type: ignore[attr-defined]
    for offered in units_for(unit):
        assert canonical_unit(offered, unit) == offered
        assert offered == "AS" or factor(offered, unit)


def test_everything_a_field_can_say(tmp_path: Path) -> None:
    dialect = """
        role = "commanded"
        source = "worklist"
        missing = ["-1"]
        ignore = ["DLP"]
        [fields.NoiseIndex]
        column = "NI"
        missing = ["off"]
        [fields.CTDIvol]
        column = "dose"
        role = "forecast"
        [fields.AcquisitionType]
        column = "type"
        values = { Helical = "SPIRAL", Nothing = "" }
        [fields.PatientPosition]
        columns = ["entry", "lie"]
        combine = "join"
        values = { "Head/Supine" = "HFS", "/Prone" = "prone" }
        [fields.XRayTubeCurrentInmA]
        columns = ["lo", "hi"]
        combine = "mean"
        [fields.ScanLength]
        columns = ["from", "to"]
        combine = "span"
        [fields.GantryDetectorTilt]
        column = "tilt"
        signs = { S = 1, I = -1 }
        [fields.TotalCollimationWidth]
        column = "rows"
        values = { 64 = 40, auto = "" }
        [fields.KVP]
        value = 120
        [fields."PatientAge@operator"]
        column = "told"
        [fields.PatientAge]
        column = "age"
        [fields.Kidney]
        column = "kidney"
        kind = "number"
        group = "objective"
        unit = "mg"
        [fields.Maybe]
        column = "not there"
        kind = "category"
        optional = true
    """
    head = "NI,dose,type,entry,lie,lo,hi,from,to,tilt,rows,told,age,kidney,DLP,Exposure"
    rows = [
        "12,5,Helical,Head,Supine,100,200,-10,300.5,I12.5,64,5,40,7,9,11",
        "off,-1,Nothing,,Prone,100,,1,,S3,auto,,,,9,11",
    ]
    first, second = through(tmp_path, dialect, "\n".join([head, *rows])).commands
    assert dict(first.parameters) == {
        "NoiseIndex": 12.0,
        "CTDIvol": 5.0,
        "AcquisitionType": "SPIRAL",
        "PatientPosition": "HFS",
        "XRayTubeCurrentInmA": 150.0,
        "ScanLength": 310.5,
        "GantryDetectorTilt": -12.5,
        "TotalCollimationWidth": 40.0,
        "KVP": 120.0,
        "Exposure": 11.0,
    }
    assert first.role is Role.COMMANDED
    assert first.role_of("CTDIvol") is Role.FORECAST
    told = first.context.parts["PatientAge"]
    assert [(t.value, t.source) for t in told] == [(40.0, Source.WORKLIST), (5.0, Source.OPERATOR)]
    assert first.context.get("Kidney") == 7.0
    assert dict(second.parameters) == {
        "PatientPosition": "prone",
        "XRayTubeCurrentInmA": 100.0,
        "GantryDetectorTilt": 3.0,
        "KVP": 120.0,
        "Exposure": 11.0,
    }
    assert second.roles == {}
    assert "PatientAge" not in second.context.parts


def test_place_time_order_and_mode(tmp_path: Path) -> None:
    dialect = """
        mode = "SERVICE"
        keywords = false
        [table]
        delimiter = ";"
        decimal = ","
        [device]
        Manufacturer = "ACME"
        DeviceSerialNumber = { column = "serial" }
        [examination]
        columns = ["who", "day"]
        [event]
        columns = ["nr"]
        [order]
        columns = ["a", "b"]
        [time]
        columns = ["at"]
        format = "%d.%m.%Y %H:%M"
        [fields.CTDIvol]
        column = "dose"
        [[modes]]
        mode = "QA"
        column = "who"
        equals = ["0"]
        contains = ["WASSER"]
    """
    rows = [
        "who;day;nr;a;b;at;dose;serial;KVP",
        "1;1;1;2;;01.02.2024 10:00;1,5;S;120",
        "1;1;2;1;9;01.02.2024 10:00;2;S;120",
        "Wasserphantom;2;;1;2;;3;S;120",
        "0;3;;1;2;;3;S;120",
        "1;1;1;2;;1.1.1;3;S;120",
    ]
    recording = through(tmp_path, dialect, "\n".join(rows))
    a, b, c, d = recording.commands
    assert dict(a.parameters) == {"CTDIvol": 1.5}  # KVP has a keyword's name and keywords are off
    assert a.examination == b.examination != c.examination
    assert [x.order for x in (a, b, c)] == [2.0, 1.0, 0.0]  # ranks of (a, b)
    assert a.acquired_at == 1706781600.0
    assert [x.mode for x in (a, b, c, d)] == [Mode.SERVICE, Mode.SERVICE, Mode.QA, Mode.QA]
    assert a.device.manufacturer == "ACME"
    assert len(a.device.serial) == 16
    assert [r.reason for r in recording.rejected] == ["at is not a date and time"]


def test_a_constant_makes_no_command_of_an_empty_row(tmp_path: Path) -> None:
    dialect = '[fields.KVP]\nvalue = 120\n[fields.DLP]\ncolumn = "d"\n'
    recording = through(tmp_path, dialect, "d,e\n1,1\n,1\n")
    assert [r.reason for r in recording.rejected] == ["no machine field is present"]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("", "the first key must be format = 1", "format"),
        ("format = 2", "the first key must be format = 1", "format"),
        ("format = 1\nrole = 'Performed'", "must be one of commanded, forecast, performed", "role"),
        ("format = 1\nmode = 3", "must be one of CLINICAL, QA, SERVICE", "mode"),
        ("format = 1\nrules = 3", "unknown key (known here: format, name", "rules"),
        ("format = 1\nignore = [1]", "a list of texts is needed here", "ignore"),
        ("format = 1\nkeywords = 'no'", "true or false is needed here", "keywords"),
        ("format = 1\n[table]\ndelimiter = ', '", "must be a single character", "table.delimiter"),
        ("format = 1\n[table]\nencoding = 'klingon'", "no such encoding", "table.encoding"),
        ("format = 1\n[device]\nColour = 'red'", "must be one of Manufacturer", "device.Colour"),
        ("format = 1\n[time]\ncolumns = ['a','b','c']", "give one column, or a date", "time.columns"),
        ("format = 1\nfields = 3", "a table is needed here", "fields"),
        ("format = 1\n[fields]\nKVP = 3", "a table is needed here, such as", "fields.KVP"),
        ("format = 1\n[fields.KVP]", "needs exactly one of column, columns, value", "fields.KVP"),
        ("format = 1\n[fields.KVP]\ncolumn = 'a'\nvalue = 3", "needs exactly one of", "fields.KVP"),
        ("format = 1\n[fields.KVP]\ncolumn = 'a'\nunit = 'mA'", "KVP is in kV; use one of kV, V", "KVP.unit"),
        ("format = 1\n[fields.KVP]\ncolumn = 'a'\nkind = 'category'", "KVP is a number", "fields.KVP.kind"),
        ("format = 1\n[fields.KVP]\ncolumn = 'a'\ngroup = 'patient'", "must be machine", "fields.KVP.group"),
        ("format = 1\n[fields.Foo]\ncolumn = 'a'", "say kind = number or category", "fields.Foo.kind"),
        ("format = 1\n[fields.'a b']\ncolumn = 'a'", "a field name is a word", "fields.a b"),
        ("format = 1\n[fields.KVP]\ncolumns = ['a','b']", "several columns need one of", "combine"),
        ("format = 1\n[fields.KVP]\ncolumns = ['a','a']", "names something twice", "columns"),
        ("format = 1\n[fields.KVP]\ncolumns = ['a']\ncombine = 'join'", "cannot be made by join", "combine"),
        (
            "format = 1\n[fields.KVP]\ncolumn = 'a'\nvalues = { x = 'y' }",
            "a number is needed here",
            "values.x",
        ),
        ("format = 1\n[fields.KVP]\nvalue = inf", "a finite number is needed here", "fields.KVP.value"),
        ("format = 1\n[fields.KVP]\ncolumn = 'a'\nsigns = { S = 2 }", "a single letter = 1 or -1", "signs.S"),
        ("format = 1\n[fields.'KVP@worklist']\ncolumn = 'a'", "only patient and objective", "KVP@worklist"),
        (
            "format = 1\n[fields.PatientAge]\ncolumn = 'a'\n[fields.'PatientAge@host']\ncolumn = 'b'",
            "PatientAge is told twice by host",
            "fields.PatientAge",
        ),
        ("format = 1\n[[modes]]\nmode = 'QA'", "needs mode, column, and equals or contains", "modes[0]"),
        ("format = 1\n[modes]\nmode = 'QA'", "write each rule as [[modes]]", "modes"),
        ("format = 1\nformat = 1", "the dialect is not TOML", "d.toml"),
    ],
)
def test_what_cannot_be_meant(text: str, what: str, where: str) -> None:
    with pytest.raises(DialectError) as caught:
        parse_dialect(text, "d.toml")
    assert what in caught.value.what
    assert "d.toml" in caught.value.where
    assert where in caught.value.where
    assert caught.value.todo


def test_files_that_are_no_dialect(tmp_path: Path) -> None:
    with pytest.raises(DialectError, match="cannot be read"):
        load_dialect(tmp_path / "missing.toml")
    with pytest.raises(DialectError, match="cannot be read"):
        load_dialect(tmp_path)
    path = tmp_path / "d.toml"
    path.write_bytes(b"format = 1\nname = '\xff'")
    with pytest.raises(DialectError, match="not UTF-8"):
        load_dialect(path)
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(DialectError, match="larger than 1 MiB"):
        load_dialect(path)


def test_the_shipped_dialects_survive_being_written(repository: Path) -> None:
    shipped = sorted((repository / "examples" / "dialects").glob("*.toml"))
    assert len(shipped) >= 3
    for path in shipped:
        dialect = load_dialect(path)
        written = dump_dialect(dialect, ["a comment", "another\nwith two lines"])
        assert parse_dialect(written, str(path)) == dialect


_NASTY = st.text("aé \"'\\\n\t#[]=.\x7f\x00{}", min_size=1, max_size=8)


@given(
    name=st.text(max_size=30).filter(lambda t: all(not 0xD800 <= ord(c) < 0xE000 for c in t)),
    columns=st.lists(_NASTY, min_size=1, max_size=3, unique=True),
)
def test_any_column_name_survives_being_written(name: str, columns: list[str]) -> None:
    from scanward.recordings import Dialect
    from scanward.recordings.dialect import FieldRule

    rule = FieldRule("Foo", (columns[0],), values={c: f"<{c}>" for c in columns}, missing=tuple(columns))
    dialect = Dialect(name=name, examination=tuple(columns), fields=(rule,), where="dialect")
    assert parse_dialect(dump_dialect(dialect, columns)) == dialect


def test_the_dialect_in_the_docs_is_one(repository: Path) -> None:
    page = (repository / "docs" / "recordings-tables.md").read_text(encoding="utf-8")
    (block,) = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    dialect = parse_dialect(block, "docs")
    assert len(dialect.fields) == 8
    assert parse_dialect(dump_dialect(dialect), "docs") == dialect


def test_every_unit_that_converts_is_in_the_docs(repository: Path) -> None:
    page = (repository / "docs" / "recordings-tables.md").read_text(encoding="utf-8")
    listed = page.split("Units that are converted:")[1].split("\n\n")[0]
    for field in FIELDS.values():
        for unit in units_for(field.unit) if len(units_for(field.unit)) > 1 else ():
            assert unit in listed, unit
