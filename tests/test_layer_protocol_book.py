"""Layer 4: what the protocol book says of a command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.codecs.defined_protocol import (
    dataset_bytes,
    decode_defined_protocol,
    encode_defined_protocol,
    read_dataset,
)
from scanward.codecs.defined_protocol_build import (
    APPROVED,
    DISAPPROVED,
    approval,
    constrain,
    element,
    protocol,
)
from scanward.codecs.defined_protocol_check import TOLERANCE, compile_rule
from scanward.codecs.defined_protocol_model import (
    Code,
    Constraint,
    ConstraintType,
    Equipment,
    Protocol,
    ProtocolBook,
    Step,
    book,
)
from scanward.commands import (
    BODY_PHANTOM,
    HEAD_PHANTOM,
    Command,
    Context,
    Device,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
    Value,
)
from scanward.errors import SettingsError
from scanward.layers.base import Layer, Part
from scanward.layers.protocol_book import ProtocolBookLayer

GE = Equipment("GE MEDICAL SYSTEMS", "Revolution CT")


def head(name: str = "CT Head", **more: Any) -> Protocol:
    return protocol(
        name,
        element(1, constrain("KVP", equal=100), name="Scout", acquisition_type="CONSTANT_ANGLE"),
        element(
            2,
            constrain("KVP", one_of=(80, 100, 120)),
            constrain("SpiralPitchFactor", between=(0.9, 1.1), significance="WARNING"),
            constrain("RevolutionTime", at_least=0.5, significance="INFORMATIVE"),
            constrain("CTDIwPhantomType", equal=HEAD_PHANTOM),
            constrain("NoiseIndex", more_than=2.0),
            constrain("CTDIvolNotificationTrigger", equal=80),
            name="Head",
            acquisition_type="SPIRAL",
        ),
        patient=more.pop("patient", (constrain("PatientAge", at_least=18),)),
        **more,
    )


GOOD: dict[str, Value] = {
    "AcquisitionType": "SPIRAL",
    "KVP": 120.0,
    "SpiralPitchFactor": 1.0,
    "RevolutionTime": 0.5,
    "CTDIwPhantomType": HEAD_PHANTOM,
    "NoiseIndex": 3.0,
}


def command(
    *,
    name: str | None = "CT Head",
    part: str | None = "Head",
    age: float | None = 40.0,
    **change: Value | None,
) -> Command:
    told = {"ProtocolName": name, "ProtocolElementName": part, "PatientAge": age}
    return Command(
        parameters={k: v for k, v in {**GOOD, **change}.items() if v is not None},
        context=Context({k: (Told(v),) for k, v in told.items() if v is not None}),
        device=Device("GE MEDICAL SYSTEMS", "Revolution CT"),
    )


def judge(said: Command, *protocols: Protocol, **settings: Any) -> Opinion:
    layer = ProtocolBookLayer(book(protocols or [head()], settings.pop("approvals", ())), **settings)
    opinion, state = layer.judge(layer.start(), said)
    assert state is None
    assert opinion.layer is LayerName.PROTOCOL_BOOK
    return opinion


def only(opinion: Opinion) -> Objection:
    assert opinion.outcome is Outcome.OBJECT
    (objection,) = opinion.objections
    return objection


def test_it_is_a_layer() -> None:
    layer: Layer[None] = ProtocolBookLayer(ProtocolBook())
    assert layer.name is LayerName.PROTOCOL_BOOK


def test_a_command_by_the_book_passes() -> None:
    opinion = judge(command())
    assert (opinion.outcome, opinion.objections, opinion.reason) == (Outcome.PASS, (), "")


class TestObjections:
    def test_members(self) -> None:
        found = only(judge(command(KVP=140.0)))
        assert (found.field, found.found, found.expected) == ("KVP", 140.0, "80, 100 or 120 kV")
        assert found.values == (80.0, 100.0, 120.0)
        assert found.severity is Severity.HALT

    def test_a_range(self) -> None:
        found = only(judge(command(SpiralPitchFactor=1.5)))
        assert (found.expected, found.low, found.high) == ("0.9 to 1.1", 0.9, 1.1)
        assert found.severity is Severity.ALERT

    def test_a_guideline_is_information_and_does_not_count(self) -> None:
        opinion = judge(command(RevolutionTime=0.3))
        assert opinion.outcome is Outcome.PASS
        (found,) = opinion.objections
        assert (found.field, found.expected, found.severity) == (
            "RevolutionTime",
            "at least 0.5 s",
            Severity.INFORMATION,
        )

    def test_a_coded_value(self) -> None:
        found = only(judge(command(CTDIwPhantomType=BODY_PHANTOM)))
        assert (found.field, found.values) == ("CTDIwPhantomType", (HEAD_PHANTOM,))

    def test_a_site_parameter(self) -> None:
        assert only(judge(command(NoiseIndex=2.0))).expected == "more than 2 HU"

    def test_text_where_a_number_belongs(self) -> None:
        assert only(judge(command(KVP="120"))).field == "KVP"

    def test_several_the_gravest_first(self) -> None:
        opinion = judge(command(SpiralPitchFactor=2.0, KVP=140.0, RevolutionTime=0.3))
        assert [o.field for o in opinion.objections] == ["KVP", "SpiralPitchFactor", "RevolutionTime"]
        assert opinion.severity is Severity.HALT

    def test_a_condition_is_left_to_the_operator(self) -> None:
        made = protocol("P", element(1, constrain("KVP", equal=80, condition="no contrast was given")))
        found = only(judge(command(name="P", part=None), made))
        assert found.severity is Severity.ALERT
        assert "no contrast was given" in found.reason

    def test_no_significance_is_a_guideline_and_an_unknown_one_a_warning(self) -> None:
        for said, severity in (("", Severity.INFORMATION), ("GRAVE", Severity.ALERT)):
            rule = replace(constrain("KVP", equal=80), significance=said)
            opinion = judge(command(name="P", part=None), protocol("P", element(1, rule)))
            assert [o.severity for o in opinion.objections] == [severity]


class TestWhichElement:
    def test_by_name(self) -> None:
        scout = command(part="SCOUT ", AcquisitionType="CONSTANT_ANGLE", KVP=120.0)
        assert only(judge(scout)).expected == "100 kV"

    def test_by_acquisition_type_when_no_name_is_told(self) -> None:
        assert judge(command(part=None)).outcome is Outcome.PASS
        assert only(judge(command(part=None, AcquisitionType="CONSTANT_ANGLE"))).expected == "100 kV"

    def test_a_dose_report_spells_it_out(self) -> None:
        assert judge(command(part=None, AcquisitionType="Spiral Acquisition")).outcome is Outcome.PASS

    def test_a_type_no_element_admits(self) -> None:
        found = only(judge(command(part=None, AcquisitionType="SEQUENCED", KVP=120.0)))
        assert (found.field, found.expected) == ("AcquisitionType", "SPIRAL")

    def test_by_number(self) -> None:
        assert only(judge(command(part=None, ProtocolElementNumber=1.0, AcquisitionType=None))).field == "KVP"

    def test_an_unknown_one(self) -> None:
        said = command(part="Neck")
        opinion = judge(said)
        assert opinion.outcome is Outcome.ABSTAIN
        assert "no element 'Neck'" in opinion.reason
        found = only(judge(said, closed=True))
        assert (found.field, found.found, found.values) == ("ProtocolElementName", "Neck", ("Scout", "Head"))

    def test_a_lax_element_of_another_type_cannot_be_hidden_behind(self) -> None:
        made = protocol(
            "P",
            element(1, constrain("AcquisitionType", equal="CONSTANT_ANGLE", significance="INFORMATIVE")),
            element(2, constrain("KVP", equal=80), acquisition_type="SPIRAL"),
        )
        assert only(judge(command(name="P", part=None), made)).field == "KVP"

    def test_a_constraint_that_points_at_another_element_is_told(self) -> None:
        made = protocol("P", element(1, constrain("KVP", equal=120)))
        stray = replace(made.elements[0].constraints[0], path=(Step(0x00189920, 9),), tag=0x00189345, vr="FD")
        made = replace(made, elements=(replace(made.elements[0], constraints=(stray,)),))
        opinion = judge(command(name="P", part=None), made)
        assert opinion.outcome is Outcome.ABSTAIN
        assert "AcquisitionProtocolElementSequence[9] > CTDIvol" in opinion.reason


class TestWhichProtocol:
    def test_names_are_compared_without_case_and_blanks(self) -> None:
        assert judge(command(name="ct  head ")).outcome is Outcome.PASS

    def test_unknown_or_unnamed(self) -> None:
        for said in (command(name="CT Toe"), command(name=None)):
            assert judge(said).outcome is Outcome.ABSTAIN
            assert only(judge(said, closed=True)).field == "ProtocolName"

    def test_no_book_abstains_even_when_closed(self) -> None:
        opinion, _ = ProtocolBookLayer(ProtocolBook(), closed=True).judge(None, command())
        assert opinion.outcome is Outcome.ABSTAIN

    def test_another_device(self) -> None:
        other = head(models=(Equipment("SIEMENS", "Force"),))
        assert judge(command(), other).outcome is Outcome.ABSTAIN
        assert only(judge(command(), other, closed=True)).values == ("SIEMENS Force",)
        assert judge(command(), head(models=(GE,))).outcome is Outcome.PASS

    def test_a_newer_version_replaces_the_old(self) -> None:
        old = protocol("CT Head", element(1, constrain("KVP", equal=80)))
        new = protocol("CT Head", element(1, constrain("KVP", equal=120)), replaces=(old,))
        assert judge(command(part=None), old, new).outcome is Outcome.PASS
        assert only(judge(command(part=None, KVP=80.0), old, new)).expected == "120 kV"

    def test_an_unapproved_draft_does_not(self) -> None:
        old = protocol("CT Head", element(1, constrain("KVP", equal=80)))
        draft = protocol("CT Head", element(1, constrain("KVP", equal=120)), replaces=(old,))
        said = approval([old], "A", "20260101")
        settings: dict[str, Any] = {"approvals": [said], "require_approval": True}
        assert judge(command(part=None, KVP=80.0), old, draft, **settings).outcome is Outcome.PASS


class TestPatient:
    adult = head()
    child = protocol(
        "CT Head", element(1, constrain("KVP", equal=80)), patient=(constrain("PatientAge", less_than=18),)
    )

    def test_adult_settings_on_a_child(self) -> None:
        found = only(judge(command(age=0.5), self.adult))
        assert (found.field, found.found, found.expected) == ("PatientAge", 0.5, "at least 18 a")
        assert found.severity is Severity.HALT

    def test_the_variant_for_the_patient_is_the_one_that_counts(self) -> None:
        assert judge(command(part=None, age=40.0), self.adult, self.child).outcome is Outcome.PASS
        assert judge(command(part=None, age=3.0, KVP=80.0), self.adult, self.child).outcome is Outcome.PASS
        assert only(judge(command(part=None, age=3.0), self.adult, self.child)).expected == "80 kV"

    def test_a_mild_patient_objection_cannot_hide_a_grave_one(self) -> None:
        mild = head(patient=(constrain("PatientAge", at_least=18, significance="INFORMATIVE"),))
        found = only(judge(command(part=None, age=3.0), mild, self.child))
        assert (found.field, found.severity) == ("KVP", Severity.HALT)
        assert only(judge(command(age=3.0), mild)).severity is Severity.ALERT

    def test_an_unknown_patient_is_no_objection(self) -> None:
        opinion = judge(command(age=None))
        assert opinion.outcome is Outcome.PASS
        assert "PatientAge is not known" in opinion.reason

    def test_the_host_cannot_outvote_the_worklist(self) -> None:
        said = command()
        both = {**said.context.parts, "PatientAge": (Told(40.0, Source.HOST), Told(3.0, Source.WORKLIST))}
        assert only(judge(replace(said, context=Context(both)))).found == 3.0

    def test_by_months(self) -> None:
        baby = protocol("P", patient=(constrain("PatientAge", between=(0, 0.5)),))
        assert judge(command(name="P", age=0.5), baby).outcome is Outcome.PASS
        assert only(judge(command(name="P", age=0.6), baby)).expected == "0 to 0.5 a"


class TestApproval:
    def test_only_when_asked_for(self) -> None:
        assert judge(command()).outcome is Outcome.PASS
        found = only(judge(command(), require_approval=True))
        assert found.field == "ProtocolName"
        assert "nobody approved it" in found.reason

    def test_approved(self) -> None:
        said = approval([head()], "Doe^Jane", "20260101", code=APPROVED)
        assert judge(command(), approvals=[said], require_approval=True).outcome is Outcome.PASS

    def test_expired(self) -> None:
        said = approval([head()], "Doe^Jane", "20260101", expires="20260301")
        given: dict[str, Any] = {"approvals": [said], "require_approval": True}
        assert judge(command(), approval_at="20260201", **given).outcome is Outcome.PASS
        assert "expired" in only(judge(command(), approval_at="20260401", **given)).reason
        assert "unknown" in only(judge(command(), **given)).reason

    def test_a_disapproval_counts_always(self) -> None:
        said = approval([head()], "Doe^Jane", "20260101", code=DISAPPROVED)
        assert only(judge(command(), approvals=[said])).severity is Severity.ALERT


class TestWhatCannotBeJudged:
    def opinion(self, *odd: Constraint, **change: Any) -> Opinion:
        made = protocol("P", element(1, constrain("KVP", equal=120), *odd))
        return judge(command(name="P", part=None, **change), made)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"type": "SOMETIMES"}, "constraint type 'SOMETIMES' is not known"),
            ({"type": "MEMBER_OF_CID", "vr": "UI", "values": (("1.2.3",),)}, "context group"),
            ({"type": "RANGE_INCL"}, "RANGE_INCL with 1 values"),
            ({"type": "RANGE_INCL", "values": ((2.0,), (1.0,))}, "upside down"),
            ({"values": ((1.0, 2.0),)}, "none or several"),
            ({"values": ((float("nan"),),)}, "no finite numbers"),
            ({"value_number": 2}, "value 2 of a multi-valued attribute"),
            ({"vr": "OB", "values": ((b"ab",),)}, "VR 'OB'"),
            ({"vr": "LO", "values": (("fast",),), "type": "LESS_THAN"}, "makes no sense for VR LO"),
            ({"tag": 0x00280010}, "no such field"),
            ({"tag": None}, "no such field"),
            ({"path": (Step(0x00189920, 1), Step(0x00189325, 3))}, "no such field"),
            ({"units": Code("cm/s", "UCUM", "cm/s")}, "its unit is cm/s"),
        ],
    )
    def test_it_is_told_and_the_rest_judged(self, change: dict[str, Any], why: str) -> None:
        odd = replace(constrain("TableSpeed", equal=1), **change)
        opinion = self.opinion(odd, TableSpeed=99.0)
        assert opinion.outcome is Outcome.PASS
        assert why in opinion.reason
        assert only(self.opinion(odd, KVP=80.0)).field == "KVP"

    def test_alone_it_makes_the_layer_abstain(self) -> None:
        odd = replace(constrain("KVP", equal=1), type="SOMETIMES")
        opinion = judge(command(name="P", part=None), protocol("P", element(1, odd)))
        assert opinion.outcome is Outcome.ABSTAIN
        assert "KVP: constraint type 'SOMETIMES' is not known" in opinion.reason

    def test_a_field_the_command_does_not_hold(self) -> None:
        opinion = judge(command(NoiseIndex=None))
        assert opinion.outcome is Outcome.PASS
        assert "NoiseIndex is not told" in opinion.reason
        found = only(judge(command(NoiseIndex=None), require_present=True))
        assert (found.field, found.found, found.severity) == ("NoiseIndex", None, Severity.HALT)

    def test_unconstrained_is_satisfied(self) -> None:
        free = replace(constrain("TableSpeed", equal=1), type="UNCONSTRAINED", values=())
        assert self.opinion(free, TableSpeed=99.0).reason == ""


class TestCarried:
    def test_through_a_file_and_a_bundle(self) -> None:
        read = decode_defined_protocol(read_dataset(dataset_bytes(encode_defined_protocol(head())), "x"))
        said = approval([head()], "Doe^Jane", "20260101")
        layer = ProtocolBookLayer(book([read], [said]), closed=True, require_approval=True)
        part = Part(settings=json.loads(json.dumps(layer.part().settings)))
        again = ProtocolBookLayer.from_part(part)
        assert again.book == layer.book
        for case in (command(), command(KVP=140.0), command(name="?"), command(age=3.0), command(part="?")):
            assert again.judge(None, case) == layer.judge(None, case)
        assert again.part().settings == part.settings

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"closed": True, "require_approval": True, "require_present": True, "approval_at": ""},
            {"closed": 1, "require_approval": True, "require_present": True, "approval_at": "", "book": {}},
            {
                "closed": True,
                "require_approval": True,
                "require_present": True,
                "approval_at": "",
                "book": {},
            },
        ],
    )
    def test_another_part_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            ProtocolBookLayer.from_part(Part(settings=settings))


def test_the_examples_of_the_documentation_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (repository / "docs" / "protocol-book.md").read_text("utf-8")
    names: dict[str, Any] = {"command": command(name="CT Head Routine", KVP=140.0)}
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(example, names)
    found = only(names["opinion"])
    assert (found.field, found.expected) == ("KVP", "100 or 120 kV")


# --- every constraint type against the standard's own words (PS3.3 10.25.1), written a second time ---

WORDS_OF_THE_STANDARD: dict[str, Any] = {
    "RANGE_INCL": lambda v, x: min(x[:2]) <= v <= max(x[:2]),
    "RANGE_EXCL": lambda v, x: not min(x[:2]) < v < max(x[:2]),
    "GREATER_OR_EQUAL": lambda v, x: v >= x[0],
    "LESS_OR_EQUAL": lambda v, x: v <= x[0],
    "GREATER_THAN": lambda v, x: v > x[0],
    "LESS_THAN": lambda v, x: v < x[0],
    "EQUAL": lambda v, x: v == x[0],
    "MEMBER_OF": lambda v, x: v in x,
    "NOT_MEMBER_OF": lambda v, x: v not in x,
    "UNCONSTRAINED": lambda v, x: True,
}


@given(
    st.sampled_from(sorted(WORDS_OF_THE_STANDARD)),
    st.integers(-50, 50),
    st.lists(st.integers(-50, 50), min_size=3, max_size=3),
)
def test_constraint_types_mean_what_the_standard_says(kind: str, value: int, numbers: list[int]) -> None:
    count = {"RANGE_INCL": 2, "RANGE_EXCL": 2, "MEMBER_OF": 3, "NOT_MEMBER_OF": 3}.get(kind, 1)
    given = sorted(numbers[:count]) if count == 2 else numbers[:count]
    rule = compile_rule("KVP", Constraint(kind, tuple((float(x),) for x in given)))
    assert not rule.problem
    assert rule.allows(float(value)) is bool(WORDS_OF_THE_STANDARD[kind](value, given))
    if count == 3:
        text = compile_rule("FilterType", Constraint(kind, tuple((f"N{x}",) for x in given), vr="CS"))
        assert text.allows(f" n{value}") is bool(WORDS_OF_THE_STANDARD[kind](value, given))


@given(st.sampled_from(ConstraintType), st.floats(1e-3, 1e5))
def test_rounding_turns_nothing_away(kind: ConstraintType, bound: float) -> None:
    """A bound that lost digits as DS or FL still admits the value it was written for; a NaN never fits."""
    if kind in (ConstraintType.EQUAL, ConstraintType.LESS_OR_EQUAL, ConstraintType.GREATER_OR_EQUAL):
        rule = compile_rule("KVP", Constraint(kind.value, ((bound,),)))
        for value in (bound, bound * (1 + TOLERANCE / 4), bound * (1 - TOLERANCE / 4)):
            assert rule.allows(value)
        assert not rule.allows(float("nan"))


numbers = st.floats(0, 500, allow_nan=False)
anything = st.dictionaries(
    st.sampled_from([*GOOD, "CTDIvol", "ProtocolElementNumber"]), numbers | st.text(max_size=5), max_size=8
)


@given(anything, st.none() | numbers, st.booleans(), st.booleans())
def test_any_command_gets_one_sound_opinion(
    parameters: dict[str, Value], age: float | None, closed: bool, present: bool
) -> None:
    said = replace(command(age=age), parameters=parameters)
    opinion = judge(said, closed=closed, require_present=present)
    grave = [o for o in opinion.objections if o.severity > Severity.INFORMATION]
    assert (opinion.outcome is Outcome.OBJECT) == bool(grave)
    assert all(o.field and o.reason for o in opinion.objections)
    assert judge(said, closed=closed, require_present=present) == opinion
