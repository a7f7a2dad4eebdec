"""The gate for protocols: nothing goes out unreleased, nothing twice, and success is the scanner's word alone."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _dicom import DEFINED, Records, brisk
from scanward.commands import Verdict
from scanward.errors import AuditError, DecodeError, LinkError, ScanwardError
from scanward.links.dicom import Decision, Holding, Judged, MismatchError, ProtocolGate
from scanward.transport.dicom import Incoming, Reply, Sent, comment_of, title_problem


class Bench:
    """A gate with a judge, a scanner and a recorder that do as they are told."""

    def __init__(self, holding: Holding | None = None, **bounds: Any) -> None:
        self.verdict: Any = Verdict.RELEASE
        self.digest = "d1"
        self.sent: Any = Sent(Reply(0), True)
        self.forwarded: list[bytes] = []
        self.early = 0  # forwarded before its release was durable
        self.records = Records()
        self.holding = holding
        self.gate = ProtocolGate(self._judge, self._forward, self.records, holding, brisk(**bounds))

    def _judge(self, incoming: Incoming) -> Judged:
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return Judged(
            self.verdict, "because", DEFINED, incoming.sop_instance, "Head", self.digest, b"canonical", "form"
        )

    def _forward(self, sop_class: str, file: bytes) -> Sent:
        self.forwarded.append(file)
        # The release is durable before anything goes out.
        self.early += not self.records.kept or self.records.kept[-1][0] != "dicom-release"
        if isinstance(self.sent, BaseException):
            raise self.sent
        assert isinstance(self.sent, Sent)
        return self.sent


def incoming(instance: str = "1.2.3", **changes: Any) -> Incoming:
    return replace(
        Incoming(DEFINED, instance, "SENDER", "10.0.0.1:5", "1.2.840.10008.1.2.1", b"raw"), **changes
    )


def test_a_release_is_recorded_forwarded_in_our_encoding_and_answered_by_the_scanner() -> None:
    bench = Bench()
    assert bench.gate(incoming()) == Reply(0)
    assert bench.early == 0
    assert bench.forwarded == [b"canonical"]
    assert [kind for kind, _ in bench.records.kept] == ["dicom-release", "dicom-forwarded"]


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.HALT, 0x0124),
        (Verdict.ALERT, 0x0124),
        (LinkError("the judge did not answer in time"), 0x0124),
        (DecodeError("not DICOM"), 0xC000),
        (MismatchError("another object"), 0xA900),
        (ScanwardError("whatever"), 0x0124),
        (ZeroDivisionError(), 0x0124),
        (RecursionError(), 0x0124),
        (MemoryError(), 0x0124),
        (TimeoutError(), 0x0124),
    ],
)
def test_whatever_is_not_a_release_is_a_refusal(verdict: Any, status: int) -> None:
    bench = Bench()
    bench.verdict = verdict
    reply = bench.gate(incoming())
    assert reply.status == status
    assert bench.forwarded == []
    assert [kind for kind, _ in bench.records.kept][-1] == "dicom-refused"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (Sent(Reply(0xB000, "coerced"), True), 0xB000),
        (Sent(Reply(0x0124, "no"), True), 0x0124),
        (Sent(Reply(0xA700), True), 0xA700),
        (Sent(Reply(0xFF00), True), 0x0110),
        (Sent(None, False, "refused"), 0xA700),
        (Sent(None, True, "aborted"), 0x0110),
        (OSError("broken"), 0x0124),
    ],
)
def test_success_is_the_scanner_s_word_alone(sent: Any, status: int) -> None:
    bench = Bench()
    bench.sent = sent
    assert bench.gate(incoming()).status == status
    assert len(bench.forwarded) == 1


def test_what_cannot_be_recorded_does_not_go_out() -> None:
    bench = Bench()
    bench.records.broken = AuditError("the disk is full")
    assert bench.gate(incoming()).status == 0x0124
    assert bench.forwarded == []


def test_a_log_that_fails_after_the_release_changes_no_answer() -> None:
    bench = Bench()
    forward = bench._forward

    def failing(sop_class: str, file: bytes) -> Sent:
        sent = forward(sop_class, file)
        bench.records.broken = AuditError("the disk is full")
        return sent

    bench.gate._forward = failing
    assert bench.gate(incoming()) == Reply(0)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.2"}, 0xA900),
        ({"sop_instance": "1.2.x"}, 0xC000),
        ({"sop_instance": ""}, 0xC000),
        ({"sop_instance": "1" * 65}, 0xC000),
        ({"data": b"x" * (5 << 20)}, 0xC000),
    ],
)
def test_requests_that_make_no_sense_never_reach_the_judge(changes: dict[str, Any], status: int) -> None:
    bench = Bench()
    bench.verdict = AssertionError("asked")
    assert bench.gate(incoming(**changes)).status == status


def test_one_uid_has_one_content() -> None:
    bench = Bench()
    assert bench.gate(incoming()).status == 0
    assert bench.gate(incoming()).status == 0  # the same again is a new request
    bench.digest = "d2"
    assert bench.gate(incoming()).status == 0x0124
    assert len(bench.forwarded) == 2


def test_what_may_have_arrived_is_not_sent_again_without_the_operator() -> None:
    bench = Bench()
    bench.sent = Sent(None, True, "aborted")
    assert bench.gate(incoming()).status == 0x0110
    bench.sent = Sent(Reply(0), True)
    assert bench.gate(incoming()).status == 0x0124
    assert len(bench.forwarded) == 1
    assert len(bench.records.of("dicom-outcome-unknown")) == 1


def test_what_never_went_out_may_be_sent_again() -> None:
    bench = Bench()
    bench.sent = Sent(None, False, "nobody there")
    assert bench.gate(incoming()).status == 0xA700
    bench.sent = Sent(Reply(0), True)
    assert bench.gate(incoming()).status == 0


def test_the_outcomes_remembered_are_bounded() -> None:
    bench = Bench(remembered=3)
    for number in range(10):
        bench.gate(incoming(f"1.2.{number}"))
    assert len(bench.gate._outcomes) == 3


def test_a_sender_that_is_gone_gets_nothing_forwarded() -> None:
    bench = Bench()
    assert bench.gate(incoming(gone=lambda: True)).status == 0x0124
    assert bench.forwarded == []
    answers = iter([False, True])
    assert bench.gate(incoming(gone=lambda: next(answers))).status == 0x0124
    assert bench.forwarded == []


# --- the operator


def test_the_operator_s_word_decides_within_the_time_only() -> None:
    for decision, status in ((Decision(True, "who", "why"), 0), (Decision(False, "who", "no"), 0x0124)):
        holding = Holding()
        bench = Bench(holding)
        bench.verdict = Verdict.ALERT
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda b=bench, r=replies: r.append(b.gate(incoming())))
        thread.start()
        held = _held(holding)
        assert holding.say(held, decision)
        assert not holding.say(held, Decision(True, "another", "again"))
        thread.join(10)
        assert replies[0].status == status
        assert holding.held() == ()
        assert not holding.say(held, Decision(True, "late", "late"))
    late = Bench(Holding(), hold_seconds=0.1)
    late.verdict = Verdict.ALERT
    assert late.gate(incoming()).status == 0x0124
    assert late.forwarded == []


def test_a_hold_that_cannot_be_recorded_is_refused() -> None:
    bench = Bench(Holding())
    bench.verdict = Verdict.ALERT
    bench.records.broken = AuditError("full")
    assert bench.gate(incoming()).status == 0x0124


def test_an_instance_in_hand_is_not_taken_twice() -> None:
    holding = Holding()
    bench = Bench(holding)
    bench.verdict = Verdict.ALERT
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(bench.gate(incoming())))
    thread.start()
    held = _held(holding)
    assert bench.gate(incoming()).status == 0x0124
    assert len(holding.held()) == 1
    holding.say(held, Decision(True, "who", "why"))
    thread.join(10)
    assert replies[0].status == 0
    assert len(bench.forwarded) == 1


def _held(holding: Holding) -> int:
    until = time.monotonic() + 10
    while not holding.held() and time.monotonic() < until:
        time.sleep(0.01)
    return holding.held()[0].id


verdicts = st.sampled_from([Verdict.RELEASE, Verdict.ALERT, Verdict.HALT, DecodeError("x"), ValueError("x")])
sents = st.sampled_from(
    [Sent(Reply(0), True), Sent(Reply(0xA700), True), Sent(None, False), Sent(None, True)]
)


@given(st.lists(st.tuples(verdicts, sents, st.integers(0, 2), st.sampled_from(["d1", "d2"])), max_size=8))
def test_any_course_of_events_keeps_the_promises(course: list[tuple[Any, Sent, int, str]]) -> None:
    """Forwarded at most once a request, only when released and recorded; 0 only where the scanner said 0."""
    bench = Bench()
    for verdict, sent, instance, digest in course:
        bench.verdict, bench.sent, bench.digest = verdict, sent, digest
        before, recorded = len(bench.forwarded), len(bench.records.of("dicom-release"))
        reply = bench.gate(incoming(f"1.2.{instance}"))
        went = len(bench.forwarded) - before
        assert went == len(bench.records.of("dicom-release")) - recorded
        assert went <= 1
        assert bench.early == 0
        assert not went or verdict is Verdict.RELEASE
        assert (reply.status == 0) == bool(went and sent.reply == Reply(0))


@given(st.text())
def test_a_comment_is_what_the_standard_allows(text: str) -> None:
    made = comment_of(text)
    assert len(made) <= 64
    assert made.isascii()
    assert made == "" or made.isprintable()
    assert "\\" not in made


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "Ä", "A\n"])
def test_titles_that_are_none(title: str) -> None:
    assert title_problem(title)
