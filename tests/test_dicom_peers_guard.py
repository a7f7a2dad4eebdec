"""The whole DICOM guard: `scanward dicom serve` in a process, DCMTK and Orthanc around it, an operator's signed act."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from _dicom import (
    LOCAL,
    Records,
    book_in,
    file_of,
    free_port,
    head,
    orthanc,
    settings,
    storescp,
    storescu,
    wait_for,
)
from _guard import ANNA, CARL, DEVICE_TOML, SITE_KEY, policy_text
from _guard_site import GuardSite
from dicom_builders.dose_reports import event, report, to_bytes
from scanward.audit.frames import Kind
from scanward.audit.reading import read
from scanward.cli.main import cli
from scanward.guard.control_client import ControlClient, shown_digest
from scanward.guard.dicom_service import DicomService
from scanward.guard.operators import Act, ActKind
from scanward.guard.policy_signing import POLICY, PROFILE, sign
from scanward.keys import SigningKey, write_pair
from scanward.transport.dicom import Peer

pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")


def site(folder: Path, scanner: Peer, port: int, extra: str = "", **change: str) -> Path:
    """A folder with everything that the guard needs; its guard.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pair(folder / "site", SITE_KEY)
    write_pair(folder / "log", SigningKey.from_seed(bytes([9]) * 32))
    for name, kind, text in (
        ("device.toml", PROFILE, DEVICE_TOML),
        ("policy.toml", POLICY, policy_text()),
    ):
        (folder / name).write_text(text, "utf-8")
        sign(folder / name, kind, text.encode(), SITE_KEY)
    book_in(folder / "protocols", head())
    (folder / "protocols").chmod(0o755)
    text = f"""
[device]
Manufacturer = "Simulated Sigma"
ManufacturerModelName = "S-128"
[link]
type = "dicom"
[dicom]
title = "GUARD"
listen = "{LOCAL}:{port}"
unsafe_plaintext = true
[dicom.protocols]
callers = ["SENDER", "ORTHANC"]
scanner = "{scanner.title}@{scanner.host}:{scanner.port}"
book = ["protocols"]
[dicom.reports]
callers = ["CT1"]
folder = "received"
{extra}
[policy]
path = "policy.toml"
profile = "device.toml"
keys = ["site.pub"]
[audit]
dir = "audit"
key = "log.key"
[control]
socket = "c.sock"
"""
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "guard.toml").write_text(text)
    return folder / "guard.toml"


@contextmanager
def guard(config: Path, port: int) -> Iterator[subprocess.Popen[Any]]:
    """The real process, ended by SIGTERM."""
    command = [sys.executable, "-c", "from scanward.cli import main; main()", "dicom", "serve"]
    with (config.parent / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*command, "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=err,
            env={**os.environ, "PYTHONDEVMODE": ""},
        )
    try:
        wait_for(port, process, 60)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert status == 0, (config.parent / "stderr").read_text()


def test_an_operator_releases_what_the_screen_shows_and_the_log_holds_it_all(tmp_path: Path) -> None:
    new = tmp_path / "new.dcm"
    new.write_bytes(file_of(head(name="CT Head New")))
    known = tmp_path / "known.dcm"
    known.write_bytes(file_of(head()))
    port = free_port()
    with storescp(tmp_path / "scanner") as scanner:
        config = site(tmp_path / "site", scanner, port)
        with guard(config, port):
            assert storescu(port, known).returncode == 0
            answers: list[subprocess.CompletedProcess[str]] = []
            sender = threading.Thread(target=lambda: answers.append(storescu(port, new)))
            with ControlClient(tmp_path / "site" / "c.sock") as terminal:
                sender.start()
                held = _held(terminal)
                assert "CT Head New" in held["reason"]
                assert [e["command"]["parameters"].get("CTDIvol") for e in held["chain"]] == [None, 60.0]
                wrong = Act(ActKind.RELEASE, "anna", held["request"], "0" * 64, "seen")
                assert not terminal.act(wrong, ANNA).done
                refuser = Act(ActKind.RELEASE, "carl", held["request"], shown_digest(held), "seen")
                assert not terminal.act(refuser, CARL).done
                forged = Act(ActKind.RELEASE, "anna", held["request"], shown_digest(held), "seen")
                assert not terminal.act(forged, CARL).done
                assert not list((tmp_path / "scanner").iterdir())[1:]
                assert terminal.act(forged, ANNA).done
            sender.join(60)
            assert answers[0].returncode == 0, answers[0].stderr
        assert len(list((tmp_path / "scanner").iterdir())) == 2
    said = [json.loads(r.payload) for r in read(tmp_path / "site" / "audit") if r.kind is Kind.RECORD]
    kinds = [one["kind"] for one in said]
    assert kinds[0] == "dicom-start"
    assert kinds.count("dicom-release") == kinds.count("dicom-forwarded") == 2
    released = [one for one in said if one["kind"] == "dicom-release"][1]
    assert (released["operator"], released["operator_reason"]) == ("anna", "seen")
    assert "control_wrong" in kinds


def _held(terminal: ControlClient) -> dict[str, Any]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        held = terminal.refresh()["held"]
        if held:
            assert isinstance(held, dict)
            return held
        terminal.events(0.1)
    pytest.fail("nothing came on hold")


@pytest.mark.parametrize("command", [["dicom", "serve"], ["guard"]])
def test_check_looks_at_everything_and_says_what_weakens(tmp_path: Path, command: list[str]) -> None:
    config = site(tmp_path / "site", Peer(LOCAL, 104, "SCANNER"), 11112)
    done = CliRunner().invoke(cli, [*command, "--config", str(config), "--check", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["protocols"] is facts["reports"] is True
    assert "dicom.unsafe_plaintext" in facts["weakenings"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "GUARD"', 'title = "A TITLE OF TOO MANY LETTERS"', "dicom.title: an AE title"),
        (f'listen = "{LOCAL}:11112"', 'listen = "nowhere"', "dicom.listen: is no address"),
        ("unsafe_plaintext = true", "", "neither encrypted nor authenticated"),
        ('callers = ["CT1"]', "callers = []", "dicom.reports.callers"),
        ('scanner = "SCANNER@127.0.0.1:104"', 'scanner = "SCANNER"', "is no application entity"),
        ('book = ["protocols"]', 'book = ["elsewhere"]', "dicom.protocols.book"),
        ('folder = "received"', 'folder = "received"\nfolders = 1', "dicom.reports"),
        (
            "unsafe_plaintext = true",
            '[dicom.tls]\ncertificate = "x"\nkey = "x"\nauthority = "x"',
            "dicom.tls.certificate: cannot be used",
        ),
    ],
)
def test_a_configuration_that_makes_no_sense_names_the_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    config = site(tmp_path / "site", Peer(LOCAL, 104, "SCANNER"), 11112, **{old: new})
    done = CliRunner().invoke(cli, ["dicom", "serve", "--config", str(config), "--check"])
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "line" in done.output
    assert "Traceback" not in done.output


def test_a_configuration_of_another_guard_is_refused(tmp_path: Path) -> None:
    config = GuardSite.make(tmp_path / "site", 1, None).config
    done = CliRunner().invoke(cli, ["dicom", "serve", "--config", str(config), "--check"])
    assert done.exit_code == 2
    assert "for a link of type stream" in done.output


def test_a_book_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    config = site(tmp_path / "site", Peer(LOCAL, 104, "SCANNER"), 11112)
    (tmp_path / "site" / "protocols" / "approval.dcm").chmod(0o666)
    done = CliRunner().invoke(cli, ["dicom", "serve", "--config", str(config), "--check"])
    assert done.exit_code == 2
    assert "others can write" in done.output


# --- Orthanc


def test_orthanc_sends_dose_reports_and_learns_what_became_of_them(tmp_path: Path) -> None:
    """Asked over its REST API, as a site would: the answer to the request is what the guard answered."""
    good = report(event(uid_value="1.2.3.1"), SeriesInstanceUID="1.2.3.4")
    other = report(title="126000", SOPInstanceUID="1.2.3.9", SeriesInstanceUID="1.2.3.5")
    made = settings(tmp_path, reports=tmp_path / "received", callers=frozenset({"ORTHANC"}))
    records = Records()
    with DicomService(made, records) as service, orthanc(tmp_path / "o", service.port) as archive:
        known, no_report = (_kept(archive, to_bytes(each)) for each in (good, other))
        assert archive.post("/modalities/guard/echo", b"{}")[0] == 200
        assert archive.post("/modalities/guard/store", known.encode())[0] == 200
        assert archive.post("/modalities/guard/store", no_report.encode())[0] >= 400
    assert len(list((tmp_path / "received" / "quarantine").glob("*.dcm"))) == 1
    assert [r["calling"] for r in records.of("dicom-report")] == ["ORTHANC"]
    assert len(records.of("dicom-report-refused")) == 1


def _kept(archive: Any, data: bytes) -> str:
    """Orthanc's identifier of a file put into it."""
    status, answer = archive.post("/instances", data)
    assert status == 200, answer
    return str(answer["ID"])


def test_a_scanner_that_does_not_speak_of_protocols_is_no_success(tmp_path: Path) -> None:
    """Orthanc keeps objects of patients and takes no Defined Procedure Protocol."""
    book = book_in(tmp_path / "book", head())
    path = tmp_path / "head.dcm"
    path.write_bytes(file_of(head()))
    records = Records()
    with orthanc(tmp_path / "o") as archive:
        scanner = Peer(LOCAL, archive.dicom, "ORTHANC")
        with DicomService(settings(tmp_path, scanner=scanner, book=book), records) as service:
            done = storescu(service.port, path)
        assert archive.get("/instances") == []
    assert "OutOfResources" in done.stderr
    assert "cannot be reached" in str(records.of("dicom-refused")[0]["why"])
