"""Peers that break the rules: bounded, own errors, recorded, nothing forwarded, and the next honest one is served."""

from __future__ import annotations

import io
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEGBaseline8Bit

from _dicom import DEFINED, LOCAL, Records, brisk, file_of, head
from scanward.config import DicomBounds
from scanward.links.dicom_worklist import MODALITY_WORKLIST, Worklist
from scanward.transport.dicom import Acceptor, Caller, Incoming, Peer, Reply

pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

BOUNDS = brisk(unanswered_bytes=1 << 20, idle_seconds=1.5)
ECHO_REQUEST_CLASS = "1.2.840.10008.1.1"


class Door:
    """An acceptor with what it let through and what it told."""

    def __init__(self, bounds: DicomBounds = BOUNDS, **more: Any) -> None:
        self.records, self.through = Records(), list[Incoming]()
        self.acceptor = Acceptor(
            (LOCAL, 0),
            "GUARD",
            callers=frozenset({"SENDER"}),
            classes=frozenset({DEFINED}),
            store=self._store,
            bounds=bounds,
            tell=self.records,
            **more,
        )

    def _store(self, incoming: Incoming) -> Reply:
        self.through.append(incoming)
        return Reply(0)

    def ended(self, count: int = 1, seconds: float = 20.0) -> list[dict[str, object]]:
        """Records of ended associations, once there are ``count``."""
        until = time.monotonic() + seconds
        while len(self.records.of("dicom-association-ended")) < count and time.monotonic() < until:
            time.sleep(0.02)
        return self.records.of("dicom-association-ended")

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection((LOCAL, self.acceptor.port), 10)

    def serves(self) -> bool:
        """Whether an honest peer is still answered."""
        before = len(self.through)
        sent = Caller("SENDER").store(Peer(LOCAL, self.acceptor.port, "GUARD"), DEFINED, file_of(head()))
        return sent.reply == Reply(0) and len(self.through) == before + 1


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    with made.acceptor:
        yield made


def associate(syntaxes: tuple[str, ...] = ("1.2.840.10008.1.2.1",), sop_class: str = DEFINED) -> bytes:
    """An A-ASSOCIATE-RQ, made by hand (PS3.8 9.3.2)."""

    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(body)) + body

    context = struct.pack(">B3x", 1) + item(0x30, sop_class.encode())
    context += b"".join(item(0x40, each.encode()) for each in syntaxes)
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3")
    body = struct.pack(">HH", 1, 0) + b"GUARD".ljust(16) + b"SENDER".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BxL", 1, len(body)) + body


def data_pdu(body: bytes, control: int) -> bytes:
    """A P-DATA-TF with one fragment."""
    value = struct.pack(">LBB", len(body) + 2, 1, control) + body
    return struct.pack(">BxL", 4, len(value)) + value


def store_command(instance: str = "1.2.3", sop_class: str = DEFINED) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1)."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = element(2, sop_class.encode()) + element(0x100, struct.pack("<H", 1))
    body += element(0x110, struct.pack("<H", 1)) + element(0x700, struct.pack("<H", 0))
    body += element(0x800, struct.pack("<H", 1)) + element(0x1000, instance.encode())
    return element(0, struct.pack("<L", len(body))) + body


def accepted(raw: socket.socket) -> None:
    """Ask for an association and read the A-ASSOCIATE-AC."""
    raw.sendall(associate())
    header = raw.recv(6, socket.MSG_WAITALL)
    assert header[0] == 2
    raw.recv(struct.unpack(">L", header[2:])[0], socket.MSG_WAITALL)


def all_of(raw: socket.socket) -> bytes:
    """Whatever comes until the connection ends."""
    found = b""
    try:
        while data := raw.recv(65536):
            found += data
    except OSError:
        pass
    return found


# --- one at a time


def nothing(raw: socket.socket) -> None:
    """Connects and says nothing."""


def web(raw: socket.socket) -> None:
    raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def four_gigabytes(raw: socket.socket) -> None:
    raw.sendall(struct.pack(">BxL", 1, 0xFFFFFFFF) + b"x" * 1000)


def four_gigabytes_of_data(raw: socket.socket) -> None:
    accepted(raw)
    raw.sendall(struct.pack(">BxL", 4, 0xFFFFFFF0) + b"x" * 1000)


def half_a_header(raw: socket.socket) -> None:
    raw.sendall(b"\x01\x00\x00")


def one_byte_at_a_time(raw: socket.socket) -> None:
    for byte in associate():
        try:
            raw.send(bytes([byte]))
        except OSError:
            return
        time.sleep(0.05)


def silent_after_association(raw: socket.socket) -> None:
    accepted(raw)


def command_without_its_data(raw: socket.socket) -> None:
    accepted(raw)
    raw.sendall(data_pdu(store_command(), 3))


def an_object_without_end(raw: socket.socket) -> None:
    accepted(raw)
    raw.sendall(data_pdu(store_command(), 3))
    try:
        while True:
            raw.sendall(data_pdu(b"x" * 16000, 0))
    except OSError:
        return


def a_second_request_before_the_answer(raw: socket.socket) -> None:
    accepted(raw)
    one = data_pdu(store_command(), 3) + data_pdu(b"", 2)
    raw.sendall(one * 50)


def fragments_that_overrun(raw: socket.socket) -> None:
    accepted(raw)
    raw.sendall(struct.pack(">BxL", 4, 10) + struct.pack(">LBB", 1 << 20, 1, 3) + b"abcd")


def an_endless_command(raw: socket.socket) -> None:
    accepted(raw)
    try:
        for _ in range(100):
            raw.sendall(data_pdu(b"\0" * 16000, 1))
    except OSError:
        return


def no_pdu_type(raw: socket.socket) -> None:
    accepted(raw)
    raw.sendall(struct.pack(">BxL", 9, 4) + b"abcd")


def a_broken_association(raw: socket.socket) -> None:
    damaged = bytearray(associate())
    damaged[74:110] = b"\xff" * 36
    raw.sendall(damaged)


def data_before_association(raw: socket.socket) -> None:
    raw.sendall(data_pdu(store_command(), 3))


def two_associations(raw: socket.socket) -> None:
    accepted(raw)
    raw.sendall(associate())


HOSTILE = [
    (nothing, "silent for too long"),
    (web, "not DICOM"),
    (four_gigabytes, "too many bytes"),
    (four_gigabytes_of_data, "too many bytes"),
    (half_a_header, "too slow"),
    (one_byte_at_a_time, "too slow"),
    (silent_after_association, "silent for too long"),
    (command_without_its_data, "silent for too long"),
    (an_object_without_end, "too many bytes"),
    (a_second_request_before_the_answer, "too many bytes"),
    (fragments_that_overrun, "not DICOM"),
    (an_endless_command, "too many bytes"),
    (no_pdu_type, "not DICOM"),
    (a_broken_association, ""),
    (data_before_association, ""),
    (two_associations, ""),
]


@pytest.mark.parametrize(("act", "reason"), HOSTILE, ids=[act.__name__ for act, _ in HOSTILE])
def test_a_hostile_peer_is_ended_recorded_and_forwards_nothing(
    door: Door, act: Callable[[socket.socket], None], reason: str
) -> None:
    with door.connect() as raw:
        raw.settimeout(20)
        act(raw)
        all_of(raw)
    ended = door.ended()
    assert len(ended) == 1
    if reason:
        assert ended[0]["reason"] == reason
    assert len(door.through) <= (1 if act is a_second_request_before_the_answer else 0)
    assert int(str(ended[0]["received_bytes"])) < 4 * BOUNDS.unanswered_bytes
    assert door.serves()


def test_a_sender_that_aborts_in_the_middle_of_an_object(door: Door) -> None:
    with door.connect() as raw:
        accepted(raw)
        raw.sendall(data_pdu(store_command(), 3) + data_pdu(file_of(head())[:500], 0))
        raw.sendall(bytes.fromhex("07000000000400000000"))
    assert len(door.ended()) == 1
    assert door.through == []
    assert door.serves()


def test_unsupported_classes_and_syntaxes_get_no_context(door: Door) -> None:
    from pynetdicom import AE

    for sop_class, syntax in (
        (DEFINED, ExplicitVRBigEndian),
        (DEFINED, JPEGBaseline8Bit),
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"),
    ):
        entity = AE("SENDER")
        entity.add_requested_context(sop_class, syntax)
        association = entity.associate(LOCAL, door.acceptor.port, ae_title="GUARD")
        assert association.accepted_contexts == []
        association.abort()
    assert door.through == []


def test_fifty_at_once_are_bounded_and_honest_ones_are_served_again(door: Door) -> None:
    before = threading.active_count()
    many = [door.connect() for _ in range(50)]
    until = time.monotonic() + 10
    while (
        len(door.records.of("dicom-refused-at-door")) < 50 - BOUNDS.associations and time.monotonic() < until
    ):
        time.sleep(0.02)
    threads = threading.active_count() - before
    refused = door.records.of("dicom-refused-at-door")
    assert len(refused) == 50 - BOUNDS.associations
    assert threads <= 3 * BOUNDS.associations
    answers = [raw.recv(10) for raw in many[BOUNDS.associations :]]
    assert {answer[:1] for answer in answers} == {b"\x03"}
    for raw in many:
        raw.close()
    door.ended(BOUNDS.associations)
    assert door.serves()
    until = time.monotonic() + 10
    while threading.active_count() - before > 3 and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() - before <= 3


def test_memory_stays_flat_under_objects_without_end(door: Door) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with door.connect() as raw:
        an_object_without_end(raw)
    before = peak()
    for _ in range(10):
        with door.connect() as raw:
            an_object_without_end(raw)
    door.ended(11)
    assert peak() - before < 16 << 10  # KiB; 11 objects of 1 MiB each went in


def test_a_host_that_may_not_connect_is_turned_away() -> None:
    made = Door(hosts=frozenset({"192.0.2.1"}))
    with made.acceptor, made.connect() as raw:
        assert all_of(raw) == b""
    assert made.records.of("dicom-refused-at-door")[0]["reason"] == "not one of the hosts that may connect"


def test_a_handshake_that_never_comes_blocks_nobody(tmp_path: Path) -> None:
    """TLS: the silent one has a thread of its own, plain DICOM is refused, and a certified peer is served."""
    server, client, stranger = certificates(tmp_path)
    made = Door(brisk(handshake_seconds=1.0), context=server)
    with made.acceptor:
        port = made.acceptor.port
        silent = made.connect()
        plain = Caller("SENDER").store(Peer(LOCAL, port, "GUARD"), DEFINED, file_of(head()))
        assert plain.reply is None
        good = Caller("SENDER").store(
            Peer(LOCAL, port, "GUARD", client, "localhost"), DEFINED, file_of(head())
        )
        assert good.reply == Reply(0)
        bad = Caller("SENDER").store(
            Peer(LOCAL, port, "GUARD", stranger, "localhost"), DEFINED, file_of(head())
        )
        assert bad.reply is None
        assert len(made.through) == 1
        all_of(silent)
        silent.close()
        reasons = [str(r["reason"]) for r in made.ended(4)]
    assert reasons.count("TLS handshake failed") == 3


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server, of a client with a certificate of the same authority, and of one without."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def made(name: str, issuer: Any = None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        )
        return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key

    authority = made("authority")
    other = made("other authority")
    (folder / "ca.pem").write_bytes(authority[0].public_bytes(serialization.Encoding.PEM))
    contexts = []
    for name, issuer, kind in (
        ("server", authority, ssl.PROTOCOL_TLS_SERVER),
        ("client", authority, ssl.PROTOCOL_TLS_CLIENT),
        ("stranger", other, ssl.PROTOCOL_TLS_CLIENT),
    ):
        certificate, key = made(name, issuer)
        path = folder / f"{name}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(kind)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(path)
        context.load_verify_locations(folder / "ca.pem")
        contexts.append(context)
    return contexts[0], contexts[1], contexts[2]


# --- hostile servers: what the guard asks is on the same network


def test_a_scanner_that_answers_with_gigabytes_is_no_answer() -> None:
    with hostile_server(lambda raw: raw.sendall(struct.pack(">BxL", 2, 0xFFFFFFFF))) as peer:
        sent = Caller("GUARD", bounds=BOUNDS).store(peer, DEFINED, file_of(head()))
    assert sent.reply is None
    assert "at most" in sent.why or "no association" in sent.why


def test_a_scanner_that_never_answers_is_given_up() -> None:
    began = time.monotonic()
    with hostile_server(lambda raw: time.sleep(3)) as peer:
        sent = Caller("GUARD", bounds=brisk(negotiation_seconds=0.5)).store(peer, DEFINED, file_of(head()))
    assert sent.reply is None
    assert not sent.begun
    assert time.monotonic() - began < 20


class hostile_server:
    """Accepts one connection, reads a little, and acts."""

    def __init__(self, act: Callable[[socket.socket], object]) -> None:
        self._act = act
        self._socket = socket.create_server((LOCAL, 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            raw, _ = self._socket.accept()
        except OSError:
            return
        with raw:
            raw.settimeout(10)
            try:
                raw.recv(65536)
                self._act(raw)
            except OSError:
                return

    def __enter__(self) -> Peer:
        self._thread.start()
        return Peer(LOCAL, self._socket.getsockname()[1], "SCANNER")

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._socket.close()


def test_what_is_sent_is_what_was_given(door: Door) -> None:
    """The honest way, byte by byte: the data set that arrives is the one in the file."""
    data = file_of(head())
    Caller("SENDER").store(Peer(LOCAL, door.acceptor.port, "GUARD"), DEFINED, data)
    sent = dcmread(io.BytesIO(data))
    assert door.through[0].sop_instance == sent.SOPInstanceUID
    assert data.endswith(door.through[0].data)


# --- a worklist that lies, babbles, hangs


def entry(patient: str = "P1") -> Any:
    """A worklist entry."""
    made = Dataset()
    made.PatientID = patient
    made.PatientBirthDate = "19500101"
    made.PatientSex = "M"
    return made


def endless(event: Any) -> Iterator[tuple[int, Any]]:
    while True:
        yield 0xFF00, entry()


def huge(event: Any) -> Iterator[tuple[int, Any]]:
    made = entry()
    made.add_new("TextValue", "UT", "x" * (8 << 20))
    yield 0xFF00, made


def somebody_else(event: Any) -> Iterator[tuple[int, Any]]:
    yield 0xFF00, entry("P2")


def failing(event: Any) -> Iterator[tuple[int, Any]]:
    yield 0xFF00, entry()
    yield 0xA900, None


def hanging(event: Any) -> Iterator[tuple[int, Any]]:
    yield 0xFF00, entry()
    time.sleep(3)


def honest(event: Any) -> Iterator[tuple[int, Any]]:
    yield 0xFF00, entry()


@pytest.mark.parametrize("act", [endless, huge, somebody_else, failing, hanging, honest])
def test_only_an_honest_worklist_is_heard(act: Callable[[Any], Iterator[tuple[int, Any]]]) -> None:
    from pynetdicom import AE, evt

    entity = AE("WORKLIST")
    entity.add_supported_context(MODALITY_WORKLIST)
    server = entity.start_server((LOCAL, 0), block=False, evt_handlers=[(evt.EVT_C_FIND, act)])
    bounds = brisk(unanswered_bytes=1 << 20, answer_seconds=1.0)
    began = time.monotonic()
    try:
        peer = Peer(LOCAL, server.server_address[1], "WORKLIST")
        answer = Worklist(Caller("GUARD", bounds=bounds), peer).ask(patient="P1", today="20260101")
    finally:
        server.shutdown()
    assert time.monotonic() - began < 30
    if act is honest:
        assert {name: told[0].value for name, told in answer.parts.items()} == {
            "PatientAge": 76.0,
            "PatientSex": "M",
        }
    else:
        assert answer.parts == {}
        assert answer.reason
