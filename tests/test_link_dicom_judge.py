"""Protocols judged: what is looser than approved, what is beyond the limits, what nobody judged, a judge that hangs."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from _dicom import DEFINED, HEAD_PHANTOM, book_in, brisk, file_of, head
from _dicom_children import dying, hanging
from scanward.codecs.defined_protocol import dataset_bytes, encode_defined_protocol
from scanward.codecs.defined_protocol_build import DISAPPROVED, approval, constrain, element, protocol
from scanward.codecs.defined_protocol_check import compile_rule
from scanward.codecs.defined_protocol_model import Equipment, Protocol, book
from scanward.commands import Device, LayerName, Objection, Opinion, Outcome, Severity, Verdict
from scanward.errors import DecodeError
from scanward.guard.protocol_child import answered, decoded, opinion_to_json
from scanward.guard.protocol_commands import End, described
from scanward.guard.protocol_compare import loosened, permits_no_more
from scanward.guard.protocol_judge import ProtocolJudge, unjudged_of
from scanward.guard.protocol_process import JudgeLostError, JudgeProcess, JudgeSettings
from scanward.guard.protocol_verdict import decide
from scanward.layers.limits import LimitsLayer

OURS = Device("ACME", "CT 9000", "S1")
AT = "20260601000000"


def judge_with(*approved: Protocol) -> ProtocolJudge:
    return ProtocolJudge(
        book(approved, [approval(approved, "Doe^Jane", "20260101000000")] if approved else []),
        OURS,
        LimitsLayer({}),
    )


def found(judge: ProtocolJudge, made: Protocol) -> dict[LayerName, tuple[Objection, ...]]:
    """Objections that count, by layer, of a protocol that went through a file."""
    again, dataset = decoded(file_of(made))
    assert isinstance(again, Protocol)
    opinions = judge.protocol(again, unjudged_of(dataset, again), AT)
    return {o.layer: told for o in opinions if (told := tuple(x for x in o.objections if x.severity > 0))}


def verdict_on(judge: ProtocolJudge, made: Protocol) -> Verdict:
    again, dataset = decoded(file_of(made))
    assert isinstance(again, Protocol)
    return decide(judge.protocol(again, unjudged_of(dataset, again), AT)).verdict


# --- the book


def test_the_approved_protocol_itself_is_released() -> None:
    assert found(judge_with(head()), head()) == {}
    assert verdict_on(judge_with(head()), head()) is Verdict.RELEASE


@pytest.mark.parametrize(
    ("made", "field", "severity"),
    [
        (head(ctdivol=61), "CTDIvol", Severity.HALT),
        (head(kvp=(100, 120, 140)), "KVP", Severity.HALT),
        (head(ctdivol=59), "SOPInstanceUID", Severity.ALERT),  # tighter: still not what was approved
        (replace(head(), elements=head().elements[:1]), "ProtocolElementNumber", Severity.ALERT),
        (
            replace(head(), elements=(*head().elements, element(3, constrain("KVP", equal=120)))),
            "ProtocolElementNumber",
            Severity.HALT,
        ),
        (head(name="CT Head Routine 2"), "ProtocolName", Severity.ALERT),
        (head(models=(Equipment("ACME", "CT 9000"),)), "SOPInstanceUID", Severity.ALERT),
    ],
)
def test_what_is_not_the_approved_protocol_is_named(made: Protocol, field: str, severity: Severity) -> None:
    told = found(judge_with(head()), made)[LayerName.PROTOCOL_BOOK]
    assert (field, severity) in {(o.field, o.severity) for o in told}
    assert verdict_on(judge_with(head()), made) is not Verdict.RELEASE


def test_each_way_of_loosening_a_constraint_is_found() -> None:
    def one(**rule: Any) -> Protocol:
        return protocol("P", element(1, constrain("KVP", **rule), name="E"), uid="1.2.3")

    approved = one(between=(80, 120), modifiable=False)
    for looser in (
        one(between=(80, 121), modifiable=False),
        one(at_most=120, modifiable=False),
        one(none_of=(130,), modifiable=False),
        one(between=(80, 120), modifiable=True),
        one(between=(80, 120), modifiable=False, significance="WARNING"),
        one(between=(80, 120), modifiable=False, default=90),
        protocol("P", element(1, name="E"), uid="1.2.3"),
    ):
        assert any(o.severity > 0 and o.field == "KVP" for o in loosened(looser, approved)), looser
    for tighter in (one(one_of=(80, 100), modifiable=False), one(between=(81, 119), modifiable=False)):
        assert all(o.field != "KVP" for o in loosened(tighter, approved))


numbers = st.integers(0, 12).map(float)
pairs = st.tuples(numbers, numbers).map(lambda p: (min(p), max(p)))
rules = st.one_of(
    st.builds(lambda v: {"equal": v}, numbers),
    st.builds(lambda v: {"one_of": tuple(v)}, st.lists(numbers, min_size=1, max_size=4)),
    st.builds(lambda v: {"none_of": tuple(v)}, st.lists(numbers, min_size=1, max_size=3)),
    st.builds(lambda v: {"between": v}, pairs),
    st.builds(lambda v: {"outside": v}, pairs),
    st.builds(lambda v: {"at_least": v}, numbers),
    st.builds(lambda v: {"at_most": v}, numbers),
    st.builds(lambda v: {"more_than": v}, numbers),
    st.builds(lambda v: {"less_than": v}, numbers),
)
PROBES = [x / 4 for x in range(-8, 64)]


@given(rules, rules)
def test_permits_no_more_is_never_said_where_a_value_shows_otherwise(new: Any, old: Any) -> None:
    """The oracle is the layer that judges values: a value the new permits and the old does not is a way around."""
    a, b = (compile_rule("NoiseIndex", constrain("NoiseIndex", **rule)) for rule in (new, old))
    leaks = [x for x in PROBES if a.allows(x) and not b.allows(x)]
    if permits_no_more(a, b):
        assert leaks == []
    if a.constraint == b.constraint:
        assert permits_no_more(a, b)


words = st.lists(st.sampled_from(["A", "B", "C"]), min_size=1, max_size=3, unique=True).map(tuple)
text_rules = st.one_of(words.map(lambda w: {"one_of": w}), words.map(lambda w: {"none_of": w}))


@given(text_rules, text_rules)
def test_the_same_for_texts(new: Any, old: Any) -> None:
    a, b = (compile_rule("FilterType", constrain("FilterType", **rule)) for rule in (new, old))
    leaks = [x for x in "ABCDE" if a.allows(x) and not b.allows(x)]
    assert permits_no_more(a, b) == (leaks == [])


def test_without_a_book_nothing_is_released() -> None:
    assert "no approved protocol book" in found(judge_with(), head())[LayerName.PROTOCOL_BOOK][0].reason
    assert verdict_on(judge_with(), head()) is Verdict.ALERT


def test_an_approval_that_expired_or_was_withdrawn_does_not_count() -> None:
    made = head()
    expired = approval([made], "Doe", "20250101", expires="20260101")
    withdrawn = approval([made], "Doe", "20260201", code=DISAPPROVED)
    for sayings in ([expired], [], [approval([made], "Doe", "20260101"), withdrawn]):
        judge = ProtocolJudge(book([made], sayings), OURS, LimitsLayer({}))
        assert verdict_on(judge, made) is not Verdict.RELEASE


# --- form and limits


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (protocol("P", element(1, constrain("KVP", equal=500))), "KVP"),
        (protocol("P", element(1, constrain("KVP", one_of=(100, 120), default=140))), "KVP"),
        (protocol("P"), "AcquisitionProtocolElementSpecificationSequence"),
        (protocol("P", element(1), element(1)), "ProtocolElementNumber"),
        (protocol("P", element(1), models=(Equipment("OTHER", "CT 1"),)), "ManufacturerModelName"),
        (protocol("P", element(1, constrain("Focus", equal=1, private=("ACME", 0x00191027)))), None),
    ],
)
def test_form_of_a_protocol(made: Protocol, field: str | None) -> None:
    told = found(judge_with(made), made).get(LayerName.FORM, ())
    assert {o.field for o in told} == ({field} if field else set())


def test_eight_times_the_dose_is_beyond_the_limits_even_when_the_book_has_it() -> None:
    made = head(ctdivol=480)
    assert {o.field for o in found(judge_with(made), made)[LayerName.LIMITS]} == {"CTDIvol"}


def test_a_protocol_for_children_has_the_limits_of_the_youngest() -> None:
    child = head(ctdivol=60, patient=(constrain("PatientAge", at_most=2),))
    commands = described(child, OURS)
    assert {c.command.value("PatientAge") for c in commands} == {0.0}
    assert LayerName.LIMITS in found(judge_with(child), child)
    adult = head(ctdivol=60, patient=(constrain("PatientAge", at_least=18),))
    assert {c.command.value("PatientAge") for c in described(adult, OURS)} == {None}
    assert LayerName.LIMITS not in found(judge_with(adult), adult)


def test_the_commands_that_a_protocol_describes() -> None:
    by_end = {c.end: c for c in described(head(), OURS) if c.number == 2}
    assert by_end[End.DEFAULT].command.parameters["KVP"] == 120.0
    assert by_end[End.HIGHEST].command.parameters["CTDIvol"] == 60.0
    assert by_end[End.HIGHEST].command.parameters["NoiseIndex"] == 5.0
    assert by_end[End.LOWEST].command.parameters["NoiseIndex"] == 3.0
    assert by_end[End.LOWEST].command.parameters["KVP"] == 100.0
    assert by_end[End.DEFAULT].open_fields == ("CTDIvol", "NoiseIndex")
    assert by_end[End.DEFAULT].command.parameters["CTDIwPhantomType"] == HEAD_PHANTOM


def test_a_notification_value_of_the_protocol_s_own_above_the_site_s_is_told() -> None:
    made = protocol(
        "CT Head",
        element(
            1,
            constrain("CTDIwPhantomType", equal=HEAD_PHANTOM),
            constrain("CTDIvolNotificationTrigger", equal=500.0),
            name="Head",
        ),
    )
    told = found(judge_with(made), made)[LayerName.PROTOCOL_BOOK]
    assert [o.field for o in told] == ["CTDIvolNotificationTrigger"]


def test_what_nobody_judges_is_named_and_holds() -> None:
    dataset = encode_defined_protocol(head())
    dataset.PotentialDiagnosticTasks = "none"
    block = dataset.private_block(0x0019, "ACME", create=True)
    block.add_new(0x01, "LO", "boost=8")
    item = dataset.AcquisitionProtocolElementSpecificationSequence[1].ParametersSpecificationSequence[1]
    item.add_new(0x00189321, "LO", "hidden")
    again, received = decoded(dataset_bytes(dataset))
    assert isinstance(again, Protocol)
    names = unjudged_of(received, again)
    assert "PotentialDiagnosticTasks" in names
    assert any("(0019" in name for name in names)
    assert any(name.startswith("AcquisitionProtocolElementSpecificationSequence[2]") for name in names)
    opinions = judge_with(head()).protocol(again, names, AT)
    assert decide(opinions).verdict is Verdict.ALERT


@pytest.mark.parametrize("approved", [True, False])
def test_an_approval_is_believed_only_where_the_book_says_the_same(approved: bool) -> None:
    made, judge = head(), judge_with(head()) if approved else judge_with(head(name="Other"))
    said = approval([made], "Mallory", "20260301")
    opinions = judge.approval(said, (), AT)
    assert (decide(opinions).verdict is Verdict.RELEASE) is approved
    no = approval([made], "Mallory", "20260301", code=DISAPPROVED)
    assert decide(judge.approval(no, (), AT)).verdict is Verdict.ALERT


# --- the verdict


def test_no_opinion_is_no_release() -> None:
    assert decide(()).verdict is Verdict.HALT
    form = Opinion(LayerName.FORM, Outcome.PASS)
    assert decide((form,)).verdict is Verdict.HALT
    both = (form, Opinion(LayerName.PROTOCOL_BOOK, Outcome.PASS))
    assert decide(both).verdict is Verdict.RELEASE
    silent = Opinion(
        LayerName.LIMITS, Outcome.OBJECT, (Objection("CTDIvol", "x", severity=Severity.INFORMATION),)
    )
    assert decide((*both, silent)).verdict is Verdict.ALERT


def test_shadow_mode_releases_and_says_what_it_would_have_done_but_never_broken_form() -> None:
    form = Opinion(LayerName.FORM, Outcome.PASS)
    book_says = Opinion(
        LayerName.PROTOCOL_BOOK, Outcome.OBJECT, (Objection("KVP", "looser", severity=Severity.HALT),)
    )
    shadow = decide((form, book_says), shadow=True)
    assert shadow.verdict is Verdict.RELEASE
    assert "would be HALT" in shadow.reason
    broken = Opinion(LayerName.FORM, Outcome.OBJECT, (Objection("KVP", "500", severity=Severity.HALT),))
    passed = Opinion(LayerName.PROTOCOL_BOOK, Outcome.PASS)
    assert decide((broken, passed), shadow=True).verdict is Verdict.HALT


# --- in the child


def test_what_is_forwarded_is_our_encoding_of_what_was_judged() -> None:
    answer, forward = answered(judge_with(head()), {"at": AT}, file_of(head()))
    assert "error" not in answer
    assert answer["sop_class"] == DEFINED
    again, _ = decoded(forward)
    assert again == head()
    assert answer["digest"] == head().digest()


@settings(max_examples=50)
@given(st.binary(max_size=300), st.integers(0, 3000))
def test_any_bytes_give_an_answer(noise: bytes, at: int) -> None:
    good = _GOOD
    for data in (noise, good[:at] + noise + good[at + len(noise) :], good[:at]):
        answer, _ = answered(_JUDGE, {"at": AT}, data)
        assert "error" in answer or answer["opinions"]


_GOOD = file_of(head())
_JUDGE = judge_with(head())


def test_an_object_of_another_class_is_our_error() -> None:
    dataset = dcmread(io.BytesIO(_GOOD))
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    answer, forward = answered(_JUDGE, {"at": AT}, dataset_bytes(dataset))
    assert answer["error"]["error"] == "DecodeError"
    assert forward == b""


# --- the process


@pytest.mark.parametrize("main", [hanging, dying])
def test_a_judge_that_hangs_or_dies_is_a_refusal_and_is_replaced(main: Any) -> None:
    process = JudgeProcess(JudgeSettings(OURS), bounds=brisk(judge_seconds=0.5), main=main)
    process.start()
    try:
        first = process._process.pid
        with pytest.raises(JudgeLostError):
            process.ask({}, _GOOD)
        assert process._process is None
        process.start()
        assert process._process.pid != first
    finally:
        process.close()


def test_the_real_child_judges_and_says_what_is_wrong_with_its_book(tmp_path: Path) -> None:
    process = JudgeProcess(JudgeSettings(OURS, (book_in(tmp_path / "book", head()),)))
    process.start()
    try:
        answer = process.ask({"at": AT}, _GOOD)
        assert (answer.sop_instance, answer.name) == (head().uid, "CT Head Routine")
        assert all(not o["objections"] or o["outcome"] == "pass" for o in answer.opinions)
        with pytest.raises(DecodeError):
            process.ask({}, b"junk")
        assert process.ask({"at": AT}, _GOOD).digest == answer.digest
    finally:
        process.close()
    missing = JudgeProcess(JudgeSettings(OURS, (tmp_path / "nowhere",)))
    with pytest.raises(Exception, match="no such file or folder"):
        missing.start()
    missing.close()


def test_opinions_survive_the_way_between_the_processes() -> None:
    from scanward.guard.dicom_service import opinion_from_json

    for opinion in judge_with(head()).protocol(head(ctdivol=480), ("X",), AT):
        again = opinion_from_json(opinion_to_json(opinion))
        assert (again.layer, again.outcome, again.severity) == (
            opinion.layer,
            opinion.outcome,
            opinion.severity,
        )
        assert [o.field for o in again.objections] == [o.field for o in opinion.objections]
