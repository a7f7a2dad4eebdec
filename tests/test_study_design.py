"""design.toml: what it means, and errors that name the line and the key."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from house import REPOSITORY
from scanward.config import STUDY_BOUNDS
from scanward.errors import InputError, ScanwardError, SettingsError
from scanward.reading.design import check_design, parse_design, read_design
from scanward.reading.protocol import (
    LESION,
    MANIPULATION,
    Arm,
    Design,
    Hypothesis,
    Planning,
    Question,
    Sessions,
)

EXAMPLE = REPOSITORY / "examples/reader-study/design.toml"


def test_the_example_is_the_published_design() -> None:
    design = read_design(EXAMPLE)
    assert design.readers == 3
    assert [(arm.rows, arm.columns) for arm in design.arms] == [(256, 256), (512, 408)]
    assert design.questions == (LESION, MANIPULATION)
    primary = [one for one in design.hypotheses if one.primary]
    assert [(one.question, one.aim) for one in primary] == [
        ("manipulation", "equivalence"),
        ("lesion", "superiority"),
    ]
    assert (primary[0].low, primary[0].high) == (0.45, 0.55)
    assert design.pairing == "paired"
    assert design.sessions.washout_days == 28


def test_the_example_names_every_setting() -> None:
    """It teaches: whoever reads it has met each key."""
    text = EXAMPLE.read_text("utf-8")
    keys = [
        key
        for kind in (Design, Arm, Sessions, Hypothesis, Planning, Question)
        for key in kind.__struct_fields__
    ]
    assert [key for key in keys if not re.search(rf"\b{key}\b", text)] == []


def test_a_title_is_enough() -> None:
    design = parse_design('title = "t"')
    assert design == Design(title="t")


def test_questions_may_be_named_or_put_otherwise() -> None:
    assert parse_design('title = "t"\nquestions = ["manipulation"]').questions == (MANIPULATION,)
    text = 'title = "t"\n[[questions]]\nidentifier = "lesion"\ntext = "Ist hier ein Karzinom?"\n'
    (question,) = parse_design(text).questions
    assert (question.text, question.labels) == ("Ist hier ein Karzinom?", LESION.labels)
    own = 'title = "t"\n[[questions]]\nidentifier = "density"\ntext = "How dense?"\nlabels = ["a", "b"]\n'
    assert parse_design(own).questions[0].labels == ("a", "b")


def test_a_lesion_hypothesis_is_about_a_difference() -> None:
    text = 'title = "t"\nhypotheses = [{question = "lesion", aim = "equivalence"}]'
    (one,) = parse_design(text).hypotheses
    assert (one.null, one.low, one.high) == (0.0, -0.05, 0.05)
    text = text.replace("lesion", "manipulation")
    (one,) = parse_design(text).hypotheses
    assert (one.null, one.low, one.high) == (0.5, 0.45, 0.55)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('titel = "t"', 1, "did you mean title?"),
        ('title = "t"\nreaders = 0', 2, "readers: 0 is not from 1 to 100"),
        ('title = "t"\n\nreaders = "three"', 3, "readers: expected 'int'"),
        ('title = "t"\n[sessions]\ncases = 50\nblok = 3', 4, "did you mean block?"),
        ('title = "t"\n[sessions]\n# pause\nwashout_days = nan', 4, "sessions.washout_days: nan"),
        ('title = "t"\n[[arms]]\nname = "a"\n[[arms]]\nname = "b"\nrows = 5\ncolumns = 5', 6, "arms[2].rows"),
        ('title = "t"\n[[arms]]\nname = "a"\nrows = 300', 2, "rows without columns"),
        ('title = "t"\n[[arms]]\nname = "a"\n[[arms]]\nname = "a"', 4, "'a' is there twice"),
        ('title = "t"\n[[arms]]\nname = "../a"', 3, "is no name"),
        ('title = "t"\n[[arms]]\nname = "a"\nbits = 17', 4, "arms[1].bits: 17 is not from 8 to 16"),
        ('title = "t"\narms = []', 2, "arms: 0"),
        ('title = "t"\npairing = "both"', 2, "use one of: paired, unpaired"),
        ('title = "t"\nquestions = ["density"]', 2, "no question 'density' is known"),
        ('title = "t"\n[[questions]]\nidentifier = "x"', 2, "missing required field 'text'"),
        (
            'title = "t"\n[[questions]]\nidentifier = "x"\ntext = "y"\nlabels = ["only"]',
            5,
            "questions[1].labels: 1 is not from 2 to 10",
        ),
        (
            'title = "t"\n[[hypotheses]]\nquestion = "lesion"\naim = "win"',
            4,
            "use one of: superiority, non-inferiority, equivalence",
        ),
        (
            'title = "t"\nquestions = ["lesion"]\n[[hypotheses]]\nquestion = "manipulation"\naim = "equivalence"',
            4,
            "no truth is known",
        ),
        (
            'title = "t"\n[[hypotheses]]\nquestion = "lesion"\naim = "superiority"\narm = "mid"',
            5,
            "use one of: low, high",
        ),
        (
            'title = "t"\n[[hypotheses]]\nquestion = "manipulation"\naim = "equivalence"\nlow = 0.6',
            5,
            "0.6 is not below 0.55",
        ),
        (
            'title = "t"\n[[hypotheses]]\nquestion = "lesion"\naim = "superiority"\nnull = 0.1',
            5,
            "a difference is tested against 0",
        ),
        ('title = "t"\n[planning]\nrandom = "all"', 3, "planning.random"),
        ('title = "t"\nreaders = 1' + "0" * 400, 2, "is not from 1 to 100"),
        ('title = "t"\nalpha = 0.7', 2, "alpha: 0.7"),
        ('title = ""', 1, "title: not 1 to 200"),
        ('title = "a\\nb"', 1, "title: not 1 to 200"),
    ],
)
def test_errors_name_line_key_and_cure(text: str, line: int, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_design(text, "d.toml")
    assert caught.value.where == f"d.toml, line {line}"
    assert words in str(caught.value)
    assert caught.value.todo


def test_what_is_no_design_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_design(tmp_path / "none.toml")
    path = tmp_path / "d.toml"
    path.write_bytes(b"title = \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_design(path)
    path.write_text("title = 1 1")
    with pytest.raises(SettingsError, match="not TOML") as caught:
        read_design(path)
    assert "line 1" in str(caught.value)
    path.write_text('title = "t"\nreaders = 1' + "0" * 5000)
    with pytest.raises(SettingsError, match="not TOML"):
        read_design(path)
    path.write_bytes(b"#" * (STUDY_BOUNDS.design_bytes + 1))
    with pytest.raises(InputError, match="larger than"):
        read_design(path)


@given(st.text(max_size=200))
def test_any_text_is_a_design_or_refused(text: str) -> None:
    with suppress(ScanwardError):
        assert parse_design(text).title


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from([*Design.__struct_fields__, "x"]),
    _VALUES,
)
def test_any_value_of_any_setting_is_taken_or_refused(key: str, value: object) -> None:
    text = f'title = "t"\n{key} = {_toml(value)}' if key != "title" else f"title = {_toml(value)}"
    with suppress(ScanwardError):
        check_design(parse_design(text))


def _toml(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), f"{value:.5f}")
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, dict):
        parts = (f"{_toml(name)} = {_toml(one)}" for name, one in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, str):
        safe = "".join(c if c.isalnum() and c.isascii() else "_" for c in value)
        return f'"{safe}"'
    return str(value)


def test_a_design_made_in_code_is_checked_too() -> None:
    with pytest.raises(SettingsError) as caught:
        check_design(Design(title="t", readers=0))
    assert caught.value.where == "readers"
