"""Who is trusted: chains, validity, usage, revocation, timestamps. What a site requires, and what is not enough."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from _signatures import NOW, ExtendedKeyUsageOID, certificate, ec_key, made, pem, revocations, rsa_key
from scanward.errors import InputError, KeyFileError, LinkError, SettingsError
from scanward.signatures import (
    Coverage,
    Genuineness,
    Report,
    Signer,
    TimestampAuthority,
    Trust,
    sign_bytes,
    verify_bytes,
)

ROOT = (certificate("Root", rsa_key(1), ca=True), rsa_key(1))
BETWEEN = (certificate("Between", rsa_key(2), ROOT, ca=True), rsa_key(2))
KEY = rsa_key()


def found(
    own: Any, trust: Trust, *, key: Any = None, at: Any = None, when: Any = None, **more: Any
) -> Report:
    signed = sign_bytes(made(), Signer(key or KEY, own, **more), at=when)
    return verify_bytes(signed, trust, at=at)


def why(report: Report) -> str:
    return " ".join(report.reasons)


def test_chains_end_in_somebody_trusted_or_nowhere() -> None:
    direct = certificate("CT 1", KEY, ROOT)
    assert found(direct, Trust((ROOT[0],))).genuineness is Genuineness.GENUINE
    deeper = certificate("CT 2", KEY, BETWEEN)
    lonely = found(deeper, Trust((ROOT[0],)))
    assert lonely.genuineness is Genuineness.UNTRUSTED
    assert "no chain to anybody trusted" in why(lonely)
    assert found(deeper, Trust((ROOT[0],), intermediates=(BETWEEN[0],))).genuineness is Genuineness.GENUINE
    alone = certificate("Somebody", KEY)
    assert found(alone, Trust((ROOT[0],))).genuineness is Genuineness.UNTRUSTED
    assert found(alone, Trust((alone,))).genuineness is Genuineness.GENUINE  # trusted for itself
    # Of the same name and not the same key.
    other = (certificate("Root", rsa_key(3), ca=True), rsa_key(3))
    assert found(certificate("CT 1", KEY, other), Trust((ROOT[0],))).genuineness is Genuineness.UNTRUSTED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"days": (-20, -1)}, "expired"),
        ({"days": (1, 20)}, "valid from"),
        ({"usage": "encrypt"}, "key usage is not for signatures"),
        ({"extended": [ExtendedKeyUsageOID.SERVER_AUTH]}, "for something else"),
    ],
)
def test_certificates_that_may_not_sign_now(changes: dict[str, Any], said: str) -> None:
    for issuer, trust in ((ROOT, Trust((ROOT[0],))), (None, None)):
        own = certificate("CT 1", KEY, issuer, **changes)
        report = found(own, trust or Trust((own,)))
        assert report.genuineness is Genuineness.UNTRUSTED
        assert said in why(report)


def test_issuers_have_to_be_authorities() -> None:
    person = (certificate("Person", rsa_key(4), ROOT), rsa_key(4))  # may sign pictures, not certificates
    forged = certificate("CT 1", KEY, person)
    assert found(forged, Trust((ROOT[0],), intermediates=(person[0],))).genuineness is Genuineness.UNTRUSTED
    assert found(forged, Trust((person[0],))).genuineness is Genuineness.UNTRUSTED
    short = (certificate("Short", rsa_key(5), ROOT, ca=True, path_length=0), rsa_key(5))
    below = (certificate("Below", rsa_key(6), short, ca=True), rsa_key(6))
    own = certificate("CT 1", KEY, below)
    between = (short[0], below[0])
    assert found(own, Trust((ROOT[0],), intermediates=between)).genuineness is Genuineness.UNTRUSTED
    assert found(certificate("CT 1", KEY, short), Trust((ROOT[0],), intermediates=between)).genuineness is (
        Genuineness.GENUINE
    )
    expired = (certificate("Old", rsa_key(7), ROOT, ca=True, days=(-20, -1)), rsa_key(7))
    report = found(certificate("CT 1", KEY, expired), Trust((ROOT[0],), intermediates=(expired[0],)))
    assert report.genuineness is Genuineness.UNTRUSTED


def test_who_was_revoked_is_not_trusted_nor_is_silence_about_it() -> None:
    own = certificate("CT 1", KEY, ROOT)
    clean = revocations(ROOT, [])
    assert found(own, Trust((ROOT[0],), (clean,))).genuineness is Genuineness.GENUINE
    report = found(own, Trust((ROOT[0],), (revocations(ROOT, [own]),)))
    assert report.genuineness is Genuineness.UNTRUSTED
    assert "was revoked" in why(report)
    for lists in ((revocations(ROOT, [], (-30, -1)),), (revocations(BETWEEN, []),)):
        report = found(own, Trust((ROOT[0],), lists))
        assert "no current revocation list" in why(report)
    forged = revocations((ROOT[0], rsa_key(8)), [])  # of the authority's name, by another key
    assert "no current revocation list" in why(found(own, Trust((ROOT[0],), (forged,))))
    # An old list that names it counts as well: nobody comes back.
    old = revocations(ROOT, [own], (-30, -20))
    assert "was revoked" in why(found(own, Trust((ROOT[0],), (old, clean))))


def test_weak_keys_and_weak_certificates() -> None:
    small = rsa_key(9, 1024)
    own = certificate("Small", small)
    with pytest.raises(KeyFileError, match="1024 bits"):
        sign_bytes(made(), Signer(small, own))
    sha1 = certificate("Old", KEY, digest=hashes.SHA256())
    assert found(sha1, Trust((sha1,))).genuineness is Genuineness.GENUINE


def test_ecdsa_is_outside_the_profiles_and_says_so() -> None:
    for curve in ("secp256r1", "secp384r1"):
        own = certificate("CT 1", ec_key(curve), ROOT)
        report = found(own, Trust((ROOT[0],)), key=ec_key(curve))
        assert report.genuineness is Genuineness.GENUINE
        assert not report.signatures[0].in_profile
        assert report.signatures[0].algorithm == f"ECDSA {curve} with SHA256"


def test_dates_of_the_future_are_a_doubt() -> None:
    own = certificate("CT 1", KEY, ROOT)
    report = found(own, Trust((ROOT[0],)), when=NOW + timedelta(hours=2))
    assert report.genuineness is Genuineness.UNTRUSTED
    assert "made in the future" in why(report)
    assert found(own, Trust((ROOT[0],)), when=NOW - timedelta(days=400)).genuineness is Genuineness.GENUINE


@pytest.mark.parametrize(
    "date",
    ["99991231235959-2400", "00010101000000+2300", "20260101000000+\xb2\xb2\xb2\xb2", "2026", "", "x" * 26],
)
def test_any_date_is_read_or_a_doubt(date: str) -> None:
    own = certificate("CT 1", KEY, ROOT)
    signed = bytearray(sign_bytes(made(), Signer(KEY, own)))
    place = signed.index(b"\x00\x04\x05\x01DT") + 8
    signed[place : place + 26] = date.encode("latin-1").ljust(26)
    report = verify_bytes(bytes(signed), Trust((ROOT[0],)))
    assert (
        report.genuineness is Genuineness.ALTERED
    )  # the date is signed; what matters is that there is an answer
    assert report.signatures[0].reasons


def test_who_is_trusted_for_himself_can_be_revoked() -> None:
    own = certificate("CT 1", KEY, ROOT)
    both = (ROOT[0], own)
    assert found(own, Trust(both, (revocations(ROOT, []),))).genuineness is Genuineness.GENUINE
    report = found(own, Trust(both, (revocations(ROOT, [own]),)))
    assert report.genuineness is Genuineness.UNTRUSTED
    assert "was revoked" in why(report)


# --- what is required


def test_what_a_creator_signs_leaves_the_patient_out() -> None:
    own = certificate("CT 1", KEY, ROOT)
    report = found(own, Trust((ROOT[0],)), profile="creator")
    assert report.genuineness is Genuineness.PARTIAL
    assert report.missing == (0x00100010, 0x00100020, 0x00100030)
    assert {0x00100010, 0x00100020, 0x00100030, 0x00080020, 0x00091001} == set(report.unsigned)
    lax = Trust((ROOT[0],), required=Coverage.of(["uids", "pixels"]))
    assert found(own, lax, profile="creator").genuineness is Genuineness.GENUINE
    strict = Trust((ROOT[0],), required=Coverage.of(["everything"]))
    report = found(own, strict)
    assert report.genuineness is Genuineness.PARTIAL
    assert report.missing == (0x00091001,)  # of VR UN: nobody can sign it


def test_two_signatures_over_a_half_each_are_no_whole() -> None:
    own = certificate("CT 1", KEY, ROOT)
    trust = Trust((ROOT[0],))
    data = sign_bytes(made(), Signer(KEY, own, "creator"))
    assert verify_bytes(data, trust).genuineness is Genuineness.PARTIAL
    whole = sign_bytes(data, Signer(KEY, own))
    assert verify_bytes(whole, trust).genuineness is Genuineness.GENUINE
    stranger = certificate("Stranger", rsa_key(10))
    mixed = verify_bytes(sign_bytes(data, Signer(rsa_key(10), stranger)), trust)
    assert mixed.genuineness is Genuineness.PARTIAL  # who signs all of it is nobody
    assert [one.trusted for one in mixed.signatures] == [True, False]


def test_a_required_attribute_that_is_gone_is_missing() -> None:
    own = certificate("CT 1", KEY, ROOT)
    data = sign_bytes(made(pixels=False), Signer(KEY, own))
    assert (
        verify_bytes(data, Trust((ROOT[0],))).genuineness is Genuineness.GENUINE
    )  # no picture: none is required
    wanted = Trust((ROOT[0],), required=Coverage.of(["7fe0,0010"]))
    assert verify_bytes(data, wanted).missing == (0x7FE00010,)


@pytest.mark.parametrize("words", [[], ["patents"], ["0010"], ["zzzz,0010"]])
def test_requirements_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(SettingsError):
        Coverage.of(words)


# --- files


def test_files_of_keys_and_certificates(tmp_path: Path) -> None:
    own = certificate("CT 1", KEY, ROOT)
    cert, plain = pem(tmp_path, "c.pem", own), pem(tmp_path, "k.pem", KEY)
    locked = pem(tmp_path, "l.pem", KEY, b"secret")
    assert Signer.load(plain, cert).certificate == own
    assert Signer.load(locked, cert, password=b"secret").certificate == own
    (tmp_path / "c.der").write_bytes(own.public_bytes(Encoding.DER))
    assert Trust.load([tmp_path / "c.der", cert]).authorities == (own, own)
    crl = pem(tmp_path, "r.pem", revocations(ROOT, []))
    assert len(Trust.load(cert, revoked=[crl, crl]).revocations) == 2
    for key, words in (
        (locked, {}),
        (locked, {"password": b"wrong"}),
        (plain, {"password": b"x"}),
        (cert, {}),
    ):
        with pytest.raises(KeyFileError):
            Signer.load(key, cert, **words)
    with pytest.raises(KeyFileError, match="does not belong"):
        Signer.load(pem(tmp_path, "o.pem", rsa_key(3)), cert)
    (tmp_path / "empty").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "empty", plain):
        with pytest.raises(InputError):
            Trust.load(path)
    with pytest.raises(SettingsError):
        Signer.load(plain, cert, mac="SHA1")
    with pytest.raises(SettingsError):
        Signer.load(plain, cert, profile="none")


# --- timestamps


TSA_KEY = rsa_key(11)
OPENSSL = """
[tsa]
default_tsa = tsa1
[tsa1]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


def stamping(folder: Path, own: Any) -> Any:
    """An authority: openssl ts, asked over HTTP on loopback."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    pem(folder, "tsa.pem", own)
    pem(folder, "tsa.key", TSA_KEY)
    (folder / "serial").write_text("01\n")
    (folder / "ts.cnf").write_text(OPENSSL.format(folder=folder))

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "q").write_bytes(self.rfile.read(int(self.headers["content-length"])))
            words = ["openssl", "ts", "-reply", "-config", folder / "ts.cnf", "-queryfile", folder / "q"]
            subprocess.run([*words, "-out", folder / "r"], check=True, capture_output=True)
            raw = (folder / "r").read_bytes()
            self.send_response(200)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_a_timestamp_outlives_the_certificate(tmp_path: Path) -> None:
    pytest.importorskip("rfc3161_client", reason="the extra 'signatures' is not installed")
    own = certificate("CT 1", KEY, ROOT, days=(-10, 1))
    tsa = certificate("TSA", TSA_KEY, ROOT, extended=[ExtendedKeyUsageOID.TIME_STAMPING])
    server = stamping(tmp_path, tsa)
    try:
        stamps = TimestampAuthority(f"http://127.0.0.1:{server.server_port}/")
        stamped = sign_bytes(made(), Signer(KEY, own, timestamps=stamps))
    finally:
        server.shutdown()
        server.server_close()
    plain = sign_bytes(made(), Signer(KEY, own))
    trust, later = Trust((ROOT[0],)), NOW + timedelta(days=30)
    report = verify_bytes(stamped, trust)
    assert report.genuineness is Genuineness.GENUINE
    assert abs(report.signatures[0].timestamp - NOW) < timedelta(hours=1)  # type: ignore[operator]
    assert verify_bytes(plain, trust, at=later).genuineness is Genuineness.UNTRUSTED
    assert verify_bytes(stamped, trust, at=later).genuineness is Genuineness.GENUINE
    # Lists have to be current now, not when it was stamped.
    listed = Trust((ROOT[0],), (revocations(ROOT, [], (-1, 40)),))
    assert verify_bytes(stamped, listed, at=later).genuineness is Genuineness.GENUINE
    stale = Trust((ROOT[0],), (revocations(ROOT, [], (-1, 5)),))
    assert "no current revocation list" in why(verify_bytes(stamped, stale, at=later))
    # By an authority that nobody trusts, or one that is for something else, it is worth nothing.
    nobody = Trust((own,))
    assert verify_bytes(stamped, nobody, at=later).genuineness is Genuineness.UNTRUSTED
    # Put into another file's signature it is of something else.
    token = stamped.index(b"CMS_TSP")
    moved = bytearray(stamped)
    value = stamped.index(b"\x00\x04\x20\x01OB") + 12
    moved[value] ^= 1
    assert verify_bytes(bytes(moved), trust).genuineness is Genuineness.ALTERED
    assert token > 0


@pytest.mark.parametrize("url", ["ftp://x/", "x", "http://127.0.0.1:9/"])
def test_a_timestamp_authority_that_is_none(url: str) -> None:
    pytest.importorskip("rfc3161_client", reason="the extra 'signatures' is not installed")
    with pytest.raises((SettingsError, LinkError)):
        TimestampAuthority(url, seconds=2.0)(b"signature")
