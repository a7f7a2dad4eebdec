"""Alerts on their way: real receivers on loopback, killed couriers, full disks, receivers that are down, floods."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path

import pytest

import _alerting
from _alerting import QUICK, SHIPPING, SOURCE, Clock, MailServer, alert, desk_of, hook, route, until, webhook
from _audit_rules import dicom_faults, octet_counted, syslog_parts
from _console import Desk as ConsoleDesk
from _console import console_toml, settings_in
from _guard import Bench
from _receivers import Collector, certificates, free_port
from _web import accounts_in
from scanward.console.alerting.rules import To
from scanward.console.alerting.senders import Syslog, open_sender, read_secret
from scanward.console.alerting.spool import Outgoing, Progress, Spool
from scanward.console.app import open_console
from scanward.errors import SettingsError, ShippingError
from test_guard_control import Running, held, running

NONE = Progress.none()


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("pems"))


@pytest.fixture
def mail_server(pems: tuple[Path, Path, Path]) -> Iterator[MailServer]:
    made = MailServer((pems[1], pems[2]))
    yield made
    made.close()


# --- each receiver takes it


def test_a_mail_goes_over_tls_with_a_login_and_says_what_it_is(
    tmp_path: Path, mail_server: MailServer, pems: tuple[Path, Path, Path]
) -> None:
    secret = tmp_path / "password.txt"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    letters = route("mail", To.MAIL, host="localhost", port=mail_server.port, ca=pems[0], user="scanward")
    letters = replace(
        letters, secret=secret, sender="scanward@here.example", recipients=("a@b.example", "c@d.example")
    )
    hostile = alert(
        "é\r\nBcc: everybody@evil.example\r\n\r\n\N{RIGHT-TO-LEFT OVERRIDE}<script>", scanner="ct1"
    )
    with desk_of(tmp_path, letters) as desk:
        desk.take(replace(hostile, name="CT\r\nSubject: nothing"))
        until(lambda: mail_server.letters)
        until(lambda: not desk.standing()[0]["waiting"])
    ((sender, recipients, data, secure),) = mail_server.letters
    assert secure
    assert mail_server.logins == [b"\0scanward\0correct horse"]
    assert (sender, recipients) == ("scanward@here.example", ["a@b.example", "c@d.example"])
    letter = message_from_bytes(data)
    assert sorted(letter.keys()) == sorted(
        [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding",
            "MIME-Version",
        ]
    )
    subject = str(make_header(decode_header(letter["Subject"])))
    assert subject.startswith("SERIOUS: CT")
    assert letter["Auto-Submitted"] == "auto-generated"
    body = letter.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in body.decode()
    assert "é" in body.decode()


@pytest.mark.parametrize("wrong", ["no starttls", "another CA"])
def test_no_mail_and_no_password_goes_in_clear(
    wrong: str, tmp_path: Path, pems: tuple[Path, Path, Path]
) -> None:
    server = MailServer((pems[1], pems[2]), starttls=wrong != "no starttls")
    other = certificates(tmp_path)
    secret = tmp_path / "password.txt"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    letters = route("mail", To.MAIL, host="localhost", port=server.port, user="scanward", secret=secret)
    letters = replace(letters, sender="a@b.example", recipients=("c@d.example",))
    letters = replace(letters, ca=other[0] if wrong == "another CA" else pems[0])
    try:
        with desk_of(tmp_path / "spool", letters) as desk:
            desk.take(alert("x"))
            until(lambda: desk.standing()[0]["trouble"])
            assert desk.standing()[0]["waiting"] == 1
    finally:
        server.close()
    assert server.letters == []
    assert server.logins == []


def test_a_mail_refused_for_one_recipient_reaches_the_others_and_is_told(
    tmp_path: Path, mail_server: MailServer, pems: tuple[Path, Path, Path]
) -> None:
    mail_server.refused.add("gone@d.example")
    mail_server.busy = 2  # at first it is busy: 451 is tried again
    letters = route("mail", To.MAIL, host="localhost", port=mail_server.port, ca=pems[0])
    letters = replace(letters, sender="s@here.example", recipients=("gone@d.example", "here@d.example"))
    with desk_of(tmp_path, letters) as desk:
        desk.take(alert("x"))
        until(lambda: mail_server.letters)
        until(lambda: "gone@d.example" in desk.standing()[0]["remark"])
    assert [to for _, to, _, _ in mail_server.letters] == [["here@d.example"]]
    assert mail_server.busy == 0


def test_syslog_and_dicom_audit_messages_arrive_over_tls(
    tmp_path: Path, pems: tuple[Path, Path, Path]
) -> None:
    plain, dicom = Collector((pems[1], pems[2])), Collector((pems[1], pems[2]))
    try:
        routes = [
            route("log", To.SYSLOG, host="localhost", port=plain.port, ca=pems[0]),
            route("atna", To.ATNA, host="localhost", port=dicom.port, ca=pems[0]),
        ]
        with desk_of(tmp_path, *routes) as desk:
            desk.take(
                *(alert("x", kind) for kind in ("halted", "emergency_begin", "drift", "dose_reference"))
            )
            until(lambda: all(one["sent"] and not one["waiting"] for one in desk.standing()))
    finally:
        plain.close()
        dicom.close()
    logged = [syslog_parts(m) for s in plain.streams for m in octet_counted(bytes(s))]
    assert {m["msgid"].decode() for m in logged} == {
        "alert.halted",
        "alert.emergency_begin",
        "alert.drift",
        "alert.dose_reference",
    }
    assert {json.loads(m["msg"].decode("utf-8-sig"))["severity"] for m in logged} == {"serious", "warning"}
    audited = [syslog_parts(m) for s in dicom.streams for m in octet_counted(bytes(s))]
    assert len(audited) == 4
    for one in audited:
        assert dicom_faults(one["msg"].decode("utf-8-sig")) == []


def test_a_webhook_gets_its_token_and_a_key_that_names_the_message(tmp_path: Path) -> None:
    secret = tmp_path / "token.txt"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    with hook() as server, desk_of(tmp_path, webhook(server.port, secret=secret)) as desk:
        desk.take(alert("x", facts={"fields": ["KVP"]}))
        until(lambda: server.got)
        ((key, document, headers),) = server.got
    assert headers["Authorization"] == "Bearer s3cret"
    assert key == f"urn:scanward:alert:{document['key']}"
    assert document["facts"] == {"fields": ["KVP"]}
    assert (document["source"], document["count"], document["new"]) == (SOURCE, 1, 1)


@pytest.mark.parametrize("text", ["", "two\nlines", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 5000])
def test_a_secret_is_one_line_that_nobody_else_reads(text: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError):
        read_secret(path)
    path.write_text("fine")
    assert read_secret(path) == "fine"
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="others may read"):
        read_secret(path)


# --- nothing is lost


def test_killed_in_the_middle_of_delivery_everything_arrives_after_the_next_start(tmp_path: Path) -> None:
    count = 40
    with hook() as server:
        server.pause = 0.02
        arguments = [sys.executable, _alerting.__file__, str(tmp_path), str(server.port), str(count)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "taken"
            until(lambda: len(server.got) >= 5)
            process.send_signal(signal.SIGKILL)
        before = len(server.causes())
        assert before < count, "killed in the middle"
        server.pause = 0.0
        with desk_of(tmp_path, webhook(server.port)) as desk:
            until(lambda: not desk.standing()[0]["waiting"])
    arrived = Counter(server.causes())
    assert set(arrived) == {f"reason cause {number}." for number in range(count)}
    twice = [cause for cause, times in arrived.items() if times > 1]
    assert len(twice) <= 1, "only what was under way may come twice"
    keys = Counter(key for key, _, _ in server.got)
    assert len(keys) == count, "what comes twice comes under one name"


def test_a_receiver_that_is_down_for_an_hour_gets_everything_and_the_others_are_told(tmp_path: Path) -> None:
    clock, port = Clock(), free_port()
    bounds = replace(QUICK, burst=100)
    with (
        hook() as other,
        desk_of(
            tmp_path, webhook(port, "down"), webhook(other.port, "other"), bounds=bounds, clock=clock
        ) as desk,
    ):
        for number in range(30):
            desk.take(alert(f"cause {number}.", at=clock.now))
        until(lambda: len([one for one in other.causes() if one.startswith("reason")]) == 30)
        until(lambda: desk.standing()[0]["trouble"])
        clock.now += 3600.0
        until(lambda: any("alerts wait for 'down'" in one for one in other.causes()))
        assert desk.standing()[0]["waiting"] >= 30
        with hook(port) as server:
            until(lambda: not desk.standing()[0]["waiting"])
            assert {f"reason cause {number}." for number in range(30)} <= set(server.causes())
            assert desk.standing()[0]["trouble"] == ""


def test_what_a_receiver_refuses_for_ever_stands_in_nobodys_way(tmp_path: Path) -> None:
    clock = Clock()
    with hook() as server, desk_of(tmp_path, webhook(server.port), clock=clock) as desk:
        server.status = lambda document: 400 if "poison" in document["text"] else 200
        desk.take(alert("poison"))
        until(lambda: len(server.tried) > 2)
        for number in range(10):
            desk.take(alert(f"cause {number}."))
        until(lambda: len(server.got) == 10)
        assert desk.standing()[0]["waiting"] == 1
        until(lambda: "status 400" in desk.standing()[0]["trouble"])
        server.status = lambda document: 400 if "poison" in document["text"] else 200
        clock.now += QUICK.undelivered_seconds + 1.0
        desk.take(alert("news.", at=clock.now))  # the receiver is well: it is told what it does not take
        until(lambda: any("wait for 'hook'" in one for one in server.causes()))
        server.status = lambda _: 200
        until(lambda: "reason poison" in server.causes())


def test_a_poisoned_batch_is_taken_apart(tmp_path: Path) -> None:
    """A syslog batch with a message that cannot be sent: the others go, it stays."""
    server = Collector(None)
    target = route("log", To.SYSLOG, host="127.0.0.1", port=server.port, unsafe_plaintext=True)
    try:
        with desk_of(tmp_path, target) as desk:
            desk.couriers[0]._sender._sender._bounds = replace(SHIPPING, syslog_bytes=1200)  # type: ignore[attr-defined]
            desk.take(alert("big", facts={"x": "y" * 2000}), *(alert(f"cause {n}") for n in range(8)))
            until(lambda: desk.standing()[0]["waiting"] == 1)
    finally:
        server.close()
    sent = [
        json.loads(syslog_parts(m)["msg"].decode("utf-8-sig"))
        for s in server.streams
        for m in octet_counted(bytes(s))
    ]
    assert {one["text"] for one in sent} == {f"reason cause {n}" for n in range(8)}


def test_a_syslog_server_that_breaks_the_connection_gets_it_again(tmp_path: Path) -> None:
    """What was sent before the connection was made anew may not have been read: the batch counts as not taken."""
    server = Collector(None)
    server.close_after = 1  # it reads the first message, and closes
    target = route("log", To.SYSLOG, host="127.0.0.1", port=server.port, unsafe_plaintext=True)
    sender = open_sender(target, SOURCE, QUICK, SHIPPING)
    assert isinstance(sender, Syslog)
    make, wire = sender._make, sender._sender
    broken: list[bool] = []

    def slowly(one: Outgoing, source: str) -> bytes:
        if wire._socket is not None and not broken:
            until(lambda: wire._closed_by_peer(wire._socket))  # type: ignore[arg-type]
            broken.append(True)
            server.close_after = -1
        return make(one, source)

    spool = Spool(tmp_path / "a.sqlite", replace(QUICK, burst=1000))
    try:
        spool.take([alert(f"c{n}") for n in range(5)], lambda _: ["log"], NONE, 0.0)
        batch = spool.waiting("log", 1.0, 90)
        sender._make = slowly
        with pytest.raises(ShippingError, match="broke the connection"):
            sender.send(batch)
        assert sender.send(batch) == ""
    finally:
        sender.close()
        spool.close()
        server.close()
    assert len(octet_counted(bytes(server.streams[-1]))) == 5


def test_a_full_disk_keeps_no_alert_from_leaving_and_loses_none(tmp_path: Path) -> None:
    with (
        hook() as server,
        desk_of(tmp_path, webhook(server.port), bounds=replace(QUICK, burst=10_000)) as desk,
    ):
        desk.take(alert("before."))
        until(lambda: len(server.got) == 1)
        pages = desk.spool._database.execute("PRAGMA page_count").fetchone()[0]
        desk.spool._database.execute(f"PRAGMA max_page_count={pages}")
        filler = [alert(f"filler {number}") for number in range(400)]
        desk.take(*filler)
        until(lambda: desk.disk)
        until(lambda: any("the disk takes nothing" in one for one in server.causes()))
        server.status = lambda _: 503  # and now the receiver is away too
        desk.take(alert("waits in memory."))
        until(lambda: any(row["cause"] == "waits in memory." for row in desk.memory.newest(1000)))
        desk.spool._database.execute("PRAGMA max_page_count=1000000")
        until(lambda: not desk.disk)
        assert desk.memory.empty
    with hook() as server2, desk_of(tmp_path, webhook(server2.port)) as desk:
        until(lambda: not desk.standing()[0]["waiting"])
    arrived = set(server.causes()) | set(server2.causes())
    assert {f"reason filler {number}" for number in range(400)} <= arrived
    assert "reason waits in memory." in arrived


def test_what_cannot_be_written_down_as_sent_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hook() as server, desk_of(tmp_path, webhook(server.port)) as desk:
        right = desk.spool.sent

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(desk.spool, "sent", full)
        desk.take(alert("a."), alert("b."))
        until(lambda: len(server.got) == 2)
        time.sleep(0.3)  # in which it would be sent again and again
        assert len(server.got) == 2
        monkeypatch.setattr(desk.spool, "sent", right)
        until(lambda: not desk.standing()[0]["waiting"])
    assert sorted(server.causes()) == ["reason a.", "reason b."]


def test_a_flood_of_ten_thousand_is_a_few_messages_that_count_them_all(tmp_path: Path) -> None:
    clock = Clock()
    with hook() as server, desk_of(tmp_path, webhook(server.port), clock=clock) as desk:
        for number in range(10_000):
            desk.take(alert(f"cause {number}.", at=clock.now))
        until(lambda: sum(row["count"] for row in desk.spool.newest(10_000)) == 10_000)
        clock.now += QUICK.fold_seconds + 1.0
        until(lambda: sum(document["new"] for _, document, _ in server.got) == 10_000)
        assert len(server.got) <= QUICK.burst + 4
        assert desk.memory.empty


def test_waiting_alerts_of_a_route_that_was_removed_are_told(tmp_path: Path) -> None:
    with desk_of(tmp_path, webhook(free_port(), "old")) as desk:
        desk.take(alert("x"), alert("y"))
        until(lambda: len(desk.spool.newest(9)) == 2)
    with hook() as server, desk_of(tmp_path, webhook(server.port, "new")):
        until(lambda: any("2 alerts wait for 'old'" in one for one in server.causes()))


# --- with a real guard, as a part of the console


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "ct1.sock", Bench()) as made:
        yield made


def hook_toml(port: int) -> str:
    return f'[[alert]]\nname = "hook"\nto = "webhook"\nurl = "http://127.0.0.1:{port}/"\nunsafe_plaintext = true\n'


def told_of(server: _alerting.Hook, kind: str) -> list[dict]:
    with server.guard:
        return [document for _, document, _ in server.got if document["kind"] == kind]


def test_a_hold_at_a_guard_leaves_the_room_and_stands_on_the_page(tmp_path: Path, guard: Running) -> None:
    with hook() as server:
        more = hook_toml(server.port)
        with ConsoleDesk(tmp_path, {"ct1": guard.path}, more) as desk:
            guard.run(lambda: held(guard.bench))
            (document,) = until(lambda: told_of(server, "held"))
            assert (document["scanner"], document["name"]) == ("ct1", "Scanner ct1")
            assert document["audience"] == ["operator", "physicist"]
            anna = desk.browser("anna", "operator")
            page = anna.get("/alerts")
            assert page.status_code == 200
            assert "a command is held" in page.text
            assert "Send a test" not in page.text
            assert anna.form("/alerts/test").status_code == 403
            eva = desk.browser("eva", "administrator")
            assert eva.form("/alerts/test").status_code == 303
            until(lambda: told_of(server, "test"))
            found = eva.get("/api/alerts").json()
            assert found["routes"][0]["trouble"] == ""
            assert {one["kind"] for one in found["alerts"]} >= {"held", "test"}
            assert desk.stranger().get("/api/alerts").status_code == 401


def test_what_a_guard_found_while_the_console_was_away_is_told_when_it_is_back(
    tmp_path: Path, guard: Running
) -> None:
    with hook() as server:
        more = hook_toml(server.port)
        with ConsoleDesk(tmp_path, {"ct1": guard.path}, more) as desk:
            until(lambda: desk.console.scanners["ct1"].reach.value == "up")
            guard.run(lambda: guard.bench.desk.told("alert", {"reason": "first"}))
            until(lambda: told_of(server, "alert"))
        for _ in range(7):  # nobody listens
            guard.run(lambda: guard.bench.desk.told("alert", {"reason": "while away"}))
        with ConsoleDesk(tmp_path, {"ct1": guard.path}, more):
            until(lambda: len(told_of(server, "alert")) == 2)
    last = told_of(server, "alert")[-1]
    assert (last["text"], last["count"]) == ("while away", 7)


def test_a_console_with_a_wrong_alert_is_not_opened(tmp_path: Path) -> None:
    text = console_toml({"ct1": tmp_path / "x"}, '[[alert]]\nname = "a"\nto = "webhook"\n')
    with accounts_in(tmp_path) as accounts, pytest.raises(SettingsError, match="'url' is missing"):
        open_console(settings_in(tmp_path, text), accounts)
