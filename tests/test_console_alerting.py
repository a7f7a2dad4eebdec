"""Alerts of the console: what is told of a guard, folding and counting, rules in console.toml, doses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _alerting import QUICK, alert
from _console import console_toml
from scanward.console.alerting.alert import KINDS, Alert, Severity, one_line
from scanward.console.alerting.desk import Waiting
from scanward.console.alerting.messages import atna_message, mail, syslog_message, webhook_body
from scanward.console.alerting.rules import AlertSettings, read_settings
from scanward.console.alerting.spool import MEMORY, Progress, Spool
from scanward.console.alerting.telling import Ear, Heard
from scanward.console.settings import parse_settings
from scanward.errors import InputError, SettingsError
from scanward.guard.control_groups import AlertGroups
from scanward.shipping import Source

NOW = 1_790_000_000.0
NONE = Progress.none()


def counts(alerts: list[Alert]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for one in alerts:
        found[one.kind, one.cause] = found.get((one.kind, one.cause), 0) + one.count
    return found


def total(alerts: list[Alert], kind: str) -> int:
    return sum(one.count for one in alerts if one.kind == kind)


# --- telling


FINDING = st.tuples(st.sampled_from(["alert", "halted", "trigger_refused"]), st.integers(0, 5))
DOING = st.one_of(FINDING, st.sampled_from(["cut", "join", "console dies"]))


@settings(max_examples=200)
@given(st.lists(DOING, max_size=60))
def test_every_finding_of_a_guard_is_told_once_whatever_is_cut(course: list[Any]) -> None:
    """Events that a cut connection or a dead console lost come out of the guard's own counts: none lost, none twice."""
    groups, heard, now = AlertGroups(128, quiet=5.0), Heard(), NOW
    ear, joined = Ear("ct1", "CT 1", heard), False
    told: list[Alert] = []
    truth: dict[str, int] = {}

    def join() -> None:
        nonlocal joined
        joined = True
        told.extend(ear.linked("up", "", now))
        told.extend(ear.snapshot({"alerts": groups.shown(), "held": None}, now))

    join()
    for doing in course:
        now += 1.0
        if doing == "cut" and joined:
            joined = False
            told.extend(ear.linked("down", "gone", now))
        elif doing == "join" and not joined:
            join()
        elif doing == "console dies":
            ear, joined = Ear("ct1", "CT 1", Heard(heard.last, ear.heard.marks.copy())), False
        elif isinstance(doing, tuple):
            kind, which = doing
            data = {"reason": "abcdef"[which], "layer": "limits"}
            truth[kind] = truth.get(kind, 0) + 1
            seen = groups.count(kind, data, now)
            if joined and not seen.repeated:
                told.extend(ear.event(kind, {**data, "number": seen.number}, now))
            elif joined and seen.due:
                told.extend(
                    ear.event("repeated", {"of": seen.number, "kind": kind, "count": seen.count}, now)
                )
    if joined:  # the state that is asked for after news
        told.extend(ear.snapshot({"alerts": groups.shown(), "held": None}, now))
    else:
        join()
    assert {kind: total(told, kind) for kind in truth} == truth


def test_a_guard_that_was_started_anew_is_heard_from_its_beginning_and_the_gap_is_told() -> None:
    groups = AlertGroups(128)
    ear = Ear("ct1", "CT 1")
    ear.snapshot({"alerts": []}, NOW)
    for reason in ("a", "b", "c"):
        seen = groups.count("halted", {"reason": reason}, NOW)
        assert ear.event("halted", {"reason": reason, "number": seen.number}, NOW)
    ear.linked("down", "gone", NOW)
    again = AlertGroups(128)
    again.count("halted", {"reason": "a"}, NOW + 60)
    told = ear.snapshot(
        {"alerts": again.shown(), "held": {"request": 4, "digest": "d", "reason": "x"}}, NOW + 100
    )
    assert [one.kind for one in told] == ["gap", "held", "halted"]
    assert "started anew" in told[0].text
    assert "2026-09-21 14:13:20 UTC" in told[0].text


def test_causes_that_a_guard_has_forgotten_are_counted() -> None:
    groups = AlertGroups(4)
    ear = Ear("ct1", "CT 1")
    first = groups.count("alert", {"reason": "seen"}, NOW)
    ear.snapshot({"alerts": groups.shown()}, NOW)
    assert first.number == 1
    ear.linked("down", "", NOW)
    for letter in "bcdefghij":
        groups.count("alert", {"reason": letter}, NOW)
    told = ear.snapshot({"alerts": groups.shown()}, NOW + 60)
    assert total(told, "alert") == 9  # 4 with their reasons, 5 as a count
    assert any(one.count == 5 and "came and went" in one.text for one in told)


def test_a_scanner_that_falls_silent_and_comes_back_is_told() -> None:
    ear = Ear("ct1", "CT 1")
    found = [
        *ear.linked("up", "", NOW),
        *ear.linked("silent", "nothing heard for 3 s", NOW),
        *ear.linked("up", "", NOW),
    ]
    assert [one.kind for one in found] == ["unreachable", "reachable"]
    assert found[0].gravity is Severity.SERIOUS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["reason", "number", "count", "of", "layer", "fields", "request", "operator", "digest", "kind"]
)


@settings(max_examples=150)
@given(
    st.sampled_from([*KINDS, "repeated", "examination", "a kind of tomorrow"]),
    st.dictionaries(NAMES, JSON, max_size=8),
    st.dictionaries(
        st.sampled_from(["alerts", "held"]),
        JSON | st.lists(st.dictionaries(NAMES, JSON, max_size=6), max_size=3),
    ),
)
def test_no_guard_can_make_a_message_that_cannot_be_sent(kind: str, data: dict, state: dict) -> None:
    ear = Ear("ct1", "CT 1")
    spool = Spool(MEMORY, QUICK)
    try:
        told = [*ear.snapshot(state, NOW), *ear.event(kind, data, NOW), *ear.snapshot(state, NOW)]
        spool.take(told, lambda _: ["hook"], NONE, NOW)
        for one in spool.waiting("hook", NOW, 100):
            syslog = syslog_message(one, "here")
            assert len(syslog) < 60_000
            assert all(byte >= 0x20 and byte != 0x7F for byte in syslog)
            assert len(atna_message(one, "here")) < 60_000
            webhook_body(one, "here")
            assert b"\nBcc" not in mail(one, "here", "a@b.example", ("c@d.example",)).as_bytes()
    finally:
        spool.close()


def test_the_longest_message_fits_into_syslog() -> None:
    worst = "\N{GRINNING FACE}" * 5000
    ear = Ear("ct1", worst[:64])
    spool = Spool(MEMORY, QUICK)
    fields = [f"{number:064d}" for number in range(64)]
    data = dict.fromkeys(("reason", "note", "why", "what", "operator", "layer", "mode", "where"), worst)
    spool.take(ear.event("halted", {**data, "fields": fields, "number": 3}, NOW), lambda _: ["a"], NONE, NOW)
    (one,) = spool.waiting("a", NOW, 1)
    assert len(syslog_message(one, "here")) < 60_000
    assert len(atna_message(one, "here")) < 60_000
    spool.close()


def test_nothing_that_names_a_patient_or_a_load_leaves() -> None:
    ear = Ear("ct1", "CT 1")
    label = {"label": {"PatientName": "Doe^Jane", "PatientID": "P77"}}
    assert ear.event("examination", label, NOW) == []
    data = {
        "request": 1,
        "digest": "d",
        "reason": "too high",
        "id": "P77-load",
        "examination": "P77",
        **label,
    }
    data["chain"] = [{"command": {"PatientID": "P77"}}]
    (held,) = ear.event("held", data, NOW)
    assert "P77" not in repr(held)
    assert "Jane" not in repr(held)


# --- folding


@pytest.fixture
def spool() -> Iterator[Spool]:
    made = Spool(MEMORY, QUICK)
    yield made
    made.close()


def kept(spool: Spool) -> int:
    return sum(row["count"] for row in spool.newest(100_000))


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 5), st.sampled_from(["halted", "alert"])), max_size=80
    ),
    st.integers(1, 10),
    st.integers(1, 12),
)
def test_whatever_is_folded_is_counted(alerts: list[tuple[int, int, str]], most: int, burst: int) -> None:
    spool = Spool(MEMORY, replace(QUICK, burst=burst, memory_rows=15))
    waiting = Waiting()
    try:
        for cause, count, kind in alerts:
            waiting.add(alert(f"cause {cause}", kind, count=count), most)
        assert len(waiting.alerts) <= most + 2  # a line for each kind besides
        spool.take(list(waiting.alerts.values()), lambda _: ["a"], NONE, NOW)
        assert kept(spool) == sum(count for _, count, _ in alerts)
    finally:
        spool.close()


def test_ten_thousand_different_alerts_are_twenty_messages_and_a_count(spool: Spool) -> None:
    spool.take([alert(f"cause {number}") for number in range(10_000)], lambda _: ["a"], NONE, NOW)
    out = spool.waiting("a", NOW, 1000)
    assert len(out) == QUICK.burst + 1
    assert sorted(one.count for one in out) == [1] * QUICK.burst + [10_000 - QUICK.burst]
    flood = max(out, key=lambda one: one.count)
    assert "many different ones" in flood.text
    assert f"{10_000 - QUICK.burst} times" in flood.title
    assert flood.text.count("reason cause") == QUICK.samples


def test_the_same_again_is_told_when_the_folding_time_is_over_with_its_count(spool: Spool) -> None:
    routes = lambda _: ["a"]  # noqa: E731
    spool.take([alert("x")], routes, NONE, NOW)
    (first,) = spool.waiting("a", NOW, 9)
    spool.sent({first.delivery: first.count}, NOW)
    for second in range(1, 50):
        spool.take([alert("x")], routes, NONE, NOW + second)
    assert spool.waiting("a", NOW + 50, 9) == []
    (again,) = spool.waiting("a", NOW + QUICK.fold_seconds, 9)
    assert (again.count, again.told, again.uid) == (50, 1, first.uid)
    assert again.key != first.key
    spool.sent({again.delivery: 49}, NOW + QUICK.fold_seconds)  # one came while it was on its way
    assert [one.count for one in spool.waiting("a", NOW + 2 * QUICK.fold_seconds, 9)] == [50]
    spool.take([alert("x")], routes, NONE, NOW + 4 * QUICK.fold_seconds)
    fresh = {one.uid for one in spool.waiting("a", NOW + 4 * QUICK.fold_seconds, 9)} - {first.uid}
    assert len(fresh) == 1, "long after, it is news again, and goes out at once"


def test_what_waits_is_never_forgotten_and_what_is_out_one_day_is(spool: Spool) -> None:
    spool.take([alert("out"), alert("waits")], lambda _: ["a"], NONE, NOW)
    out = next(one for one in spool.waiting("a", NOW, 9) if "out" in one.text)
    spool.sent({out.delivery: 1}, NOW)
    spool.trim(NOW + 400 * 86_400.0)
    assert [row["cause"] for row in spool.newest(9)] == ["waits"]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alerts.sqlite").write_bytes(b"not a database, and longer than a page's head" * 100)
    with pytest.raises(InputError, match="cannot be used"):
        Spool(tmp_path / "alerts.sqlite")


@given(st.text(max_size=400), st.integers(4, 100))
def test_one_line_is_one_line(text: str, most: int) -> None:
    told = one_line(text, most)
    assert len(told) <= most
    assert told.isprintable() or not told
    told.encode()


# --- console.toml


MAIL = """[[alert]]
name = "physics"
to = "mail"
server = "mail.example"
from = "scanward@hospital.example"
recipients = ["physics@hospital.example"]
roles = ["physicist"]
least = "serious"
scanners = ["ct1"]
"""


def read(text: str) -> AlertSettings:
    whole = console_toml({"ct1": "a.sock", "ct2": "b.sock"}) + text
    return read_settings(parse_settings(whole.encode(), Path("console.toml")))


def test_routes_choose_by_scanner_role_kind_and_severity() -> None:
    settings_ = read(
        MAIL + '[[alert]]\nname = "all"\nto = "syslog"\nserver = "log.example"\nleast = "information"\n'
    )
    assert (settings_.routes[0].port, settings_.routes[1].port) == (587, 6514)
    assert settings_.routes_of(alert("x", "halted")) == ["physics", "all"]
    assert settings_.routes_of(alert("x", "halted", "ct2")) == ["all"]
    assert settings_.routes_of(alert("x", "control_wrong")) == ["all"]  # concerns administrators
    assert settings_.routes_of(alert("x", "held")) == ["all"]  # not serious
    assert settings_.routes_of(alert("x", "mode")) == ["all"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("mail", "pigeon"), "'pigeon' is not known"),
        (('"ct1"]', '"ct9"]'), "'ct9' is not known"),
        (('"physicist"', '"king"'), "'king' is not known"),
        (("mail.example", "mail..example"), "is no server"),
        (("mail.example", "mail.example:99999"), "is no server"),
        (('["physics@hospital.example"]', "[]"), "to nobody"),
        (("physics@hospital.example", "a@b.example, c@d.example"), "is no address"),
        (("physics@hospital.example", ".@b.example"), "is no address"),
        (("least", "lest"), "did you mean"),
        (("roles =", 'security = "unsafe_plaintext"\nuser = "a"\npassword_file = "p"\nroles ='), "in clear"),
        (("roles =", 'user = "a"\nroles ='), "without a password"),
        (("roles =", 'key = "k"\nroles ='), "without its key"),
    ],
)
def test_a_wrong_route_is_refused_with_its_line(change: tuple[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        read(MAIL.replace(*change))
    assert "line" in refused.value.where
    assert refused.value.todo


@pytest.mark.parametrize(
    ("url", "plain"),
    [("http://a.example/", False), ("ftp://a.example/", True), ("https://u:p@a.example/", False)],
)
def test_a_webhook_without_tls_is_called_unsafe(url: str, plain: bool) -> None:
    with pytest.raises(SettingsError):
        read(
            f'[[alert]]\nname = "a"\nto = "webhook"\nurl = "{url}"\nunsafe_plaintext = {str(plain).lower()}\n'
        )


@pytest.mark.parametrize(
    "rule",
    [
        "reference = {phantom = 16}",
        "reference = {phantom = 20, dlp = 5.0}",
        "reference = {dlp = 5.0}",
        "reference = {phantom = 16, dlp = 5.0}\nrepeat = {examinations = 2, hours = 3}",
        "",
        "repeat = {examinations = 1, hours = 3}",
    ],
)
def test_a_wrong_rule_about_doses_is_refused(rule: str) -> None:
    with pytest.raises(SettingsError):
        read(f'[[dose_alert]]\nname = "a"\n{rule}\n')


def test_severities_have_a_place_in_every_form(spool: Spool) -> None:
    spool.take([alert("x", kind) for kind in KINDS], lambda _: ["a"], NONE, NOW)
    out = spool.waiting("a", NOW, 100)
    assert len(out) == len(KINDS)
    for one in out:
        assert syslog_message(one, "here").startswith(b"<8")  # facility 10 (security), severities 2 to 5
        assert KINDS[one.kind].audience
    assert Source("here").host_type == "1"
