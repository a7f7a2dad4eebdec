"""The examination in progress: what screens are told of it, and what neither log nor hold ever holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _dicom import worklist_server
from _guard import HEAD, Bench, answer, element, load, policy
from scanward.commands import (
    RULE_LAYERS,
    Command,
    Context,
    LayerName,
    Mode,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
)
from scanward.commands.wire import Done, Element, Started, Stop, Trigger
from scanward.config import CONTROL_BOUNDS
from scanward.errors import LinkError
from scanward.guard.control_desk import ControlDesk
from scanward.guard.control_lines import encode
from scanward.guard.events import Finding, Forecast, GantrySaid, HostLost, Notification, Said
from scanward.guard.examination import Course, Names, shown
from scanward.guard.ipc import ElementShape, ForecastShape, element_answer
from scanward.guard.ledger import Ledger
from scanward.guard.objections import objected
from scanward.guard.operators import Act, ActKind
from test_guard_relay import Stage, run
from test_guard_relay_context import ENTRY
from test_guard_worklist import asking, judged, until

POLICY = policy()
LABEL = {"AccessionNumber": "ACC1", "PatientName": "Doe^Jane", "PatientID": "P1"}
WORKLIST_AGE = {"PatientAge": [{"value": 7.0, "source": "worklist"}]}


def seen(bench: Bench) -> dict[str, Any]:
    """The last that screens were told, as they get it."""
    found: dict[str, Any] = json.loads(encode({"data": bench.told("examination")[-1]}))["data"]
    return found


def forecast(said: Any, ctdivol: float, dlp: float, phantom: int = 32) -> Any:
    return replace(said, forecast=Forecast(ctdivol, dlp, phantom, 0.0, 300.0))


def scan(
    bench: Bench, name: str, number: int, ctdivol: float | None = None, dlp: float | None = None
) -> None:
    """Trigger an element and let the gantry deliver it."""
    bench.handle(Said(1, Trigger(f"T{name}{number}", name, number)))
    bench.handle(GantrySaid(Started(name, number)))
    bench.handle(GantrySaid(Done(name, number, ctdivol, dlp)))


# --- what is shown, and when


def test_it_is_told_at_each_step_and_only_when_it_looks_otherwise() -> None:
    bench = Bench()
    assert bench.desk.snapshot()["examination"] is None
    bench.judge = [forecast(answer(), 10.0, 300.0)]
    loaded = bench.load(element(), element())
    view = seen(bench)
    assert (view["examination"], view["sent"]) == ("e" * 16, 0)
    (row,) = view["dose"]
    assert (row["phantom"], row["ctdivol"], row["dlp"]) == (32, 0.0, 0.0)
    assert (row["forecast_ctdivol"], row["forecast_dlp"]) == (20.0, 600.0)
    assert (row["alert_ctdivol"], row["absolute_ctdivol"]) == (200.0, 1000.0)
    count = len(bench.told("examination"))
    bench.pass_time(5.0)
    bench.handle(Said(2, Trigger("X", loaded.id, 1)))  # refused, and on record: nothing of it is another view
    assert bench.recorded("refuse")
    assert len(bench.told("examination")) == count
    scan(bench, loaded.id, 0, ctdivol=12.0, dlp=310.0)
    (row,) = seen(bench)["dose"]
    assert (row["ctdivol"], row["dlp"], seen(bench)["sent"]) == (12.0, 310.0, 1)
    assert (row["forecast_ctdivol"], row["forecast_dlp"]) == (22.0, 610.0)
    scan(bench, loaded.id, 1)
    (row,) = seen(bench)["dose"]
    assert (row["ctdivol"], row["forecast_ctdivol"], seen(bench)["sent"]) == (22.0, 22.0, 2)
    assert bench.desk.snapshot()["examination"] == bench.told("examination")[-1]


def test_while_the_beam_is_on_its_dose_is_forecast_and_not_given() -> None:
    bench = Bench()
    bench.judge = [forecast(answer(), 10.0, 300.0)]
    loaded = bench.load(element(), element())
    bench.handle(Said(1, Trigger("T", loaded.id, 0)))
    bench.handle(GantrySaid(Started(loaded.id, 0)))
    (row,) = seen(bench)["dose"]
    assert (row["ctdivol"], row["forecast_ctdivol"]) == (0.0, 20.0)


def test_what_is_refused_is_forecast_no_more() -> None:
    bench = Bench()
    bench.judge = [forecast(answer(within=False), 10.0, 300.0)]
    bench.load()
    assert seen(bench)["dose"][0]["forecast_dlp"] == 300.0
    hold = bench.told("held")[-1]
    bench.desk.act(Act(ActKind.REFUSE, "anna", hold["request"], hold["digest"], "no"), "anna")
    assert seen(bench)["dose"] == []


def test_before_the_verdict_the_forecast_is_not_known() -> None:
    course = Course(load(), Mode.CLINICAL, None, [Ledger(dlp={32: 5.0})])
    (row,) = shown(course, POLICY)["dose"]
    assert (row["dlp"], row["forecast_dlp"], row["forecast_ctdivol"]) == (5.0, None, None)


def test_phantoms_are_never_summed_and_caps_are_the_patients() -> None:
    bench = Bench()
    bench.judge = [answer()]
    bench.load(element(age=7.0), element(age=7.0, **HEAD, CTDIvol=20.0))
    rows = {row["phantom"]: row for row in seen(bench)["dose"]}
    assert sorted(rows) == [16, 32]
    assert (rows[16]["alert_ctdivol"], rows[32]["alert_ctdivol"]) == (120.0, 60.0)
    armed = bench.gate.armed
    assert armed is not None
    own = {f.forecast.phantom: f.forecast for f in armed.findings}
    assert {p: row["forecast_dlp"] for p, row in rows.items()} == {p: f.dlp for p, f in own.items()}


def test_of_two_accounts_the_larger_is_shown() -> None:
    """A patient who had another examination before: the caps are compared with both accounts."""
    course = Course(load(), Mode.CLINICAL, (), [Ledger(dlp={32: 5.0}), Ledger(dlp={32: 90.0})])
    assert shown(course, POLICY)["dose"][0]["dlp"] == 90.0


def test_the_element_nearest_to_its_notification_value_is_shown() -> None:
    quiet = Finding("RELEASE", forecast=Forecast(60.0, 900.0, 32), notification=Notification(80.0, None))  # type: ignore[arg-type]
    loud = replace(quiet, forecast=Forecast(9.0, 90.0, 32), notification=Notification(10.0, None))
    none = replace(quiet, forecast=Forecast(200.0, 90.0, 32), notification=None)
    course = Course(load(), Mode.CLINICAL, ((quiet, 1), (loud, 1), (none, 1)), [Ledger()])
    (row,) = shown(course, POLICY)["dose"]
    assert (row["element_ctdivol"], row["notification_ctdivol"], row["notification_dlp"]) == (9.0, 10.0, None)
    (row,) = shown(replace(course, left=((none, 1),)), POLICY)["dose"]
    assert (row["element_ctdivol"], row["notification_ctdivol"]) == (200.0, None)


def test_sources_are_named_and_so_is_what_they_disagree_on() -> None:
    bench = Bench()
    bench.parts = {"e" * 16: {**WORKLIST_AGE, "ProtocolName": [{"value": "Head", "source": "worklist"}]}}
    told: dict[str, float | str] = {
        "PatientAge": 63.0,
        "PatientSex": "F",
        "ProtocolName": "Abdomen",
        "BodyPartExamined": "HEAD",
    }
    context = Context({name: (Told(value, Source.HOST),) for name, value in told.items()})
    one = element()
    bench.load(replace(one, command=replace(one.command, context=context)))
    view = seen(bench)
    assert view["patient"]["PatientAge"] == [
        {"value": 7.0, "source": "worklist"},
        {"value": 63.0, "source": "host"},
    ]
    assert view["patient"]["PatientSex"] == [{"value": "F", "source": "host"}]
    assert view["objective"] == {"BodyPartExamined": "HEAD", "ProtocolName": "Head"}
    assert [t["source"] for t in view["told"]["ProtocolName"]] == ["worklist", "host"]
    assert view["disagree"] == ["PatientAge", "ProtocolName"]
    assert view["dose"][0]["alert_ctdivol"] == 60.0  # of two ages the youngest counts


def test_it_ends_with_the_host_and_after_a_while_without_anybody() -> None:
    bench = Bench()
    bench.names.told("e" * 16, LABEL)
    bench.load()
    assert seen(bench)["label"] == LABEL
    bench.handle(HostLost(1, "gone"))
    assert bench.told("examination")[-1] == {}
    assert bench.desk.snapshot()["examination"] is None
    bench = Bench()
    bench.names.told("e" * 16, LABEL)
    bench.load()
    bench.handle(Said(1, Stop()))
    bench.pass_time(CONTROL_BOUNDS.examination_seconds - 1.0)
    assert seen(bench)["label"] == LABEL
    bench.pass_time(2.0)
    assert bench.told("examination")[-1] == {}
    assert bench.names.of(load()) == ({}, "")  # forgotten, not only hidden


def test_a_hold_is_never_forgotten() -> None:
    bench = Bench()
    object.__setattr__(bench.gate.rules, "hold_seconds", 86_400.0)
    bench.judge = [answer(within=False)]
    bench.load()
    bench.pass_time(CONTROL_BOUNDS.examination_seconds + 10.0)
    assert seen(bench)["examination"] == "e" * 16


# --- whose it is


def test_the_worklists_word_is_shown_before_the_hosts_and_says_so() -> None:
    names = Names()
    one = load()
    assert names.of(one) == ({}, "")

    def reveal(hidden: str) -> str:
        if hidden != one.patient:
            raise LinkError("forgotten", hidden, "")
        return "P1"

    names.reveal = reveal
    assert names.of(one) == ({"PatientID": "P1"}, "host")
    assert names.of(replace(one, patient="q")) == ({}, "")
    assert names.of(replace(one, patient="")) == ({}, "")
    names.told(one.examination, LABEL)
    assert names.of(one) == (LABEL, "worklist")
    names.told("", LABEL)
    assert names.of(replace(one, examination="", patient="")) == ({}, "")
    for n in range(CONTROL_BOUNDS.labels):
        names.told(f"x{n}", LABEL)
    assert names.of(one) == ({"PatientID": "P1"}, "host")


@contextmanager
def real_desk(stage: Stage) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The stage's relay with the real desk; what is shown, as a client gets it."""
    told: list[tuple[str, dict[str, Any]]] = []
    stage.relay.desk = ControlDesk(
        stage.relay.policy,
        stage.relay,
        lambda kind, data: told.append((kind, json.loads(encode(dict(data))))),
    )
    yield told


def test_names_of_a_real_worklist_reach_the_screen_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

    async def scene(stage: Stage) -> None:
        with real_desk(stage) as told:
            async with asking(stage, peer.port):
                stage.link.host_says(stage.host, load(element(age=63.0)))
                await until(lambda: stage.judge.asked and stage.judge.asked[-1].parts)
                judged(stage)
            views = [data for kind, data in told if kind == "examination"]
            assert views[-1]["label"] == LABEL
            assert views[-1]["label_source"] == "worklist"
            assert views[-1]["disagree"] == ["PatientAge"]
            rest = json.dumps([each for each in told if each[0] != "examination"])
            held = [data for kind, data in told if kind == "held"]
            assert held
            hold = stage.relay.desk.held  # type: ignore[union-attr]
            elsewhere = rest + json.dumps(stage.book.said) + repr(stage.judge.asked) + encode(hold).decode()
            for name in ("Doe", "Jane", "ACC1", '"P1"'):
                assert name not in elsewhere
            assert "Doe" not in repr(stage.relay.course())  # nor in a traceback

    with worklist_server(tmp_path / "wl", ENTRY) as peer:
        run(scene)


def test_a_late_name_is_shown_without_judging_again() -> None:
    async def scene(stage: Stage) -> None:
        with real_desk(stage) as told:
            stage.link.host_says(stage.host, load())
            before = len(stage.judge.asked)
            stage.relay.labelled("e" * 16, LABEL)
            assert told[-1][0] == "examination"
            assert told[-1][1]["label"] == LABEL
            assert len(stage.judge.asked) == before
            stage.relay.forget()
            assert stage.relay.course() is None

    run(scene)


# --- hostile text and numbers

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.text(max_size=400)
VALUES = NUMBERS | TEXTS
CONTEXTS = st.dictionaries(
    st.sampled_from(["PatientAge", "PatientSex", "ProtocolName", "BodyPartExamined", "PatientWeight"]),
    st.lists(st.builds(Told, VALUES, st.sampled_from(list(Source))), max_size=12).map(tuple),
)
FORECASTS = st.builds(Forecast, NUMBERS, NUMBERS, st.sampled_from([0, 16, 32, 7]), NUMBERS, NUMBERS)


@given(
    CONTEXTS,
    st.none() | st.lists(st.tuples(FORECASTS, st.integers(1, 1000)), max_size=6),
    st.lists(FORECASTS, max_size=5),
    st.dictionaries(st.sampled_from([*LABEL, "more"]), TEXTS),
)
def test_whatever_a_host_says_is_shown_bounded(
    parts: dict[str, tuple[Told, ...]],
    left: list[tuple[Forecast, int]] | None,
    given: list[Forecast],
    label: dict[str, str],
) -> None:
    ledger = Ledger()
    for dose in given:
        ledger.add(dose)
    findings = (
        None if left is None else tuple((Finding("RELEASE", forecast=f), n) for f, n in left)  # type: ignore[arg-type]
    )
    said = replace(load(), chain=(Element(Command({}, Context(parts))),))
    view = shown(Course(said, Mode.CLINICAL, findings, [ledger], {}, label, "host"), POLICY)
    line = encode(view)
    assert len(line) < 64 << 10
    found = json.loads(line)
    assert set(found["label"]) <= set(LABEL)
    for texts in (found["label"].values(), found["objective"].values()):
        assert all(len(str(text)) <= CONTROL_BOUNDS.text_chars for text in texts)


# --- objections


def test_objections_are_told_gravest_first_with_their_layers_own_number() -> None:
    said = answer(
        {LayerName.PHYSICS: (Severity.ALERT, "DLP"), LayerName.PROTOCOL_BOOK: (Severity.HALT, "KVP")},
        disputed=True,
    )
    odd = Opinion(
        LayerName.CONTEXT_FREE,
        Outcome.OBJECT,
        (
            Objection("KVP", "is rare here", 140.0, "100 to 120 kV", weight=2.0),
            Objection("CTDIvol", "is high", 30.0, "9 to 12 mGy", weight=5.0),
            Objection("DLP", "for information", severity=Severity.INFORMATION),
        ),
        p_value=0.003,
    )
    opinions = tuple(odd if o.layer is LayerName.CONTEXT_FREE else o for o in said.opinions)
    found = objected(replace(said, opinions=opinions), 1)
    assert [(o.layer.value, o.field) for o in found] == [
        ("protocol_book", "KVP"),
        ("physics", "DLP"),
        ("context_free", "CTDIvol"),
        ("context_free", "KVP"),
        ("context_sensitive", "PatientAge"),
        ("context_free", "DLP"),
    ]
    assert [o.severity for o in found] == ["HALT", *["ALERT"] * 4, "INFORMATION"]
    assert found[2].p_value == 0.003
    bench = Bench()
    bench.judge = [answer({LayerName.PHYSICS: (Severity.ALERT, "DLP")})]
    bench.load()
    hold = json.loads(encode(bench.told("held")[-1]))
    assert hold["findings"][0]["objections"] == [
        {
            "field": "DLP",
            "found": 1.0,
            "expected": "2",
            "reason": "is odd",
            "layer": "physics",
            "severity": "ALERT",
            "weight": 0.0,
            "p_value": None,
        }
    ]
    assert hold["findings"][0]["p_value"] == 0.5


def test_a_cap_is_told_like_an_objection() -> None:
    (finding,) = POLICY.decide(load(), [answer()], Mode.CLINICAL, [Ledger(everywhere={32: 195.0})])
    assert finding.objections[0].layer is LayerName.LIMITS
    assert "exceeds 200" in finding.objections[0].reason
    assert finding.objections[0].field == "CTDIvol"


@given(
    st.lists(st.tuples(TEXTS, TEXTS, VALUES, TEXTS, NUMBERS), min_size=1, max_size=80),
    st.integers(1, 32),
)
def test_a_hold_full_of_objections_stays_small(said: list[tuple[Any, ...]], elements: int) -> None:
    objections = tuple(
        Objection(name, reason, found, expected, weight=weight if not math.isnan(weight) else 0.0)
        for name, reason, found, expected, weight in said
    )
    opinions = tuple(Opinion(layer, Outcome.OBJECT, objections) for layer in RULE_LAYERS)
    found = [objected(replace(answer(), opinions=opinions), elements) for _ in range(elements)]
    assert sum(map(len, found)) <= max(CONTROL_BOUNDS.objections_all, elements)
    assert len(encode({"findings": found})) < CONTROL_BOUNDS.queue_bytes // 2


@pytest.mark.parametrize("elements", [1, 32])
def test_long_texts_are_cut(elements: int) -> None:
    text = "\u00e9" * 8000
    many = tuple(Objection(text, text, text, text) for _ in range(64))
    opinions = tuple(Opinion(layer, Outcome.OBJECT, many) for layer in RULE_LAYERS)
    found = [objected(replace(answer(), opinions=opinions), elements) for _ in range(elements)]
    assert all(
        len(str(said)) <= CONTROL_BOUNDS.text_chars
        for each in found
        for one in each
        for said in (one.field, one.found, one.expected, one.reason)
    )
    assert len(encode({"findings": found})) < CONTROL_BOUNDS.queue_bytes // 2


def test_the_judge_tells_the_notification_value() -> None:
    shape = ElementShape([], forecast=ForecastShape(1.0, 2.0, 32, None, None, 50.0, None))
    assert element_answer(shape).notification == Notification(50.0, None)
    assert element_answer(ElementShape([], forecast=ForecastShape(1.0, 2.0, 32))).notification is None


def test_nothing_that_is_shown_is_needed_to_release() -> None:
    """A desk that has forgotten everything still lets a hold be decided."""
    bench = Bench()
    bench.judge = [answer(within=False)]
    bench.load()
    hold = bench.told("held")[-1]
    bench.forget()
    bench.desk.renew()
    assert bench.desk.act(Act(ActKind.RELEASE, "anna", hold["request"], hold["digest"], "seen"), "anna") == ""
    assert len(bench.to_gantry) == 1
