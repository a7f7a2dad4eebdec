"""Ages, dates and QA words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.codecs.qa import looks_like_qa
from scanward.codecs.values import (
    age_between,
    age_in_years,
    parse_date,
    parse_moment,
    parse_time,
    seconds_of,
)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("006M", 0.5),
        ("034Y", 34.0),
        ("018m", 1.5),
        ("010D", 10 / 365.25),
        ("52W", 364 / 365.25),
        ("100Y", 100.0),
    ],
)
def test_age_string(text: str, years: float) -> None:
    assert age_in_years(text) == pytest.approx(years)


@pytest.mark.parametrize("text", ["", "34", "Y34", "1234Y", "-01Y", "NaNY", "034 years"])
def test_no_age_string(text: str) -> None:
    assert age_in_years(text) is None


def test_age_from_dates_is_as_coarse_as_an_age_string() -> None:
    assert age_between("19800203", "20200102") == 39
    assert age_between("19800203", "20200203") == 40
    assert age_between("20190702", "20200102") == 0.5
    assert age_between("20191230", "20200102") == 0.0
    assert age_between("20200103", "20200102") is None
    assert age_between("", "20200102") is None


def test_moments() -> None:
    assert parse_moment("19700101000001.5") == 1.5
    assert parse_moment("19700102") == 86400
    assert parse_moment("19700101000001+0200") == 1  # one device keeps one wall clock
    assert parse_time("2359") == 86340
    assert parse_time("10:11:12") == 36672
    assert seconds_of("19700101", "000060.000000") == 59
    assert parse_date("1980.02.03") == parse_date("19800203")
    for wrong in ("", "19701301", "19700101256000", "yesterday", "00000101"):
        assert parse_moment(wrong) is None


@given(st.text(max_size=30))
def test_any_text_is_answered(text: str) -> None:
    for answer in (age_in_years(text), parse_moment(text), parse_time(text), age_between(text, "20200101")):
        assert answer is None or math.isfinite(answer)
    assert looks_like_qa([text]) in (True, False)


@pytest.mark.parametrize(
    "text",
    ["Daily QA", "Specials^PhysicsTesting (Adult)", "QATesting^Physics",
     "10.13 RADIOTHERAPY QA",
     "Water Phantom", "DE_laser align", "Daily check", "Konstanzprüfung", "air cal", "Test protocol 3",
     "Phantom^Catphan 600",
     "acceptance_test", "QC"],
)  # fmt: skip
def test_qa(text: str) -> None:
    assert looks_like_qa(["Chest", text])


@pytest.mark.parametrize(
    "text",
    ["Thorax^Thorax_NON_CON (Adult)", "Test bolus", "TestBolus", "Timing test", "Testis", "Aquatics",
     "Abdomen", "PAEDIATRIC HEAD", "Physician request", "",
     "SmartPrep test injection", "Colonography", "O'Quale"],
)  # fmt: skip
def test_not_qa(text: str) -> None:
    assert not looks_like_qa([text])
