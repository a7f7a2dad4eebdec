"""What the worklist says: about this patient and nobody else, agreed and plausible, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scanward.commands import Source
from scanward.errors import LinkError, SettingsError
from scanward.links.dicom_worklist import Worklist, answer_of
from scanward.transport.dicom import Caller, Peer

KEYS = {"PatientID": "P1"}


def entry(**attributes: Any) -> Dataset:
    """A worklist entry of patient P1."""
    step = Dataset()
    step.ScheduledProcedureStepStartDate = attributes.pop("start", "20260622")
    found = Dataset()
    found.PatientID = "P1"
    found.PatientBirthDate = "19500101"
    found.PatientSex = "M"
    found.PatientWeight = "80"
    found.ScheduledProcedureStepSequence = Sequence([step])
    for name, value in attributes.items():
        if value is None:
            delattr(found, name)
        else:
            setattr(found, name, value)
    return found


def told(*matches: Dataset, keys: dict[str, str] = KEYS, today: str = "20260101") -> dict[str, Any]:
    answer = answer_of(list(matches), keys, today)
    assert all(t[0].source is Source.WORKLIST and len(t) == 1 for t in answer.parts.values())
    return {name: t[0].value for name, t in answer.parts.items()}


def test_one_entry() -> None:
    assert told(entry()) == {"PatientAge": 76.0, "PatientSex": "M", "PatientWeight": 80.0}


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"PatientBirthDate": ""}, "PatientAge"),
        ({"PatientBirthDate": "30000101"}, "PatientAge"),
        ({"PatientSex": "X"}, "PatientSex"),
        ({"PatientWeight": "0"}, "PatientWeight"),
        ({"PatientWeight": "9000"}, "PatientWeight"),
    ],
)
def test_what_cannot_be_is_left_out(attributes: dict[str, Any], field: str) -> None:
    assert field not in told(entry(**attributes))


def test_the_age_is_counted_to_the_scheduled_start_else_to_today() -> None:
    assert told(entry(PatientBirthDate="20200622", start="20260622"))["PatientAge"] == 6.0
    assert told(entry(PatientBirthDate="20200622", start=""), today="20250622")["PatientAge"] == 5.0


def test_an_answer_about_somebody_else_is_no_answer() -> None:
    """The key comes from the host and the answer from the network: neither may swap the patient."""
    assert told(entry(PatientID="P2")) == {}
    assert told(entry(), entry(PatientID="P2")) == {}
    assert told(entry(PatientID=None)) == {}
    assert told(entry(PatientID="P2"), entry(PatientID="P3"), keys={"AccessionNumber": ""}) == {}


def test_entries_that_differ_say_only_what_they_agree_on() -> None:
    both = (entry(RequestedProcedureDescription="CT HEAD"), entry(RequestedProcedureDescription="CT CHEST"))
    assert "RequestedProcedureDescription" not in told(*both)
    assert told(*both)["PatientAge"] == 76.0
    assert "PatientAge" not in told(entry(), entry(PatientBirthDate="20200101"))
    assert "differ in" in answer_of(list(both), KEYS, "").reason


@pytest.mark.parametrize("key", ["", "  ", "P*", "P?", "A\\B", "x" * 65, "P\n1"])
def test_keys_that_are_no_exact_value_are_not_asked(key: str) -> None:
    class Never(Caller):
        def find(self, *_: Any) -> Any:
            raise AssertionError("asked")

    with pytest.raises(SettingsError):
        Worklist(Never("GUARD"), Peer("127.0.0.1", 1, "WL")).ask(patient=key)


@pytest.mark.parametrize("answer", [LinkError("down"), (b"junk",), (b"",), ()])
def test_a_worklist_that_fails_says_nothing(answer: Any) -> None:
    class Failing(Caller):
        def find(self, *_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    found = Worklist(Failing("GUARD"), Peer("127.0.0.1", 1, "WL")).ask(patient="P1")
    assert found.parts == {}
    assert found.reason


@given(st.text(max_size=20), st.text(max_size=12), st.text(max_size=20))
def test_texts_of_any_kind(patient: str, birth: str, requested: str) -> None:
    match = entry()
    match.add_new("PatientID", "LO", patient)
    match.add_new("PatientBirthDate", "LO", birth)
    match.add_new("RequestedProcedureDescription", "LO", requested)
    answer = answer_of([match], KEYS, "20260101")
    assert not answer.parts or patient.strip().strip("\x00").strip() == "P1"
