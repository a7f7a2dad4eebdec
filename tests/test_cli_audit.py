"""``scanward audit``: verify, show, export."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from _audit import KEY, Clock, FaultyFolder, write_log
from _audit_rules import dicom_faults, fhir_faults, octet_counted, syslog_parts
from _receivers import Collector, certificates, posted
from scanward.audit import Checkpoint, FileWitness, FolderWitness
from scanward.cli.main import cli
from scanward.keys import write_pair

pytestmark = pytest.mark.usefixtures("own_home")

RUN = [sys.executable, "-c", "from scanward.cli import main; main()"]
NASTY = json.dumps({"kind": "load", "ProtocolName": "a\x1b[2Jb\nc‮d"}).encode()
GROUPS = [[b'{"kind":"load","n":%d}' % n, b'{"kind":"release","n":%d}' % n] for n in range(12)] + [[NASTY]]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["audit", *map(str, arguments)])


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return write_pair(tmp_path / "audit", KEY)[1]


@pytest.fixture
def seen() -> list[Checkpoint]:
    return []


@pytest.fixture
def log(tmp_path: Path, seen: list[Checkpoint]) -> Path:
    disk = FaultyFolder()
    write_log(disk, GROUPS, witness=seen.append)
    return disk.dump(tmp_path / "log")


# --- verify


def test_verify_says_every_step(log: Path, public: Path, tmp_path: Path, seen: list[Checkpoint]) -> None:
    result = run("verify", log, "--key", public)
    assert result.exit_code == 0, result.output
    assert result.output.count(": yes") == 4
    assert "5. each witnessed checkpoint" in result.output
    assert "not checked" in result.output
    for point in seen:
        FileWitness(tmp_path / "witness.txt").keep(point)
    (tmp_path / "kept").mkdir()
    for point in seen:
        FolderWitness(tmp_path / "kept").keep(point)
    for witness in ("witness.txt", "kept"):
        result = run("verify", log, "--key", public, "--witness", tmp_path / witness)
        assert result.exit_code == 0, result.output
        assert result.output.count(": yes") == 5
        assert f"witnessed up to {seen[-1].seq}" in result.output


def test_verify_finds_and_names_an_edit(log: Path, public: Path) -> None:
    path = log / "00000001.audit"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'{"kind":"load","n":3}', b'{"kind":"load","n":4}'))
    result = run("verify", log, "--key", public)
    assert result.exit_code == 1
    assert "BROKEN" in result.output
    told = json.loads(run("verify", log, "--key", public, "--json").output)
    assert told["ok"] is False
    finding = told["findings"][0]
    assert (finding["segment"], finding["step"]) == ("00000001.audit", 3)
    assert finding["first_seq"] == 9  # opened, six records of three groups, one checkpoint before it
    assert [s["step"] for s in told["steps"]] == [1, 2, 3, 4, 5]


def test_verify_needs_a_key_and_a_log(log: Path, public: Path, tmp_path: Path) -> None:
    assert run("verify", log).exit_code == 2
    assert run("verify", tmp_path / "nothing", "--key", public).exit_code == 2
    (tmp_path / "empty").mkdir()
    result = run("verify", tmp_path / "empty", "--key", public, "--json")
    assert result.exit_code == 2
    assert json.loads(result.output)["error"] == "InputError"
    result = run("verify", log, "--key", public, "--witness", tmp_path / "gone")
    assert result.exit_code == 2


def test_another_key_does_not_verify(log: Path, tmp_path: Path) -> None:
    from _audit import OTHER_KEY

    other = write_pair(tmp_path / "other", OTHER_KEY)[1]
    result = run("verify", log, "--key", other)
    assert result.exit_code == 1
    assert "not signed by a trusted key" in result.output


# --- show


def test_show_escapes_what_a_host_may_have_written(log: Path) -> None:
    result = run("show", log, "--kind", "load")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 13
    assert "\x1b" not in result.output
    assert "‮" not in result.output
    assert "\\u202e" in lines[-1]


def test_show_chooses_by_kind_time_and_number(log: Path) -> None:
    everything = [json.loads(line) for line in run("show", log, "--json").output.splitlines()]
    assert [told["seq"] for told in everything] == list(range(1, len(everything) + 1))
    releases = run("show", log, "--kind", "release", "--json").output.splitlines()
    assert [json.loads(line)["record"]["n"] for line in releases] == list(range(12))
    after = run("show", log, "--after", 20, "--json").output.splitlines()
    assert json.loads(after[0])["seq"] == 21
    assert run("show", log, "--since", "2027-01-15T08:00:01").output == ""
    assert run("show", log, "--until", "2027-01-15T07:59").output == ""
    assert len(run("show", log, "--since", "2027-01-15T09:00+01:00").output.splitlines()) == len(everything)
    assert run("show", log, "--since", "yesterday").exit_code == 2


def test_show_stops_at_damage_unless_told_otherwise(log: Path) -> None:
    path = log / "00000001.audit"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"n":3', b'"n":4', 1))
    result = run("show", log)
    assert result.exit_code == 1
    assert "audit verify" in result.output
    past = run("show", log, "--past-damage", "--kind", "release", "--json")
    assert past.exit_code == 0
    assert len(past.output.splitlines()) == 12


def test_show_follows(tmp_path: Path) -> None:
    disk, clock = FaultyFolder(), Clock()
    write_log(disk, [[b'{"kind":"one"}']], clock=clock)
    log = disk.dump(tmp_path / "log")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from scanward.cli import main; main()",
            "audit",
            "show",
            str(log),
            "--follow",
            "--json",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        kinds = [json.loads(process.stdout.readline())["kind"] for _ in range(4)]
        assert "one" in kinds
        write_log(disk, [[b'{"kind":"two"}']], clock=clock)
        for name, file in disk.files.items():  # as a writer does: nothing is taken away in between
            (log / name).write_bytes(file.seen)
        deadline = time.monotonic() + 60
        while "two" not in kinds:
            assert time.monotonic() < deadline
            kinds.append(json.loads(process.stdout.readline())["kind"])
        assert kinds.count("one") == 1
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
    assert status == 130


# --- export


def test_export_to_files(log: Path, tmp_path: Path) -> None:
    for form in ("syslog", "atna", "fhir", "webhook"):
        result = run("export", log, "--to", form, "--out", tmp_path / form, "--source", "guard-1", "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.output)
        lines = (tmp_path / form).read_bytes().splitlines()
        assert told["delivered"] == told["last_seq"] == len(lines) > 25
        for line in lines:
            if form == "syslog":
                syslog_parts(line)
            elif form == "atna":
                assert dicom_faults(line.decode()) == []
            elif form == "fhir":
                assert fhir_faults(json.loads(line)) == []
            else:
                assert json.loads(line)["source"] == "guard-1"


def test_export_goes_on_where_it_stopped(log: Path, tmp_path: Path) -> None:
    state, out = tmp_path / "state.json", tmp_path / "out"
    arguments = ("export", log, "--to", "fhir", "--out", out, "--state", state, "--quiet")
    assert run(*arguments).exit_code == 0
    first = out.read_bytes()
    assert run(*arguments).exit_code == 0
    assert out.read_bytes() == first
    assert run(*arguments, "--after", 10).exit_code == 0
    assert out.read_bytes() != first
    state.write_text(json.dumps({"log_id": "00" * 16, "seq": 3}))
    assert "another log" in run(*arguments).output
    state.write_text("nonsense")
    assert run(*arguments).exit_code == 2


def test_export_over_tls_makes_a_witness(
    log: Path, public: Path, tmp_path: Path, seen: list[Checkpoint]
) -> None:
    pems = certificates(tmp_path)
    server = Collector((pems[1], pems[2]))
    try:
        result = run(
            *("export", log, "--to", "atna", "--checkpoints", "--host", "localhost"),
            *("--port", server.port, "--ca", pems[0]),
        )
        assert result.exit_code == 0, result.output
    finally:
        server.close()
    messages = octet_counted(bytes(server.streams[0]))
    assert len(messages) == len(seen)
    (tmp_path / "witness.log").write_bytes(b"\n".join(messages))
    result = run("verify", log, "--key", public, "--witness", tmp_path / "witness.log")
    assert result.exit_code == 0, result.output


def test_export_that_fails_says_where_to_go_on(log: Path, tmp_path: Path) -> None:
    with posted() as server:
        server.statuses = [200] * 5 + [400]
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        result = run("export", log, "--to", "webhook", "--url", url, "--unsafe-plaintext")
    assert result.exit_code == 1
    assert "status 400" in result.output
    assert "--after 0" in result.output
    assert len(server.bodies) == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ("--to", "syslog"),
        ("--to", "fhir", "--host", "x"),
        ("--to", "syslog", "--url", "https://x/"),
        ("--to", "syslog", "--host", "x", "--out", "y"),
        ("--to", "fhir", "--url", "http://x/"),
        ("--to", "paper", "--out", "y"),
    ],
)
def test_export_refuses_what_makes_no_sense(log: Path, arguments: tuple[str, ...]) -> None:
    assert run("export", log, *arguments).exit_code == 2
