"""No patient identity is kept: a name or ID typed into a description does not travel on."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from scanward.codecs.subject import FREE_TEXTS, subject_of


@pytest.mark.parametrize("field", sorted(FREE_TEXTS - {"ProtocolElementName"}))
def test_a_name_typed_into_a_description_is_taken_out(field: str) -> None:
    ds = Dataset()
    ds.PatientName = "Mustermann^Erika"
    ds.PatientID = "ID4711"
    ds.PatientSex = "F"
    setattr(ds, field, "Thorax MUSTERMANN, erika (ID4711) routine")
    told = subject_of(ds, lambda uid: "x").context({"ProtocolElementName": "Spiral Erika"})
    text = str(told.get(field)).casefold()
    assert "thorax" in text
    assert "routine" in text
    for secret in ("mustermann", "erika", "id4711"):
        assert secret not in text
        assert secret not in str(told.get("ProtocolElementName")).casefold()
    assert told.get("PatientSex") == "F"
