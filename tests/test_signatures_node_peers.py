"""`scanward node` as it is started: signed on the way into Orthanc, verified on the way out, by DCMTK too, over TLS."""

from __future__ import annotations

import datetime
import io
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydicom import dcmread

pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

from _archive import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG2000,
    NAME,
    RLE,
    STUDY,
    archive,
    picture,
    sent,
    storescp,
)
from _dicom import LOCAL, free_port, program, running, storescu
from scanward.cli.main import cli
from scanward.signatures import Signer, Trust, sign_bytes, verify_bytes
from scanward.signatures.node import Node
from scanward.signatures.node_settings import NodeSettings, OnDoubt, peer_of, tls_of
from scanward.signatures.node_work import signing, verifying
from scanward.transport.dicom import Incoming, Peer, Reply
from scanward.transport.dicom_part10 import unframed

SYNTAXES = (EXPLICIT, IMPLICIT, BIG, RLE, JPEG2000, DEFLATED)


def _certificate(
    name: str,
    issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None = None,
    *,
    ca: bool | None = None,
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A certificate for ``name``, of an authority when no issuer is given or ``ca`` says so."""
    ca = issuer is None if ca is None else ca
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=not ca,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    authority = issuer[1].public_key() if issuer else key.public_key()
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
    return made.sign(issuer[1] if issuer else key, hashes.SHA256()), key


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (ca.pem), certificates and keys of ct1, check and pacs, and one of a stranger."""
    folder = tmp_path_factory.mktemp("pki")
    authority, stranger = _certificate("Site CA"), _certificate("Other CA")
    pem = serialization.Encoding.PEM
    for name, (made, key) in {
        "ca": authority,
        "other": stranger,
        "ct1": _certificate("ct1.example.org", authority),
        "check": _certificate("check.example.org", authority),
        "pacs": _certificate("pacs.example.org", authority),
        "intruder": _certificate("ct1.example.org", stranger),
    }.items():
        (folder / f"{name}.pem").write_bytes(made.public_bytes(pem))
        path = folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
    return folder


class Running:
    """A node as a process: its port, and after the end what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first.startswith("{"):
            process.kill()
            raise AssertionError(process.communicate()[1])
        self.ready = json.loads(first)
        self.port = int(self.ready["listen"].rpartition(":")[2])
        self.printed = first
        self.errors = ""
        self.events: list[dict[str, Any]] = []

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it as an operator does."""
        self.process.send_signal(number)
        out, self.errors = self.process.communicate(timeout=60)
        self.printed += out
        self.events = [json.loads(line) for line in out.splitlines()]
        assert self.process.returncode == 0, self.errors

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind."""
        return [event for event in self.events if event["event"] == kind]


@contextmanager
def node(*arguments: str) -> Iterator[Running]:
    """``scanward node`` on a free port until the block ends."""
    command = [sys.executable, "-m", "scanward.cli", "node", "--json", "--listen", f"{LOCAL}:0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _signing(pki: Path, onward: str) -> tuple[str, ...]:
    key = ("--key", str(pki / "ct1.key"), "--cert", str(pki / "ct1.pem"))
    return ("--sign", *key, "--title", "SIGNER", "--caller", "SENDER", "--next", onward)


def _verifying(pki: Path, onward: str, *more: str) -> tuple[str, ...]:
    callers = ("--caller", "ORTHANC", "--caller", "SENDER")
    return ("--verify", "--trust", str(pki / "ca.pem"), "--title", "CHECK", *callers, "--next", onward, *more)


def test_signed_into_orthanc_and_verified_out_of_it(pki: Path, tmp_path: Path) -> None:
    port = free_port()
    with storescp(tmp_path / "pacs") as pacs, archive(tmp_path / "orthanc", CHECK=port) as orthanc:
        with node(*_signing(pki, f"ORTHANC@{LOCAL}:{orthanc.dicom}")) as signer:
            for number, syntax in enumerate(SYNTAXES, 1):
                answer = sent(Peer(LOCAL, signer.port, "SIGNER"), picture(syntax, number))
                assert answer.reply == Reply(0), (syntax, answer)
            signer.end()
        assert signer.events[-1]["counts"]["signed"] == len(SYNTAXES)
        kept = {}
        for instance in orthanc.get("/instances"):
            path = f"http://{LOCAL}:{orthanc.http}/instances/{instance}/file"
            with urllib.request.urlopen(path, timeout=30) as file:
                content = file.read()
            kept[orthanc.get(f"/instances/{instance}")["MainDicomTags"]["SOPInstanceUID"]] = content
        assert len(kept) == len(SYNTAXES)
        for number, syntax in enumerate(SYNTAXES, 1):
            was, is_ = unframed(picture(syntax, number)), unframed(kept[f"{STUDY}.{number}"])
            assert is_[0] == was[0] == syntax
            assert is_[1] != was[1]
        arguments = list(_verifying(pki, f"PACS@{LOCAL}:{pacs.port}"))
        with node(*arguments, "--listen", f"{LOCAL}:{port}") as check:
            status, told = orthanc.post(
                "/modalities/check/store", json.dumps(orthanc.get("/instances")).encode()
            )
            assert status == 200, told
            assert told["FailedInstancesCount"] == 0
            doubtful = {
                "altered": _flipped(kept[f"{STUDY}.1"]),
                "unsigned": picture(RLE, 9),
            }
            here = Peer(LOCAL, check.port, "CHECK")
            refused = {word: sent(here, file).reply for word, file in doubtful.items()}
            check.end(signal.SIGINT)
    assert refused == {word: Reply(0x0124, f"not genuine: {word}") for word in doubtful}
    counts = check.events[-1]["counts"]
    assert [event["found"] for event in check.of("handed on")] == ["genuine"] * len(SYNTAXES)
    assert (counts["genuine"], counts["handed on"], counts["refused"]) == (len(SYNTAXES), len(SYNTAXES), 2)
    # Orthanc encodes anew what it sends: what arrived is equal, and still genuine.
    arrived = [dcmread(path) for path in (tmp_path / "pacs").iterdir()]
    assert {str(ds.SOPInstanceUID): ds for ds in arrived} == {
        uid: dcmread(io.BytesIO(file)) for uid, file in kept.items()
    }
    for each in (signer, check):
        assert NAME not in each.printed + each.errors
        assert "R-1" not in each.printed + each.errors


def _flipped(file: bytes) -> bytes:
    """One bit of the pixels changed, far from any signature."""
    at = file.index(b"\xe0\x7f\x10\x00") + 200
    return file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]


def test_a_stranger_s_signature_is_not_trusted_and_a_quarantine_keeps_it(pki: Path, tmp_path: Path) -> None:
    signer = Signer.load(pki / "intruder.key", pki / "intruder.pem")
    file = sign_bytes(picture(), signer)
    folder = tmp_path / "kept"
    nowhere = f"PACS@{LOCAL}:{free_port()}"
    with node(*_verifying(pki, nowhere, "--on-doubt", "quarantine", "--quarantine", str(folder))) as check:
        reply = sent(Peer(LOCAL, check.port, "CHECK"), file).reply
        check.end()
    assert reply == Reply(0x0124, "not genuine: untrusted")
    (event,) = check.of("refused")
    kept = folder / f"{event['kept']}.dcm"
    assert unframed(kept.read_bytes())[1] == unframed(file)[1]
    assert json.loads(kept.with_suffix(".json").read_text())["found"] == "untrusted"


def test_what_has_to_be_signed_is_asked_as_of_scanward_verify(pki: Path, tmp_path: Path) -> None:
    """What a creator signs leaves the patient out: by default that is not enough."""
    path, whole = tmp_path / "creator.dcm", tmp_path / "base.dcm"
    keys = (pki / "ct1.key", pki / "ct1.pem")
    path.write_bytes(sign_bytes(picture(number=1), Signer.load(*keys, profile="creator")))
    whole.write_bytes(sign_bytes(picture(number=2), Signer.load(*keys)))
    asked = {
        (): (False, True),
        ("uids", "pixels"): (True, True),
        ("uids", "pixels", "0010,0010"): (False, True),
        ("patient", "0018,1030"): (False, False),  # required, and in neither
    }
    for words, passes in asked.items():
        require = [part for word in words for part in ("--require", word)]
        with (
            storescp(tmp_path / "-".join(("pacs", *words))) as pacs,
            node(*_verifying(pki, f"PACS@{LOCAL}:{pacs.port}", *require)) as check,
        ):
            found = [storescu(check.port, one, called="CHECK").returncode == 0 for one in (path, whole)]
            check.end()
        assert tuple(found) == passes, words
        said = [event["found"] for event in check.events if "found" in event]
        assert said == ["genuine" if one else "partial" for one in passes]
        command = ["verify", "--trust", pki / "ca.pem", *require]
        for one, good in zip((path, whole), passes, strict=True):
            status = CliRunner().invoke(cli, [str(word) for word in (*command, one)]).exit_code
            assert status == (0 if good else 4)


def test_a_chain_through_an_intermediate_of_the_site(pki: Path, tmp_path: Path) -> None:
    root = _certificate("Root CA")
    between = _certificate("Department CA", root, ca=True)
    own, key = _certificate("ct2.example.org", between)
    pem = serialization.Encoding.PEM
    for name, one in (("root", root[0]), ("between", between[0])):
        (tmp_path / f"{name}.pem").write_bytes(one.public_bytes(pem))
    file = sign_bytes(picture(), Signer(key, own))
    trust = ("--trust", str(tmp_path / "root.pem"), "--title", "CHECK", "--caller", "SENDER")
    with storescp(tmp_path / "pacs") as pacs:
        onward = ("--verify", *trust, "--next", f"PACS@{LOCAL}:{pacs.port}")
        for more, status in (((), 0x0124), (("--intermediate", str(tmp_path / "between.pem")), 0)):
            with node(*onward, *more) as check:
                reply = sent(Peer(LOCAL, check.port, "CHECK"), file).reply
                check.end()
            assert reply is not None
            assert reply.status == status


def test_no_second_name_hides_behind_a_signature(pki: Path) -> None:
    signer = Signer.load(pki / "ct1.key", pki / "ct1.pem")
    trust = Trust.load(pki / "ca.pem")
    work = verifying(lambda file: verify_bytes(file, trust), OnDoubt.REFUSE)
    syntax, view = unframed(sign_bytes(picture(), signer))
    data = bytes(view)

    def found(content: bytes) -> str:
        one = Incoming("1.2.840.10008.5.1.4.1.1.7", f"{STUDY}.1", "SENDER", "peer", syntax, content)
        return work(one).word

    assert found(data) == "genuine"
    second = b"\x08\x00\x18\x00UI\x0c\x002.25.77001.2"
    for tag in (b"\x10\x00\x10\x00PN", b"\x28\x00\x10\x00US", b"\xe0\x7f\x10\x00OW", b"\xfa\xff\xfa\xff"):
        at = data.index(tag)
        assert found(data[:at] + second + data[at:]) != "genuine"
    assert found(data + second) != "genuine"


# --- over TLS, with a stand-in for the signer


def test_dcmtk_sends_over_tls_and_only_with_a_certificate_of_the_site(pki: Path, tmp_path: Path) -> None:
    tls = tls_of(pki / "check.pem", pki / "check.key", pki / "ca.pem")
    path = tmp_path / "a.dcm"
    path.write_bytes(picture())

    def tls_options(name: str) -> list[str]:
        files = [str(pki / f"{name}.key"), str(pki / f"{name}.pem")]
        return ["+tls", *files, "+cf", str(pki / "ca.pem")]

    out = tmp_path / "out"
    out.mkdir()
    port = free_port()
    scp = [program("storescp"), "+B", "-aet", "PACS", "-od", str(out), *tls_options("pacs"), str(port)]
    with running(scp, port):
        onward = peer_of(f"PACS@{LOCAL}:{port}", "--next", tls, "pacs.example.org")
        settings = NodeSettings(
            title="NODE", listen=(LOCAL, 0), callers=frozenset({"SENDER"}), onward=onward, tls=tls
        )
        told: list[tuple[str, Any]] = []
        with Node(settings, signing(lambda file: file), tell=lambda k, f: told.append((k, dict(f)))) as made:
            call = [program("storescu"), "-aet", "SENDER", "-aec", "NODE", LOCAL, str(made.port), str(path)]
            good = subprocess.run(
                [*call, *tls_options("ct1")], capture_output=True, text=True, timeout=60, check=False
            )
            plain = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
            stranger = subprocess.run(
                [*call, *tls_options("intruder")], capture_output=True, text=True, timeout=60, check=False
            )
    assert good.returncode == 0, good.stderr
    assert plain.returncode != 0
    assert stranger.returncode != 0
    assert [kind for kind, _ in told if kind == "handed on"] == ["handed on"]
    assert [facts["reason"] for _, facts in told if facts.get("reason") == "TLS handshake failed"]
    (arrived,) = out.iterdir()
    assert unframed(arrived.read_bytes())[1] == unframed(picture())[1]


def test_a_next_hop_with_another_name_in_its_certificate_gets_nothing(pki: Path, tmp_path: Path) -> None:
    tls = tls_of(pki / "check.pem", pki / "check.key", pki / "ca.pem")
    out = tmp_path / "out"
    out.mkdir()
    port = free_port()
    files = ["+tls", str(pki / "ct1.key"), str(pki / "ct1.pem"), "+cf", str(pki / "ca.pem")]
    with running([program("storescp"), "-aet", "PACS", "-od", str(out), *files, str(port)], port):
        onward = peer_of(f"PACS@{LOCAL}:{port}", "--next", tls, "pacs.example.org")
        settings = NodeSettings(title="NODE", listen=(LOCAL, 0), callers=frozenset({"SENDER"}), onward=onward)
        with Node(settings, signing(lambda file: file)) as made:
            reply = sent(Peer(LOCAL, made.port, "NODE"), picture()).reply
    assert reply is not None
    assert reply.status == 0xA700
    assert not list(out.iterdir())


# --- the command


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scanward.cli", "node", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "what is the node to do"),
        (("--sign",), "a key and its certificate"),
        (("--sign", "--key", "k", "--cert", "c", "--trust", "t"), "--trust has no use with --sign"),
        (("--sign", "--key", "k", "--cert", "c", "--on-doubt", "flag"), "no doubts"),
        (("--sign", "--key", "k", "--cert", "c", "--require", "uids"), "--require has no use with --sign"),
        (("--sign", "--key", "k", "--cert", "c", "--intermediate", "t"), "--intermediate has no use"),
        (("--verify",), "nobody is trusted"),
        (("--verify", "--trust", "t", "--key", "k"), "--key has no use with --verify"),
        (("--verify", "--trust", "t", "--cert", "k"), "--cert has no use with --verify"),
        (("--verify", "--trust", "t", "--on-doubt", "quarantine"), "a quarantine needs both"),
        (("--verify", "--trust", "t", "--quarantine", "q"), "a quarantine needs both"),
        (("--verify", "--trust", "t", "--tls-cert", "c"), "TLS needs three files"),
        (("--verify", "--trust", "t", "--title", "A" * 17), "an AE title has"),
        (("--verify", "--trust", "t", "--caller", "A\\B"), "an AE title has"),
        (("--verify", "--trust", "t", "--listen", "nonsense"), "no address"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...], what: str) -> None:
    given = ["node", "--caller", "A", "--next", f"PACS@{LOCAL}:104", *arguments]
    done = CliRunner().invoke(cli, given)
    assert done.exit_code == 2, done.output
    assert what in done.output
    assert "Traceback" not in done.output


def test_an_address_in_use_and_a_wrong_key_are_one_line(pki: Path) -> None:
    taken = free_port()
    onward = f"PACS@{LOCAL}:104"
    with storescp(pki / "scp") as pacs:
        done = _run(*_signing(pki, onward), "--listen", f"{LOCAL}:{pacs.port}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen")
    wrong = [each.replace("ct1.key", "ca.key") for each in _signing(pki, onward)]
    done = _run(*wrong, "--listen", f"{LOCAL}:{taken}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
