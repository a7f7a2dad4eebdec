"""The console's history against a real gate and a real log: every command once, and what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from _console_history import EPOCH, Log, Scanner, import_all, importer, rows
from _guard import answer, element, policy
from house import REPOSITORY
from scanward.commands import LayerName, Severity
from scanward.console.history_store import HistoryStore
from scanward.guard.events import Decision, OperatorSaid
from scanward.guard.operators import Act, ActKind

ODD = answer({LayerName.CONTEXT_FREE: (Severity.ALERT, "CTDIvol")}, within=False)
BAD = answer({LayerName.PHYSICS: (Severity.HALT, "KVP")})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "audit")
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    made = HistoryStore(tmp_path / "history.sqlite")
    yield made
    made.close()


def judged(store: HistoryStore) -> list[dict]:
    return rows(store, "SELECT * FROM judged ORDER BY id")


def test_a_released_chain_is_one_row_per_element(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    load = scanner.load(element(61.0, ProtocolName="Thorax"), element(61.0, KVP=100.0))
    scanner.shoot(load.id, ctdivol=12.0)
    import_all(importer(store, log))
    first, second = judged(store)
    assert (first["outcome"], first["verdict"], first["element"], first["elements"]) == (
        "released",
        "RELEASE",
        0,
        2,
    )
    assert (first["protocol"], first["age"], first["kind"]) == ("Thorax", 61.0, "command")
    assert json.loads(second["parameters"])["KVP"] == 100.0
    assert first["p_value"] == 0.5
    assert first["carried"] == EPOCH
    assert second["carried"] is None
    assert (first["examination"], first["digest"]) == ("e" * 16, scanner.recorded("load")[0]["digest"])
    assert rows(store, "SELECT phantom, ctdivol FROM doses") == [{"phantom": 32, "ctdivol": 12.0}]


def test_a_hold_that_is_released_tells_who_and_why(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    scanner.judge = [ODD]
    scanner.load()
    held = scanner.desk.held
    assert held is not None
    one = importer(store, log)
    import_all(one)
    assert judged(store)[0]["outcome"] == "pending"
    assert judged(store)[0]["held"] == EPOCH
    scanner.handle(OperatorSaid(Decision.RELEASE, held["request"], held["digest"], "anna", "asked for it"))
    scanner.act("release", "anna", held["request"])
    import_all(one)
    row = judged(store)[0]
    assert (row["outcome"], row["operator"], row["layer"]) == ("released", "anna", "context_free")
    assert json.loads(row["fields"]) == ["CTDIvol"]
    assert "asked for it" in row["why"]
    acts = rows(store, "SELECT * FROM acts")
    assert [(a["kind"], a["operator"], a["done"], a["reason"], a["peer"]) for a in acts] == [
        ("release", "anna", 1, "asked for it", "socket")
    ]
    assert rows(store, "SELECT field FROM objected") == [{"field": "CTDIvol"}]


def test_refused_halted_and_timed_out(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    scanner.judge = [ODD]
    scanner.load()
    held = scanner.desk.held
    assert held is not None
    scanner.handle(OperatorSaid(Decision.REFUSE, held["request"], held["digest"], "anna", "no"))
    scanner.load()
    scanner.pass_time(10_000.0)
    scanner.judge = [BAD]
    scanner.load()
    scanner.judge = None
    scanner.load()
    import_all(importer(store, log))
    found = [(r["verdict"], r["outcome"]) for r in judged(store)]
    assert found == [("ALERT", "refused"), ("ALERT", "refused"), ("HALT", "halted"), ("", "refused")]
    assert "no operator answered" in judged(store)[1]["why"]
    assert judged(store)[3]["layer"] == "gate"


def test_shadow_mode_shows_what_would_have_been_held(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log, policy(unsafe_shadow="true"))
    scanner.load()
    scanner.judge = [BAD]
    scanner.load()
    import_all(importer(store, log))
    assert [(r["verdict"], r["outcome"]) for r in judged(store)] == [
        ("RELEASE", "released"),
        ("HALT", "shadow"),
    ]


def test_emergency_access_is_listed_until_it_is_explained(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    scanner.judge = [ODD]
    assert scanner.desk.act(Act(ActKind.EMERGENCY, "anna"), "anna") == ""
    scanner.load()
    one = importer(store, log)
    import_all(one)
    grant = rows(store, "SELECT * FROM emergencies")[0]
    assert (grant["operator"], grant["explained"], grant["ended"]) == ("anna", None, None)
    row = judged(store)[0]
    assert (row["outcome"], row["emergency"]) == ("released", grant["id"])
    scanner.audit.seconds = 60.0
    assert scanner.desk.act(Act(ActKind.EMERGENCY_END, "anna"), "anna") == ""
    why = Act(ActKind.EMERGENCY_REASON, "anna", request=grant["number"], reason="bleeding")
    assert scanner.desk.act(why, "bert") == ""
    import_all(one)
    grant = rows(store, "SELECT * FROM emergencies")[0]
    assert (grant["ended"], grant["loads"], grant["reason"]) == (EPOCH + 60, 1, "bleeding")
    assert (grant["explained"], grant["explained_by"]) == (EPOCH + 60, "bert")


def test_after_a_restart_nothing_waits_and_what_may_have_been_sent_is_unknown(
    log: Log, store: HistoryStore
) -> None:
    scanner = Scanner(log)
    scanner.judge = [ODD]
    scanner.load()  # held
    log.write("load", {"id": "L9", "chain": [{"command": {"parameters": {}}}]}, 900)
    log.write("verdict", {"id": "L9", "request": 77, "verdict": "RELEASE", "p_values": [0.4]}, 901)
    log.write("release", {"id": "L9", "request": 77, "note": "", "mode": "CLINICAL"}, 902)
    again = Scanner(log)
    again.load()
    import_all(importer(store, log))
    assert [(r["outcome"], r["request"]) for r in judged(store)] == [
        ("refused", 1),
        ("unknown", 77),
        ("released", 1),
    ]
    assert "may have reached the gantry" in judged(store)[1]["why"]


def test_when_the_relay_ends_nothing_waits(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    scanner.judge = [ODD]
    scanner.load()
    log.write("end", {})
    import_all(importer(store, log))
    assert [(r["outcome"], r["why"]) for r in judged(store)] == [
        ("refused", "the guard ended before it was decided")
    ]


def test_a_trigger_that_bears_the_name_of_a_load_changes_nothing_for_good(
    log: Log, store: HistoryStore
) -> None:
    """The host chooses both names: a refused trigger must not make a released load look refused."""
    log.start()
    log.write("load", {"id": "L1", "chain": [{"command": {"parameters": {}}}]}, 1)
    log.write("refuse", {"id": "L1", "reason": "the load is not released yet", "layer": "gate"}, 2)
    log.write("verdict", {"id": "L1", "request": 1, "verdict": "RELEASE", "p_values": [0.4]}, 3)
    log.write("release", {"id": "L1", "request": 1, "note": "", "mode": "CLINICAL"}, 4)
    log.write("sent", {"id": "L1", "token": 4}, 5)
    import_all(importer(store, log))
    assert [(r["outcome"], r["request"]) for r in judged(store)] == [("released", 1)]


def test_a_load_that_is_judged_again_keeps_both_verdicts(log: Log, store: HistoryStore) -> None:
    log.start()
    log.write("load", {"id": "L1", "chain": [{"command": {"parameters": {"KVP": 120.0}}}]}, 1)
    log.write(
        "verdict", {"id": "L1", "request": 1, "verdict": "ALERT", "p_values": [0.4], "fields": ["KVP"]}, 2
    )
    log.write("hold", {"id": "L1", "request": 1}, 3)
    log.write("verdict", {"id": "L1", "request": 2, "verdict": "RELEASE", "p_values": [0.9], "fields": []}, 4)
    log.write("release", {"id": "L1", "request": 2, "note": "", "mode": "CLINICAL"}, 5)
    log.write("sent", {"id": "L1", "token": 5}, 6)
    import_all(importer(store, log))
    found = [(r["request"], r["verdict"], r["outcome"], r["parameters"]) for r in judged(store)]
    assert found == [(1, "ALERT", "superseded", '{"KVP":120.0}'), (2, "RELEASE", "released", '{"KVP":120.0}')]


def test_a_chain_tells_which_of_its_elements_is_odd(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    scanner.judge = [answer(), ODD]
    scanner.load(element(), element())
    import_all(importer(store, log))
    assert [(r["verdict"], r["layer"], r["fields"]) for r in judged(store)] == [
        ("RELEASE", "", "[]"),
        ("ALERT", "context_free", '["CTDIvol"]'),
    ]


def test_a_verdict_on_the_whole_load_is_that_of_every_element(log: Log, store: HistoryStore) -> None:
    scanner = Scanner(log)
    scanner.load(
        element(), element(), element(), element(CTDIvol=1000.0)
    )  # the gate's caps on what is delivered
    import_all(importer(store, log))
    assert [r["outcome"] for r in judged(store)] == ["halted"] * 4
    assert {r["verdict"] for r in judged(store)} == {"HALT"}


def test_two_persons_are_two_acts(log: Log, store: HistoryStore) -> None:
    log.start()
    log.write("called", {"request": 1, "operator": "anna", "times": 1})
    log.write(
        "act", {"act": "call", "operator": "anna", "request": 1, "done": True, "peer": "p", "local": False}
    )
    log.write("one_of_two", {"request": 1, "operator": "anna", "reason": "first", "digest": "d"})
    log.write(
        "act", {"act": "release", "operator": "anna", "request": 1, "done": True, "peer": "p", "local": False}
    )
    log.write("operator", {"decision": "release", "request": 1, "operator": "bert", "reason": "second"}, 1)
    log.write(
        "act", {"act": "release", "operator": "bert", "request": 1, "done": True, "peer": "q", "local": True}
    )
    log.write("act", {"act": "release", "operator": "carl", "request": 1, "done": False, "refused": "late"})
    import_all(importer(store, log))
    acts = rows(store, "SELECT kind, operator, done, reason, refused, peer FROM acts ORDER BY id")
    assert [tuple(act.values()) for act in acts] == [
        ("call", "anna", 1, "", "", "p"),
        ("release", "anna", 1, "first", "", "p"),
        ("release", "bert", 1, "second", "", "q"),
        ("release", "carl", 0, "", "late", ""),
    ]


def test_elements_that_the_log_tells_apart_have_verdicts_of_their_own(log: Log, store: HistoryStore) -> None:
    log.start()
    log.write("load", {"id": "L1", "chain": [{"command": {}}, {"command": {}}]}, 1)
    own = [{"element": 1, "verdict": "ALERT", "layer": "physics", "fields": ["DLP"], "reason": "odd"}]
    told = {
        "id": "L1",
        "request": 1,
        "verdict": "ALERT",
        "p_values": [0.4, 0.1],
        "fields": ["DLP"],
        "elements": own,
    }
    log.write("verdict", told, 2)
    import_all(importer(store, log))
    assert [(r["verdict"], r["layer"], r["p_value"]) for r in judged(store)] == [
        ("RELEASE", "", 0.4),
        ("ALERT", "physics", 0.1),
    ]


def test_the_benchmark_runs(tmp_path: Path) -> None:
    sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product
    from benchmarks import console_history

    words = [
        "--commands",
        "400",
        "--repeats",
        "2",
        "--out",
        str(tmp_path / "found.json"),
        "--folder",
        str(tmp_path),
    ]
    told = console_history.main(words)
    assert told["rows"] == 400
    assert "400 commands" in console_history.report(told)
