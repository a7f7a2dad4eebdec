"""The pages of history and audit in the application itself: what they show, to whom, and of what hosts may write."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from _audit import KEY
from _console import Browser, Desk, until
from _console_history import Log, Scanner
from _guard import answer, element
from scanward.commands import LayerName, Severity
from scanward.console.history_service import history_of
from scanward.guard.operators import Act, ActKind

ODD = answer({LayerName.CONTEXT_FREE: (Severity.ALERT, "CTDIvol")}, within=False)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}'
FORMULA = "=HYPERLINK(1)"
TURNED = "safe\u202etxt.exe"
ADDRESSES = ("/history", "/history/commands.csv", "/history/commands/1", "/history/notes", "/audit")


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Desk, Log]]:
    """A console that has imported what stands in a log: nine commands, one alerted and released in emergency."""
    log = Log(folder / "audit")
    scanner = Scanner(log)
    for name in (HOSTILE, FORMULA, TURNED):
        scanner.load(element(61.0, ProtocolName=name))
    scanner.judge = [ODD]
    assert scanner.desk.act(Act(ActKind.EMERGENCY, "anna"), "anna") == ""
    scanner.load(element(3.0, ProtocolName="Head"))
    scanner.judge = [answer()]
    for number in range(5):
        scanner.load(element(50.0, ProtocolName=f"Thorax {number}"))
    log.write("judge_ready", {"bundle": "b" * 64, "version": 3, "budget": 0.05})
    log.write("alert", {"reason": HOSTILE}, 5000)
    log.checkpoint()
    (folder / "audit.pub").write_bytes(KEY.verify_key.pem())
    more = 'audit = "audit"\naudit_keys = ["audit.pub"]\n'
    try:
        with Desk(folder, {"ct1": folder / "nobody.sock"}, more) as desk:
            importer = history_of(desk.console).importers["ct1"]
            until(lambda: importer.standing.looked and not importer.standing.behind)
            yield desk, log
    finally:
        log.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For tests that change nothing."""
    with opened(tmp_path_factory.mktemp("console")) as (made, _):
        yield made


@pytest.fixture(scope="module")
def page(desk: Desk) -> Browser:
    return desk.browser("petra", "physicist")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Browser, Desk, Log]]:
    """For tests that change the log."""
    with opened(tmp_path) as (made, log):
        yield made.browser("petra", "physicist"), made, log


def text_of(browser: Browser, path: str) -> str:
    found = browser.get(path)
    assert found.status_code == 200, found.text[:2000]
    return str(found.text)


def table(browser: Browser, path: str) -> list[dict[str, str]]:
    """The CSV as a spreadsheet reads it."""
    found = browser.get(path)
    assert found.status_code == 200, found.text
    assert found.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(found.content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("path", ADDRESSES)
def test_for_physicists_alone(desk: Desk, path: str) -> None:
    assert desk.stranger().get(path).status_code == 303
    for role in ("operator", "administrator"):
        assert desk.browser(role, role).get(path).status_code == 403
    assert desk.browser("petra", "physicist").get(path).status_code == 200


def test_verifying_needs_the_role_and_a_page_of_ours(desk: Desk, page: Browser) -> None:
    assert page.client.post("/audit/verify/ct1").status_code == 403
    assert desk.browser("otto", "operator").form("/audit/verify/ct1").status_code == 403
    assert page.form("/audit/verify/ct9").status_code == 404
    assert page.form("/audit/verify/ct1").status_code == 303


def test_every_command_is_shown_and_found(page: Browser) -> None:
    whole = text_of(page, "/history")
    assert "9 found" in whole
    assert whole.count("/history/commands/") == 9
    assert len(table(page, "/history/commands.csv")) == 9
    for asked, many in (
        ("verdict=ALERT", 1),
        ("field=CTDIvol", 1),
        ("field=KVP", 0),
        ("layer=context_free", 1),
        ("outcome=released", 9),
        ("outcome=halted", 0),
        ("protocol=thorax", 5),
        ("protocol=Th%25rax", 0),  # a per cent sign is a per cent sign
        ("parameter=KVP&low=119&high=121", 9),
        ("parameter=KVP&low=121", 0),
        ("examination=eeee", 9),
        ("examination=f", 0),
        ("request=4", 1),
        ("scanner=ct1&since=2026-01-01&until=2026-12-31", 9),
        ("since=2027-01-01", 0),
        ("text=emergency", 1),
        ("verdict=none", 0),
    ):
        assert len(table(page, f"/history/commands.csv?{asked}")) == many, asked
        assert f"{many} found" in text_of(page, f"/history?{asked}"), asked


@pytest.mark.parametrize(
    "asked",
    [
        "scanner=ct9",
        "verdict=GOOD",
        "outcome=x",
        "layer=x",
        "since=yesterday",
        "since=0001-01-01",
        "request=1;DROP",
        "low=1",
        "parameter=x%27)&low=1",
        "parameter=KVP&low=nan",
        "text=" + "x" * 300,
        "text=%00",
        "days=9999999",
        "before=1;2",
    ],
)
def test_a_wrong_filter_is_named_and_nothing_is_reflected(page: Browser, asked: str) -> None:
    answer = page.get(f"/history?{asked}")
    assert answer.status_code == 400, answer.text[:500]
    assert "Traceback" not in answer.text


def test_what_a_host_wrote_is_text(desk: Desk, page: Browser) -> None:
    numbers = {row["ProtocolName"]: row["number"] for row in table(page, "/history/commands.csv")}
    hostile = next(number for name, number in numbers.items() if "script" in name)
    query = f"protocol={'%3Cscript%3E'}&text=%22%3E%3Cscript%3E"
    for path in ("/history", f"/history/commands/{hostile}", "/history/notes", "/audit", f"/history?{query}"):
        text = text_of(page, path)
        assert "<script" not in text, path
        assert "<img" not in text, path
        assert "onerror=alert(2)&gt;{{7" in text or path in ("/audit", f"/history?{query}"), path
        assert "style=" not in text, path
    assert "\u202e" not in text_of(page, "/history")
    assert "⟨U+202E⟩" in text_of(page, "/history")


def test_no_cell_begins_a_formula(page: Browser) -> None:
    names = [row["ProtocolName"] for row in table(page, "/history/commands.csv")]
    assert f"'{FORMULA}" in names
    for row in table(page, "/history/commands.csv"):
        for name, cell in row.items():
            assert not re.match(r"\s*[=+@\t\r]", cell), (name, cell)


def test_one_command_shows_everything(page: Browser) -> None:
    number = next(r["number"] for r in table(page, "/history/commands.csv?verdict=ALERT"))
    text = text_of(page, f"/history/commands/{number}")
    for told in (
        "XRayTubeCurrentInmA",
        "PatientAge",
        "(host)",
        "CTDIvol",
        "▲ yes",
        "emergency access",
        "context_free",
    ):
        assert told in text, told
    assert page.get("/history/commands/999999").status_code == 404
    assert page.get(f"/history/commands/{10**30}").status_code == 404


def test_the_budget_stands_beside_the_alerts(page: Browser) -> None:
    text = text_of(page, "/history")
    assert "Budget: 5 % of clean examinations" in text
    assert "<svg" in text


def test_pages_show_every_row_once(own: tuple[Browser, Desk, Log]) -> None:
    page, desk, _ = own
    store = history_of(desk.console).store
    store.bounds = replace(store.bounds, page_rows=2)
    seen: list[str] = []
    path = "/history"
    while path:
        text = text_of(page, path)
        seen += re.findall(r'class="when"><a href="/history/commands/(\d+)"', text)
        older = re.search(r'rel="next" href="([^"]*)"', text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == 9
    assert sorted(map(int, seen), reverse=True) == list(map(int, seen))
    text = text_of(page, "/history?after=0-0")
    assert re.findall(r'class="when"><a href="/history/commands/(\d+)"', text) == seen[-2:]


def test_audit_says_whether_the_log_is_whole_and_who_broke_the_glass(own: tuple[Browser, Desk, Log]) -> None:
    page, _, log = own
    until(lambda: "whole and signed" in text_of(page, "/audit"))
    text = text_of(page, "/audit")
    assert "UNEXPLAINED" in text
    assert "1 grant has no reason yet" in text
    assert "anna" in text
    under = re.search(r'href="(/history\?emergency=\d+)"', text)
    assert under
    assert "1 found" in text_of(page, under[1])
    log.write("emergency_reason", {"grant": 1, "reason": "bleeding", "operator": "bert"})
    until(lambda: "Every grant has a reason" in text_of(page, "/audit"))
    assert "bleeding" in text_of(page, "/audit")


def test_a_changed_log_is_said_to_be_broken(own: tuple[Browser, Desk, Log]) -> None:
    page, _, log = own
    until(lambda: "whole and signed" in text_of(page, "/audit"))
    path = sorted(log.path.glob("*.audit"))[0]
    data = path.read_bytes()
    at = data.index(b"Thorax 2")
    path.write_bytes(data[:at] + b"Thorax 9" + data[at + 8 :])
    assert page.form("/audit/verify/ct1").status_code == 303
    text = text_of(page, "/audit")
    assert "BROKEN" in text
    assert "step 3" in text


def test_what_is_read_is_checked_at_once(own: tuple[Browser, Desk, Log]) -> None:
    """A log that is changed behind the console is found by the import, before anybody verifies."""
    page, desk, log = own
    until(lambda: "whole and signed" in text_of(page, "/audit"))
    path = sorted(log.path.glob("*.audit"))[-1]
    data = bytearray(path.read_bytes())
    history = history_of(desk.console)

    def place() -> Any:
        with history.store.reading() as db:
            return dict(db.execute("SELECT offset, seq FROM logs").fetchone())

    at = place()["offset"]
    data[at - 1] ^= 1  # the hash of the last record that was read
    path.write_bytes(data)
    until(lambda: "BROKEN" in text_of(page, "/audit"))
    assert "is not the one that was read before" in text_of(page, "/audit")


def test_nothing_that_any_record_holds_is_carried_out(tmp_path: Path) -> None:
    """Every text of every record, names of parameters too, is a tag; no page has one."""
    tag = "\"><img src=x onerror=alert(1)>'</script><script>{{7*7}}\u202e"
    log = Log(tmp_path / "audit")
    log.start(weakenings=[tag], version=tag)
    command = {"parameters": {tag: tag, "ProtocolName": tag, "BodyPartExamined": tag, "KVP": tag}}
    command["context"] = {tag: [{"value": tag, "source": tag}, {"value": 1.0, "source": tag}]}  # type: ignore[dict-item]
    named = {
        "id": tag,
        "examination": tag,
        "patient": tag,
        "digest": tag,
        "mode": tag,
        "operator": tag,
        "bundle": tag,
    }
    log.write("load", {**named, "chain": [{"command": command}] * 2}, 1)
    said = {"verdict": tag, "layer": tag, "fields": [tag], "reason": tag, "p_values": [0.1, tag]}
    log.write("verdict", {**named, **said, "request": 1}, 2)
    log.write("hold", {**named, "request": 1}, 3)
    log.write("operator", {**named, "request": 1, "decision": tag, "reason": tag}, 4)
    log.write("act", {"act": tag, "operator": tag, "request": 1, "peer": tag, "user": tag, "refused": tag})
    log.write("emergency_begin", {"grant": 1, "operator": tag, "minutes": 5, "reason": ""})
    log.write("release", {**named, "request": 1, "note": f"emergency access: {tag}"}, 5)
    log.write("sent", {**named, "token": 5}, 6)
    log.write(
        "dose", {"load": tag, "element": 0, "examination": tag, "dose": {"phantom": 32, "ctdivol": 1.0}}, 7
    )
    log.write("emergency_end", {"grant": 1, "why": tag, "loads": 1})
    log.write("emergency_begin", {"grant": 2, "operator": tag, "minutes": 5, "reason": tag})
    log.write("emergency_reason", {"grant": 1, "operator": tag, "reason": tag})
    log.write(tag, {"reason": tag, tag: tag})
    (tmp_path / "audit.pub").write_bytes(KEY.verify_key.pem())
    more = 'audit = "audit"\naudit_keys = ["audit.pub"]\n'
    with Desk(tmp_path, {"ct1": tmp_path / "nobody.sock"}, more) as desk:
        importer = history_of(desk.console).importers["ct1"]
        until(lambda: importer.standing.looked and not importer.standing.behind)
        page = desk.browser("petra", "physicist")
        paths = [
            "/history",
            "/history/commands/1",
            "/history/commands/2",
            "/history/notes",
            "/audit",
            "/device",
        ]
        paths += [f"{path}?kind={quote(tag)}" for path in ("/history/notes",)]
        for path in paths:
            text = text_of(page, path)
            assert text.count("<script") == len(
                re.findall(r'<script type="module" src="/[^"]*"></script>', text)
            ), path
            assert "<img src=x" not in text, path
            assert "\u202e" not in re.sub(r'value="[^"]*"', "", text), path  # a value is what is asked for
            assert "onerror=alert(1)&gt;" in text or path == "/device", path
        for row in table(page, "/history/commands.csv"):
            assert row["ProtocolName"].startswith('"><img')
            assert "\u202e" not in "".join(row.values())
    log.close()
