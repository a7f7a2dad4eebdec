"""Alerts about doses: against sums by hand, on histories made by a real gate, and never twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _alerting import QUICK, desk_of, hook, until, webhook
from _console_history import EPOCH, Log, Scanner, import_all, importer
from _guard import element
from scanward.console.alerting.alert import Alert
from scanward.console.alerting.doses import DoseLook
from scanward.console.alerting.rules import DoseRule
from scanward.console.alerting.spool import MEMORY, Spool
from scanward.console.history_store import HistoryStore

NOW = EPOCH + 1000.0
ALL: frozenset[str] = frozenset()
HEAD = DoseRule("head", ALL, phantom=16, ctdivol=60.0, dlp=1000.0, source="national level 2022")


class History:
    """A history whose rows are written by hand."""

    def __init__(self, folder: Path) -> None:
        self.store = HistoryStore(folder / "history.sqlite")
        self.seq = 0
        with self.store.writing() as db:
            db.execute(
                "INSERT INTO logs (scanner, log_id, segment, offset, seq, head, durable, read_at, first_seq)"
                " VALUES ('ct1', 'log', '', 0, 0, x'', 0, ?, 1)",
                (NOW,),
            )

    def dose(
        self,
        ctdivol: float | None,
        dlp: float | None,
        examination: str = "e1",
        patient: str = "p1",
        at: float = NOW,
        phantom: int = 16,
        part: str = "HEAD",
        age: float | None = 40.0,
        report: bool = False,
    ) -> None:
        """One dose, with the load that it is of."""
        self.seq += 1
        load = f"L{self.seq}"
        with self.store.writing() as db:
            if not report:
                db.execute(
                    "INSERT INTO judged (scanner, log_id, seq, at, life, load, kind, digest, examination, patient,"
                    " element, elements, mode, protocol, body_part, age, parameters, context)"
                    " VALUES ('ct1', 'log', ?, ?, 1, ?, 'command', '', ?, ?, 0, 1, 'CLINICAL', 'Head routine', ?, ?,"
                    " '{}', '{}')",
                    (self.seq, at - 1, load, examination, patient, part, age),
                )
                self.seq += 1
            db.execute(
                "INSERT INTO doses (scanner, log_id, seq, at, kind, load, element, examination, patient, phantom,"
                " ctdivol, dlp) VALUES ('ct1', 'log', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self.seq, at, "dose_report" if report else "dose", "" if report else load),
                    *(None if report else 0, examination, "" if report else patient, phantom, ctdivol, dlp),
                ),
            )


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def memory() -> Iterator[Spool]:
    made = Spool(MEMORY, QUICK)
    yield made
    made.close()


def look(history: History, memory: Spool, *rules: DoseRule, now: float = NOW) -> list[Alert]:
    """All alerts from where an earlier look stopped; written down as the desk does."""
    one = DoseLook(rules, memory.progress().cursors, {"ct1": "CT 1"}, memory, QUICK)
    found: list[Alert] = []
    more = True
    while more:
        alerts, progress, more = one.step(history.store, now)
        memory.take(alerts, lambda _: [], progress, now)
        found += alerts
    return found


def facts(alerts: list[Alert]) -> list[tuple[str, Any]]:
    return [
        (one.kind, one.facts.get("quantity", one.facts.get("value", one.facts.get("examinations"))))
        for one in alerts
    ]


def test_an_examination_over_its_reference_is_told_once(history: History, memory: Spool) -> None:
    history.dose(40.0, 600.0)
    assert look(history, memory, HEAD) == []
    history.dose(50.0, 400.0)  # together 1000: at the reference
    (told,) = look(history, memory, HEAD)
    assert (told.kind, told.scanner, told.name) == ("dose_reference", "ct1", "CT 1")
    assert told.text.startswith(
        "head: DLP 1000 mGy.cm (16 cm phantom) is 1.00 times the reference of 1000 mGy.cm"
    )
    assert "no limit for one" in told.text
    history.dose(10.0, 500.0)
    history.dose(59.9, 1.0)
    assert look(history, memory, HEAD) == []
    history.dose(60.0, 1.0)
    assert facts(look(history, memory, HEAD)) == [("dose_reference", "CTDIvol")]


def test_the_factor_moves_the_line_and_reports_add_up(history: History, memory: Spool) -> None:
    double = replace(HEAD, name="double", factor=2.0)
    history.dose(70.0, 1100.0)
    assert [one.facts["rule"] for one in look(history, memory, HEAD, double)] == ["head", "head"]
    history.dose(30.0, 500.0, report=True)
    assert [one.facts["rule"] for one in look(history, memory, HEAD, double)] == []
    history.dose(20.0, 400.0, report=True)  # 70 + 30 + 20 = 120 mGy, 1100 + 500 + 400 = 2000 mGy.cm
    assert sorted(one.facts["quantity"] for one in look(history, memory, HEAD, double)) == ["CTDIvol", "DLP"]


def test_phantoms_body_parts_and_ages_are_kept_apart(history: History, memory: Spool) -> None:
    rule = replace(HEAD, body_part="head", ages=(15.0, 120.0))
    history.dose(900.0, 9000.0, "e1", phantom=32)
    history.dose(900.0, 9000.0, "e2", part="CHEST")
    history.dose(900.0, 9000.0, "e3", age=3.0)
    history.dose(900.0, 9000.0, "e4", age=None)
    history.dose(900.0, 9000.0, "e5", phantom=0)
    history.dose(None, None, "e6")
    assert look(history, memory, rule) == []
    history.dose(900.0, 500.0, "e7")
    assert facts(look(history, memory, rule)) == [("dose_reference", "CTDIvol")]


def test_the_dose_of_a_patient_over_a_time_is_told_at_each_multiple(history: History, memory: Spool) -> None:
    rule = DoseRule("year", ALL, phantom=32, most_dlp=1000.0, hours=365 * 24.0)
    day = 86_400.0
    for number, (dlp, told) in enumerate(
        [(600.0, []), (300.0, []), (150.0, [1050.0]), (900.0, []), (200.0, [2150.0])]
    ):
        history.dose(5.0, dlp, f"e{number}", at=NOW + number * day, phantom=32)
        history.dose(5.0, 5000.0, f"x{number}", "", at=NOW + number * day, phantom=32)  # of nobody known
        history.dose(5.0, 5000.0, f"y{number}", at=NOW + number * day, phantom=16)  # on another phantom
        found = look(history, memory, rule, now=NOW + number * day)
        assert [one.facts["value"] for one in found] == told
    history.dose(5.0, 600.0, "late", at=NOW + 400 * day, phantom=32)
    assert look(history, memory, rule, now=NOW + 400 * day) == [], (
        "what is older than the window does not count"
    )


def test_a_patient_examined_again_is_told(history: History, memory: Spool) -> None:
    rule = DoseRule("again", ALL, body_part="HEAD", repeats=3, hours=24.0)
    history.dose(1.0, 10.0, "e1", at=NOW)
    history.dose(1.0, 10.0, "e1", at=NOW + 60)  # the same examination
    history.dose(1.0, 10.0, "e2", at=NOW + 3600)
    history.dose(1.0, 10.0, "c1", at=NOW + 3700, part="CHEST")
    history.dose(1.0, 10.0, "q1", "p2", at=NOW + 3800)
    history.dose(1.0, 10.0, "n1", "", at=NOW + 3900)
    assert look(history, memory, rule) == []
    history.dose(1.0, 10.0, "e3", at=NOW + 7200)
    history.dose(1.0, 10.0, "e3", at=NOW + 7260)
    assert facts(look(history, memory, rule)) == [("dose_repeat", 3)]
    history.dose(1.0, 10.0, "e4", at=NOW + 3 * 86_400)
    assert look(history, memory, rule) == []


def test_nothing_is_told_twice_after_a_restart_and_old_doses_are_counted(
    history: History, memory: Spool
) -> None:
    history.dose(90.0, 100.0, "old", at=NOW - 3 * 86_400)
    history.dose(90.0, 100.0, "e1")
    first = look(history, memory, HEAD)
    assert [one.kind for one in first] == ["dose_skipped", "dose_reference"]
    assert first[0].text.startswith("1 doses older than 48 h")
    assert look(history, memory, HEAD) == []
    with (
        history.store.writing() as db
    ):  # the history is made anew: rows have other ids, records the same numbers
        db.execute("UPDATE doses SET id = id + 1000")
    assert look(history, memory, HEAD) == []


def test_a_dose_that_was_judged_but_not_written_down_is_judged_again(history: History, memory: Spool) -> None:
    history.dose(90.0, 100.0)
    one = DoseLook([HEAD], {}, {"ct1": "CT 1"}, memory, QUICK)
    lost, _, _ = one.step(history.store, NOW)  # killed before the spool has it
    assert len(lost) == 1
    assert len(look(history, memory, HEAD)) == 1


@settings(max_examples=60)
@given(
    doses=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([100.0, 250.0, 400.0]), st.sampled_from([16, 32])),
        max_size=25,
    )
)
def test_reference_alerts_agree_with_sums_by_hand(
    doses: list[tuple[int, float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    history, memory = History(tmp_path_factory.mktemp("doses")), Spool(MEMORY, QUICK)
    rule = DoseRule("sum", ALL, phantom=32, dlp=700.0)
    try:
        sums: dict[str, float] = {}
        for which, dlp, phantom in doses:
            history.dose(1.0, dlp, f"e{which}", phantom=phantom)
            if phantom == 32:
                sums[f"e{which}"] = sums.get(f"e{which}", 0.0) + dlp
        told = [one.cause.split()[3] for one in look(history, memory, rule)]
        assert sorted(told) == sorted(name for name, total in sums.items() if total >= 700.0)
    finally:
        history.store.close()
        memory.close()


def test_a_dose_that_a_real_gate_recorded_becomes_a_mail_of_the_physicist(tmp_path: Path) -> None:
    log, store = Log(tmp_path / "log"), HistoryStore(tmp_path / "history.sqlite")
    try:
        scanner = Scanner(log)
        load = scanner.load(element(61.0, ProtocolName="Thorax"))
        scanner.shoot(load.id, ctdivol=12.0)
        log.checkpoint()
        import_all(importer(store, log))
        with store.reading() as db:
            (dose,) = [dict(row) for row in db.execute("SELECT * FROM doses")]
        rule = DoseRule("thorax", ALL, phantom=dose["phantom"] or 32, ctdivol=10.0, protocol="Thorax")
        with hook() as server, desk_of(tmp_path / "spool", webhook(server.port)) as desk:
            one = DoseLook([rule], desk.known.cursors, {"ct1": "CT 1"}, desk.spool, QUICK)
            alerts, progress, _ = one.step(store, EPOCH + 100.0)
            desk.take(*alerts, progress=progress)
            until(lambda: server.got)
            until(lambda: desk.spool.progress().cursors)
            ((_, document, _),) = server.got
        assert document["kind"] == "dose_reference"
        assert document["audience"] == ["physicist"]
        assert document["facts"]["value"] == dose["ctdivol"] >= 12.0
    finally:
        store.close()
        log.close()
