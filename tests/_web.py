"""A site to test against, and a browser without a screen. Other tests of pages take `client_of` and `sign_in` too."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette

from scanward.web.accounts import Accounts
from scanward.web.passwords import Hashing

with warnings.catch_warnings():  # it would rather have another client library, which nothing else here needs
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

CHEAP = Hashing(kib=64, passes=1, lanes=1)


def accounts_in(folder: Path) -> Accounts:
    """A file of accounts with cheap hashes; to be closed by the caller."""
    return Accounts(folder / "accounts.sqlite", CHEAP)


def client_of(app: Starlette, address: str = "192.0.2.7", tls: bool = False) -> TestClient:
    """A client at an address, which follows no redirects and lets no error pass."""
    return TestClient(
        app,
        base_url="https://localhost" if tls else "http://localhost",
        follow_redirects=False,
        raise_server_exceptions=True,
        client=(address, 50_000),
    )


def csrf_of_page(text: str) -> str:
    """The CSRF token in a page."""
    found = re.search(r'<meta name="csrf-token" content="([^"]*)">', text)
    assert found, text[:500]
    return found[1]


def sign_in(client: TestClient, name: str, password: str, there: str = "/", status: int = 303) -> str:
    """Sign in as a browser does; the CSRF token of the new session, or "" when ``status`` is not 303."""
    token = csrf_of_page(client.get("/sign-in").text)
    answer = client.post(
        "/sign-in", data={"csrf_token": token, "name": name, "password": password, "next": there}
    )
    assert answer.status_code == status, (answer.status_code, answer.text[:1000])
    return str(client.get("/api/session").json()["csrf_token"]) if status == 303 else ""


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, study.example, 127.0.0.1 and ::1, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "study.example")])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("study.example")]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "site-certificate.crt", folder / "site-private.txt"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The site of ``_web_site.py`` in a process: its address, and the process."""
    script = Path(__file__).with_name("_web_site.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                process.kill()
                raise AssertionError(process.communicate()[1])
            yield address, process
        finally:
            process.kill()
