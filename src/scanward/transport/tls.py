"""TLS 1.3 with a certificate on both sides, and peers pinned by name or fingerprint.

A certificate authority alone is no answer to *who*: a hospital's signs thousands of machines. So a peer is
taken only when its certificate is valid *and* carries a name, or is the very certificate, of the configuration.
No session tickets: a resumed session would not look at the certificate's dates again.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from scanward.config import KEY_BOUNDS
from scanward.errors import LinkError

_CERTIFICATE_BYTES: Final = KEY_BOUNDS.file_bytes * 16  # a bundle of a few authorities


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: our certificate (with its chain) and key, the authorities whose peers we talk to, a CRL."""

    certificate: Path
    key: Path
    authority: Path
    crl: Path | None = None


@dataclass(frozen=True, slots=True)
class Pins:
    """Who a peer may be.

    Attributes
    ----------
    names : frozenset of str
        DNS names of the certificate (subjectAltName), or its common name where it has none; case is ignored.
    fingerprints : frozenset of str
        SHA-256 of the certificate in DER, 64 lower-case hexadecimal digits.
    """

    names: frozenset[str] = field(default_factory=frozenset)
    fingerprints: frozenset[str] = field(default_factory=frozenset)

    def refusal(self, peer: ssl.SSLObject) -> str:
        """Why this peer is not who it should be; "" when it is. Empty pins refuse everybody."""
        der = peer.getpeercert(binary_form=True)
        facts: dict[str, Any] = peer.getpeercert() or {}
        if not der or not facts:
            return "the peer showed no certificate"
        if peer.version() != "TLSv1.3":
            return f"the peer speaks {peer.version()}"
        if hashlib.sha256(der).hexdigest() in self.fingerprints:
            return ""
        names = names_of(facts)
        if names & {name.casefold() for name in self.names}:
            return ""
        return f"the certificate of {', '.join(sorted(names))[:200] or 'a nameless peer'} is not one we know"


def names_of(facts: dict[str, Any]) -> set[str]:
    """DNS names of ``ssl``'s parsed certificate; its common name where it has none (RFC 6125, 6.4.4)."""
    alternatives = {value.casefold() for kind, value in facts.get("subjectAltName", ()) if kind == "DNS"}
    if alternatives:
        return alternatives
    subject = (pair for part in facts.get("subject", ()) for pair in part)
    return {value.casefold() for name, value in subject if name == "commonName"}


def server_context(files: TlsFiles, passphrase: bytes | None = None) -> ssl.SSLContext:
    """For the side that listens; LinkError when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _prepared(context, files, passphrase)


def client_context(files: TlsFiles, passphrase: bytes | None = None) -> ssl.SSLContext:
    """For the side that connects; LinkError when a file cannot be used. Names are pinned, not looked up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # Pins.refusal asks instead: a gantry has an address, hardly a DNS name
    return _prepared(context, files, passphrase)


def _prepared(context: ssl.SSLContext, files: TlsFiles, passphrase: bytes | None) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    try:
        context.load_verify_locations(files.authority)
    except (OSError, ValueError) as error:
        raise _unusable("the authority's certificate", files.authority, error) from error
    if files.crl is not None:
        try:
            context.load_verify_locations(files.crl)
        except (OSError, ValueError) as error:
            raise _unusable("the revocation list", files.crl, error) from error
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    try:
        # A callable, so that OpenSSL never asks on a terminal that nobody watches.
        context.load_cert_chain(files.certificate, files.key, lambda: passphrase or b"")
    except (OSError, ValueError) as error:
        raise _unusable("our certificate or its key", files.certificate, error) from error
    return context


def _unusable(what: str, path: Path, error: Exception) -> LinkError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return LinkError(f"{what} cannot be used: {reason}", str(path), "give a PEM file that openssl can read")


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What `scanward guard --check` shows of a certificate."""

    names: tuple[str, ...]
    fingerprint: str
    not_before: datetime
    not_after: datetime


def certificate_facts(path: Path) -> CertificateFacts:
    """Facts of the first certificate of a PEM file; LinkError when there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_CERTIFICATE_BYTES)
        found = x509.load_pem_x509_certificate(data)
        names = [str(a.value) for a in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        try:
            extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = extension.value.get_values_for_type(x509.DNSName) or names
        except x509.ExtensionNotFound:
            pass
        digest = hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()
        return CertificateFacts(tuple(names), digest, found.not_valid_before_utc, found.not_valid_after_utc)
    except (OSError, ValueError) as error:
        raise _unusable("a certificate", path, error) from error


def refuse_expired(facts: CertificateFacts, path: Path, now: datetime | None = None) -> None:
    """LinkError when our own certificate is not valid now: every peer would refuse it."""
    now = now or datetime.now(UTC)
    if not facts.not_before <= now <= facts.not_after:
        raise LinkError(
            f"our certificate is valid from {facts.not_before:%Y-%m-%d} to {facts.not_after:%Y-%m-%d} only",
            str(path),
            "have it signed anew, and check the clock",
        )
