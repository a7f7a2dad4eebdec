"""Delivered doses from reports to the relay: they raise accounts and do nothing else, whoever speaks on the socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _dicom import Records, program, settings, storescu
from _guard import load, policy
from dicom_builders.dose_reports import coded, event, num, report, to_bytes
from scanward.commands import Mode
from scanward.commands.wire import Refused, Trigger
from scanward.config import CONTEXT_BOUNDS
from scanward.errors import DecodeError, LinkError, SettingsError
from scanward.guard.config import parse_config
from scanward.guard.dicom_service import DicomService
from scanward.guard.dose_feed import DoseFeed
from scanward.guard.dose_lines import dose_line, read_dose_line
from scanward.guard.dose_port import DosePort
from scanward.guard.events import Delivered as Raise
from scanward.guard.events import Forecast
from scanward.links.dicom_delivered import Accounts, Delivered, totals
from scanward.recordings.pseudonyms import Pseudonyms
from test_guard_relay import Stage, run

WAIT = 30.0
EXAM = "e" * 16  # of `_guard.load`
OVER = policy().gate_rules().modes[Mode.CLINICAL].alert.dlp[32] + 1.0  # mGy.cm


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT):
        while not ready():
            await asyncio.sleep(0.01)


# --- lines


@given(st.binary(max_size=600))
def test_any_bytes_are_a_dose_or_our_error(data: bytes) -> None:
    try:
        found = read_dose_line(data).forecast
    except DecodeError:
        return
    assert 0 <= found.ctdivol <= CONTEXT_BOUNDS.ctdivol
    assert 0 <= found.dlp <= CONTEXT_BOUNDS.dlp


GOOD = {"examination": EXAM, "phantom": 16, "CTDIvol": 60.0, "DLP": 900.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"examination": "E" * 16},
        {"examination": EXAM + "\n"},
        {"examination": ""},
        {"phantom": 20},
        {"phantom": True},
        {"CTDIvol": -1.0},
        {"CTDIvol": 1e9},
        {"DLP": "900"},
        {"DLP": None},
        {"more": 1},
    ],
)
def test_a_line_with_one_thing_wrong_is_none(changes: dict[str, object]) -> None:
    assert read_dose_line(json.dumps(GOOD).encode()) == Raise(EXAM, Forecast(60.0, 900.0, 16))
    with pytest.raises(DecodeError):
        read_dose_line(json.dumps({**GOOD, **changes}).encode())
    for bad in (b'{"CTDIvol":NaN}', json.dumps(GOOD).encode().replace(b"60.0", b"Infinity"), b"[" * 400):
        with pytest.raises(DecodeError):
            read_dose_line(bad)


# --- accounts

DOSES = st.builds(
    Delivered,
    st.sampled_from(["a" * 16, "b" * 16]),
    st.floats(0, 100),
    st.floats(0, 100),
    st.sampled_from([0, 16, 32]),
    st.sampled_from(["", "e1", "e2", "e3"]),
)


@given(st.lists(st.lists(DOSES, max_size=6), max_size=6), st.integers(1, 4))
def test_no_report_lowers_an_account(reports: list[list[Delivered]], events: int) -> None:
    accounts = Accounts(2, events)
    before: dict[tuple[str, int], tuple[float, float]] = {}
    for doses in reports:
        accounts.add(doses)
        after = {(d.examination, d.phantom): (d.ctdivol, d.dlp) for d in accounts.all()}
        for key, (ctdivol, dlp) in before.items():
            assert after[key][0] >= ctdivol
            assert after[key][1] >= dlp - 1e-9
        for key, (ctdivol, dlp) in totals(_once(doses)).items():
            assert after[key][0] >= ctdivol
            assert after[key][1] >= dlp - 1e-9
        before = after


def _once(doses: list[Delivered]) -> list[Delivered]:
    """Each event of a report once, as `delivered` gives them; events with one name in two examinations are two."""
    return list({(d.examination, d.event or n): d for n, d in enumerate(doses)}.values())


def test_a_cumulative_report_counts_an_event_once_and_another_report_adds() -> None:
    accounts = Accounts(8, 8)
    one, two = Delivered(EXAM, 10.0, 300.0, 16, "e1"), Delivered(EXAM, 12.0, 200.0, 16, "e2")
    assert accounts.add([one])[0].dlp == 300.0
    assert accounts.add([one, two])[0] == Delivered(EXAM, 12.0, 500.0, 16)
    nameless = replace(one, event="")
    assert accounts.add([nameless, nameless])[0].dlp == 1100.0
    assert accounts.add([nameless, nameless])[0].dlp == 1100.0  # the same report again


# --- the socket


def speak(path: Path, *pieces: bytes) -> None:
    """Say it, and wait for the end if the other side ends it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT)
        sock.connect(str(path))
        try:
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
        except OSError:
            return  # cut off


async def hear(stage: Stage, path: Path) -> DosePort:
    port = DosePort(stage.relay)
    stage.relay.doses = port
    await port.listen(path)
    return port


def test_a_delivered_dose_refuses_the_next_trigger_over_the_alert_cap(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        port = await hear(stage, tmp_path / "d.sock")
        said = load()
        stage.arm(said)
        await asyncio.to_thread(speak, tmp_path / "d.sock", dose_line(EXAM, 32, 30.0, OVER))
        await until(lambda: stage.book.of("dose_report"))
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        stage.book.commit()
        refused = stage.told_host(Refused)[-1]
        assert (refused.id, "exceeds" in refused.reason) == ("T", True)
        assert stage.link.at_gantry == [said]
        await port.close()

    run(scene)


def test_a_dose_told_before_its_examination_is_loaded_counts_when_it_is(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        port = await hear(stage, tmp_path / "d.sock")
        line = dose_line(EXAM, 32, 30.0, OVER)
        await asyncio.to_thread(speak, tmp_path / "d.sock", line, dose_line("f" * 16, 32, 1.0, 1.0))
        await asyncio.to_thread(
            speak, tmp_path / "d.sock", dose_line(EXAM, 32, 0.0, 0.0)
        )  # takes nothing back
        assert stage.relay.gate.ledgers.keys() == ()  # a flood of names makes no account forgotten
        assert stage.book.of("dose_report") == []
        said = load()
        stage.link.host_says(stage.host, said)
        assert stage.book.of("dose_report")[0]["dose"]["dlp"] == OVER
        stage.answers()
        assert stage.book.of("verdict")[-1]["verdict"] == "ALERT"
        await port.close()

    run(scene)


@pytest.mark.parametrize(
    "said",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * 100_000,
        b'{"examination":"' + b"\xff" * 40 + b'"}\n',
        b"\x00" * 700,
    ],
)
def test_what_is_no_dose_ends_its_connection_and_nothing_else(tmp_path: Path, said: bytes) -> None:
    async def scene(stage: Stage) -> None:
        path = tmp_path / "d.sock"
        port = await hear(stage, path)
        first = load()
        stage.arm(first)
        await asyncio.to_thread(speak, path, dose_line(EXAM, 32, 5.0, 100.0))
        await asyncio.to_thread(speak, path, said)
        await until(lambda: stage.book.of("dose_feed_refused"))
        assert stage.relay.gate.ledgers.of(f"e:{EXAM}").dlp == {32: 100.0}
        await asyncio.to_thread(
            speak, path, dose_line(EXAM, 32, 5.0, 120.0)[:20], dose_line(EXAM, 32, 5.0, 120.0)[20:]
        )
        await until(lambda: stage.relay.gate.ledgers.of(f"e:{EXAM}").dlp == {32: 120.0})
        assert stage.crashes == []
        await port.close()
        assert not path.exists()

    run(scene)


def test_a_flood_is_taken_at_its_own_pace_and_fills_no_log(tmp_path: Path) -> None:
    bounds = replace(CONTEXT_BOUNDS, feed_burst=10.0, feed_lines_s=20.0)

    async def scene(stage: Stage) -> None:
        stage.arm(load())
        port = DosePort(stage.relay, bounds)
        await port.listen(tmp_path / "d.sock")
        flood = b"".join(dose_line(EXAM, 32, 1.0, float(n)) for n in range(1, 5000))
        thread = threading.Thread(target=speak, args=(tmp_path / "d.sock", flood))
        thread.start()
        await asyncio.sleep(0.5)
        assert 5 <= len(stage.book.of("dose_report")) <= 200
        await port.close()
        thread.join(WAIT)
        assert stage.crashes == []

    run(scene)


def test_only_this_user_may_speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        path = tmp_path / "d.sock"
        port = await hear(stage, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(LinkError, match="another guard"):
            await DosePort(stage.relay).listen(path)
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)  # as if the peer were somebody else
        await asyncio.to_thread(speak, path, dose_line(EXAM, 32, 5.0, 100.0))
        await until(lambda: stage.book.of("dose_feed_refused"))
        monkeypatch.undo()
        assert port._told == {}
        await port.close()

    run(scene)


def test_more_connections_than_allowed_are_turned_away(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        path = tmp_path / "d.sock"
        port = await hear(stage, path)
        socks = [
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(CONTEXT_BOUNDS.feed_clients + 1)
        ]
        for sock in socks:
            sock.connect(str(path))
        await until(lambda: stage.book.of("dose_feed_refused"))
        for sock in socks:
            sock.close()
        await port.close()

    run(scene)


# --- the receiver's end


def test_the_feed_waits_for_a_relay_and_tells_it_all_again(tmp_path: Path) -> None:
    told: list[str] = []

    async def scene(stage: Stage) -> None:
        path = tmp_path / "d.sock"
        stage.arm(load())
        with DoseFeed(path, lambda kind, facts: told.append(str(facts["relay"]))) as feed:
            feed((Delivered(EXAM, 5.0, 100.0, 32, "e1"),))
            await until(lambda: told)
            for more, expected in ((200.0, 300.0), (float("inf"), CONTEXT_BOUNDS.dlp)):
                port = await hear(stage, path)
                feed((Delivered(EXAM, 5.0, more, 32, f"{more}"),))
                await until(lambda e=expected: stage.relay.gate.ledgers.of(f"e:{EXAM}").dlp.get(32) == e)
                await port.close()
        assert stage.crashes == []

    run(scene)
    assert told[:2] == ["not there", "connected"]


def test_a_real_report_by_storescu_raises_the_dose_and_the_trigger_is_refused(tmp_path: Path) -> None:
    program("storescu")
    pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")
    key = b"k" * 32
    examination = Pseudonyms(key).of("1.2.3")
    dose = [
        num("113830", "45", "mGy"),
        num("113838", str(OVER), "mGy.cm"),
        coded("113835", "113691", "IEC Body"),
    ]
    path = tmp_path / "report.dcm"
    path.write_bytes(to_bytes(report(event(uid_value="1.2.3.1", dose=dose))))

    async def scene(stage: Stage) -> None:
        port = await hear(stage, tmp_path / "d.sock")
        said = replace(load(), examination=examination)
        stage.arm(said)
        with DoseFeed(tmp_path / "d.sock") as feed:
            received = settings(tmp_path, reports=tmp_path / "received")
            with DicomService(received, Records(), feed=feed) as service:
                done = await asyncio.to_thread(storescu, service.port, path)
            assert done.returncode == 0, done.stderr
            await until(lambda: stage.book.of("dose_report"))
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        stage.book.commit()
        assert [r.id for r in stage.told_host(Refused)] == ["T"]
        assert "exceeds" in stage.told_host(Refused)[0].reason
        assert stage.link.at_gantry == [said]
        await port.close()

    run(scene)


def test_the_table_of_guard_toml(tmp_path: Path) -> None:
    text = (
        '[device]\nManufacturer = "M"\nManufacturerModelName = "N"\n[link]\ntype = "can"\n'
        '[can]\nprofile = "p"\nhost = "a"\ngantry = "b"\n[policy]\npath = "p"\nprofile = "d"\nkeys = ["k"]\n'
        '[audit]\ndir = "a"\nkey = "k"\n[control]\nsocket = "c"\n'
    )
    assert parse_config(text.encode(), tmp_path / "guard.toml").doses is None
    found = parse_config((text + "[doses]\n").encode(), tmp_path / "guard.toml")
    assert found.doses == tmp_path / "run/doses.sock"
    for bad, said in (('[doses]\nsocket = ""\n', "is empty"), ('[doses]\nsockett = "d"\n', "sockett")):
        with pytest.raises(SettingsError, match=said) as caught:
            parse_config((text + bad).encode(), tmp_path / "guard.toml")
        assert "line 2" in str(caught.value)
    dicom = text.replace('"can"', '"dicom"') + '[dicom]\n[doses]\nsocket = "d"\n'
    with pytest.raises(SettingsError, match=r"keeps accounts"):
        parse_config(dicom.encode(), tmp_path / "guard.toml")
