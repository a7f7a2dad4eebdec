"""Shipping against receivers: rsyslog (Debian's) where it is installed, and servers of the standard library."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from _audit import KEY, FaultyFolder, records, write_log
from _audit_rules import dicom_faults, fhir_faults, octet_counted, syslog_parts
from _receivers import Collector, certificates, free_port, posted
from scanward.audit import Checkpoint, verify, witnessed
from scanward.config import SHIPPING_BOUNDS
from scanward.errors import AuditError, InputError, ShippingError
from scanward.shipping import (
    Poster,
    Source,
    SyslogSender,
    SyslogWitness,
    audit_message,
    batch,
    deliver,
    dicom_message,
    event_of,
    record_message,
)

SOURCE = Source("guard-1", "site", "guard.example.org")
PATIENCE_S = 60.0
QUICK = replace(SHIPPING_BOUNDS, connect_s=5.0, first_wait_s=0.0, longest_wait_s=0.0, attempts=3)
GROUPS = [
    [b'{"kind":"hold","reason":"n\xc3\xa4chstes %d"}' % n, b'{"kind":"release","n":%d}' % n]
    for n in range(20)
]


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("pems"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    disk = FaultyFolder()
    write_log(disk, GROUPS)
    return disk.dump(tmp_path / "log")


@pytest.fixture
def collector(pems: tuple[Path, Path, Path]) -> Iterator[Collector]:
    made = Collector((pems[1], pems[2]))
    yield made
    made.close()


def test_messages_arrive_over_tls_octet_counted(
    collector: Collector, pems: tuple[Path, Path, Path], log: Path
) -> None:
    events = [event_of(r, "4c" * 16) for r in records(log)]
    with SyslogSender("localhost", collector.port, ca=pems[0]) as sender:
        for event in events:
            sender.send(record_message(event, SOURCE))
            sender.send(dicom_message(audit_message(event, SOURCE), event, SOURCE))
    collector.close()
    messages = octet_counted(bytes(collector.streams[0]))
    assert len(messages) == 2 * len(events)
    for plain, dicom, event in zip(messages[::2], messages[1::2], events, strict=True):
        assert syslog_parts(plain)["msgid"].decode() == event.kind
        assert dicom_faults(syslog_parts(dicom)["msg"].decode("utf-8-sig")) == []


@pytest.mark.parametrize("wrong", ["another CA", "another name"])
def test_a_server_with_the_wrong_certificate_gets_nothing(
    wrong: str, tmp_path: Path, collector: Collector, pems: tuple[Path, Path, Path]
) -> None:
    other = certificates(tmp_path, name="elsewhere.example.org")
    if wrong == "another CA":
        sender = SyslogSender("localhost", collector.port, ca=other[0])
    else:
        collector._context.load_cert_chain(other[1], other[2])  # type: ignore[union-attr]
        sender = SyslogSender("localhost", collector.port, ca=other[0])
    with sender, pytest.raises(ShippingError, match="certificate is refused"):
        sender.send(b"secret")
    collector.close()
    assert not any(collector.streams)


def test_no_tls_only_when_asked_for_by_its_name() -> None:
    plain = Collector(None)
    try:
        impatient = replace(QUICK, connect_s=0.5)
        with SyslogSender("127.0.0.1", plain.port, bounds=impatient) as sender, pytest.raises(ShippingError):
            sender.send(b"secret")
        with SyslogSender("127.0.0.1", plain.port, unsafe_plaintext=True) as sender:
            sender.send(b"open")
    finally:
        plain.close()
    assert not any(b"secret" in s for s in plain.streams)
    assert plain.streams[-1] == b"4 open"


def test_a_connection_that_was_cut_is_noticed_and_made_again(
    collector: Collector, pems: tuple[Path, Path, Path]
) -> None:
    collector.close_after = 1
    with SyslogSender("localhost", collector.port, ca=pems[0]) as sender:
        for number in range(3):
            sender.send(b"message %d" % number)
            until = time.monotonic() + PATIENCE_S
            while not sender._closed_by_peer(sender._socket):  # type: ignore[arg-type]
                assert time.monotonic() < until
                time.sleep(0.01)
    collector.close()
    assert [octet_counted(bytes(s)) for s in collector.streams] == [[b"message %d" % n] for n in range(3)]


def test_nobody_there_is_an_error_of_ours(pems: tuple[Path, Path, Path]) -> None:
    with SyslogSender("localhost", free_port(), ca=pems[0]) as sender:
        with pytest.raises(ShippingError, match="cannot be reached"):
            sender.send(b"x")
        with pytest.raises(ShippingError, match="bytes"):
            sender.send(b"x" * (SHIPPING_BOUNDS.syslog_bytes + 1))
        witness = SyslogWitness(sender, SOURCE)
        with pytest.raises(AuditError, match="cannot be reached"):
            witness.keep(Checkpoint.sign(KEY, b"L" * 16, 1, bytes(32), 0))
    with pytest.raises(InputError, match="certificates"):
        SyslogSender("localhost", ca=pems[2])


# --- rsyslog


@pytest.fixture
def rsyslog(tmp_path: Path, pems: tuple[Path, Path, Path]) -> Iterator[tuple[int, Path, Path]]:
    """Debian's rsyslog with GnuTLS on a port: the port, a file of whole messages, a file of parsed fields."""
    program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    if not Path(program).exists() or not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        pytest.skip("rsyslog with GnuTLS is not installed (Debian: rsyslog rsyslog-gnutls)")
    port = free_port()
    whole, fields = tmp_path / "whole.log", tmp_path / "fields.log"
    config = tmp_path / "rsyslog.conf"
    config.write_text(
        f"""
global(workDirectory="{tmp_path}" maxMessageSize="64k"
       defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{pems[0]}"
       defaultNetstreamDriverCertFile="{pems[1]}" defaultNetstreamDriverKeyFile="{pems[2]}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.Authmode="anon")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="whole" type="string" string="%rawmsg%\\n")
template(name="fields" type="string"
         string="%syslogfacility%|%syslogseverity%|%hostname%|%app-name%|%procid%|%msgid%|%timereported:::date-rfc3339%\\n")
action(type="omfile" file="{whole}" template="whole" asyncWriting="off")
action(type="omfile" file="{fields}" template="fields" asyncWriting="off")
"""
    )
    process = subprocess.Popen(
        [program, "-n", "-f", str(config), "-i", str(tmp_path / "rsyslog.pid")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with SyslogSender("localhost", port, ca=pems[0]) as sender:
                    sender._connected()
                break
            except OSError:
                assert process.poll() is None, "rsyslog ended"
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port, whole, fields
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def lines_of(path: Path, count: int) -> list[bytes]:
    """The file's lines once there are ``count``."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        lines = path.read_bytes().splitlines() if path.exists() else []
        if len(lines) >= count:
            return lines
        assert time.monotonic() < deadline, (len(lines), count)
        time.sleep(0.05)


def test_rsyslog_reads_what_we_send_and_is_a_witness(
    rsyslog: tuple[int, Path, Path], pems: tuple[Path, Path, Path], log: Path
) -> None:
    port, whole, fields = rsyslog
    events = [event_of(r, "4c" * 16) for r in records(log)]
    with SyslogSender("localhost", port, ca=pems[0]) as sender:
        for event in events:
            sender.send(record_message(event, SOURCE))
    lines = lines_of(whole, len(events))
    assert lines == [record_message(event, SOURCE) for event in events]
    parsed = [line.decode().split("|") for line in lines_of(fields, len(events))]
    for got, event in zip(parsed, events, strict=True):
        assert got[:6] == [
            "10",
            {0: "5", 4: "4"}[event.meaning.outcome],
            "guard.example.org",
            "scanward",
            "guard-1",
            event.kind,
        ]
        assert got[6].startswith(event.time[:19])
    # The server's own file serves as the witness.
    seen = witnessed(whole)
    assert len(seen) == sum(event.is_checkpoint for event in events) > 3
    report = verify(log, [KEY.verify_key], seen)
    assert report.ok
    path = sorted(log.glob("*.audit"))[-1]
    path.write_bytes(path.read_bytes()[:-900])
    report = verify(log, [KEY.verify_key], seen)
    assert [f.step for f in report.findings] == [5]


def test_rsyslog_carries_dicom_audit_messages_whole(
    rsyslog: tuple[int, Path, Path], pems: tuple[Path, Path, Path], log: Path
) -> None:
    port, whole, fields = rsyslog
    events = [event_of(r, "4c" * 16) for r in records(log)][:20]
    with SyslogSender("localhost", port, ca=pems[0]) as sender:
        for event in events:
            sender.send(dicom_message(audit_message(event, SOURCE), event, SOURCE))
    for line in lines_of(whole, len(events)):
        assert dicom_faults(syslog_parts(line)["msg"].decode("utf-8-sig")) == []
    assert {line.split(b"|")[5] for line in lines_of(fields, len(events))} == {b"DICOM+RFC3881"}


# --- HTTP


def test_a_fhir_server_gets_batches_and_a_webhook_single_records(
    pems: tuple[Path, Path, Path], log: Path
) -> None:
    events = [event_of(r, "4c" * 16) for r in records(log)][:7]
    with posted((pems[1], pems[2])) as server:
        base = f"https://localhost:{server.server_address[1]}/fhir"
        poster = Poster(base, content_type="application/fhir+json", ca=pems[0], bounds=QUICK)
        poster.post(batch(events, SOURCE))
        hook = Poster(base + "/hook?x=1", content_type="application/json", ca=pems[0], bounds=QUICK)
        for event in events:
            deliver(hook, event, SOURCE)
    path, headers, body = server.bodies[0]
    assert (path, headers["content-type"]) == ("/fhir", "application/fhir+json")
    entries = json.loads(body)["entry"]
    assert [fhir_faults(entry["resource"]) for entry in entries] == [[]] * 7
    told = [json.loads(body) for _, _, body in server.bodies[1:]]
    assert [t["seq"] for t in told] == [e.seq for e in events]
    assert {h["idempotency-key"] for _, h, _ in server.bodies[1:]} == {e.uri for e in events}
    assert {p for p, _, _ in server.bodies[1:]} == {"/fhir/hook?x=1"}


@pytest.mark.parametrize(
    ("statuses", "posts", "error"),
    [
        ([503, 429], 3, ""),
        ([503] * 9, 3, "status 503"),
        ([400], 1, "status 400"),
        ([302], 1, "status 302"),
    ],
)
def test_retries_are_bounded_and_redirects_not_followed(statuses: list[int], posts: int, error: str) -> None:
    waits: list[float] = []
    bounds = replace(QUICK, first_wait_s=0.5, longest_wait_s=0.75)
    with posted() as server:
        server.statuses = statuses
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        poster = Poster(
            url, content_type="text/plain", unsafe_plaintext=True, bounds=bounds, sleep=waits.append
        )
        if error:
            with pytest.raises(ShippingError, match=error):
                poster.post(b"x")
        else:
            poster.post(b"x")
    assert len(server.bodies) == posts
    assert waits == [0.5, 0.75][: posts - 1]


def test_a_web_server_with_the_wrong_certificate_gets_nothing(
    tmp_path: Path, pems: tuple[Path, Path, Path]
) -> None:
    other = certificates(tmp_path)
    with posted((pems[1], pems[2])) as server:
        url = f"https://localhost:{server.server_address[1]}/"
        poster = Poster(url, content_type="text/plain", ca=other[0], bounds=QUICK, sleep=lambda _: None)
        with pytest.raises(ShippingError, match="certificate is refused"):
            poster.post(b"x")
    assert server.bodies == []


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "ftp://example.org/", "https://", "nonsense", "https://u:p@h/", "https://h:x/"],
)
def test_bad_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError):
        Poster(url, content_type="text/plain")
