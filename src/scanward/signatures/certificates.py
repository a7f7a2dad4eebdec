"""Whether whoever signed is trusted: chain, validity, key usage, revocation (RFC 5280).

Chains are built and checked by cryptography's path validation. Signers of pictures are no web servers, so what the web
asks of names is not asked here: an issuer must be an authority that may sign certificates, a signer must be allowed to
sign. A certificate that stands itself among the authorities is trusted for itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import InputError, KeyFileError
from scanward.signatures.profiles import USUAL, Coverage

# What cryptography raises for certificates that it cannot read to their end; it reads their parts late.
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a site believes, and what it asks of them. Made by `load`.

    Attributes
    ----------
    authorities : certificates of whom a chain may end in
    revocations : revocation lists; with any, a certificate without a current list of its issuer is not trusted
    intermediates : certificates that chains may go through, trusted for nothing
    required : what good signatures must cover
    """

    authorities: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...] = ()
    intermediates: tuple[x509.Certificate, ...] = ()
    required: Coverage = USUAL

    @classmethod
    def load(
        cls,
        authorities: Path | Sequence[Path],
        *,
        revoked: Sequence[Path] = (),
        intermediates: Sequence[Path] = (),
        required: Coverage = USUAL,
    ) -> Trust:
        """From PEM or DER files.

        Raises
        ------
        InputError
            When a file cannot be read, or holds nothing of its kind; without any authority nobody is trusted.
        """
        paths = [authorities] if isinstance(authorities, Path) else list(authorities)
        found = tuple(one for path in paths for one in certificates_in(path))
        if not found:
            raise InputError("nobody to trust", "--trust", "give the certificate of an authority")
        lists = tuple(one for path in revoked for one in _revocations_in(path))
        between = tuple(one for path in intermediates for one in certificates_in(path))
        return cls(found, lists, between, required)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(SIGNATURE_BOUNDS.trusted_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check the path") from error
    if len(raw) > SIGNATURE_BOUNDS.trusted_bytes:
        raise InputError(f"more than {SIGNATURE_BOUNDS.trusted_bytes} bytes", str(path), "give fewer")
    return raw


def certificates_in(path: Path) -> list[x509.Certificate]:
    """Certificates of a PEM file (one or more) or a DER file (one). InputError when there is none."""
    raw = _read(path)
    try:
        if b"-----BEGIN" in raw:
            return x509.load_pem_x509_certificates(raw)
        return [x509.load_der_x509_certificate(raw)]
    except ValueError as error:
        raise InputError("no certificate", str(path), "give PEM or DER") from error


def _revocations_in(path: Path) -> list[x509.CertificateRevocationList]:
    raw = _read(path)
    end = b"-----END X509 CRL-----"
    try:
        if end in raw:
            parts = [part + end for part in raw.split(end)[:-1]]
            return [x509.load_pem_x509_crl(part.lstrip()) for part in parts]
        return [x509.load_der_x509_crl(raw)]
    except ValueError as error:
        raise InputError("no revocation list", str(path), "give PEM or DER") from error


def signer_of(raw: bytes) -> x509.Certificate | None:
    """The certificate in a signature; None when it is none."""
    if len(raw) > SIGNATURE_BOUNDS.certificate_bytes:
        return None
    for candidate in (raw, raw[:-1] if raw[-1:] == b"\0" else raw):
        try:
            with warnings.catch_warnings():  # of serial numbers, which are looked at here
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                found = x509.load_der_x509_certificate(candidate)
                if found.serial_number <= 0:  # RFC 5280 section 4.1.2.2
                    continue
            _ = (found.subject.rfc4514_string(), found.issuer.rfc4514_string(), found.public_key())
            _ = (found.not_valid_before_utc, found.not_valid_after_utc, found.signature_hash_algorithm)
            _ = tuple(found.extensions)  # all of it is read now: it is read late, and raises late
        except _UNREADABLE:
            continue
        return found
    return None


def distrusted(
    certificate: x509.Certificate,
    trust: Trust,
    at: datetime,
    usage: str = "sign",
    now: datetime | None = None,
) -> tuple[str, ...]:
    """Why a signer is not trusted at a time, in words; empty when it is.

    ``usage``: "sign" for pictures, "timestamp" for a timestamp authority. ``now``: when revocation lists have to be
    current; ``at``, if None. Whoever was revoked is not trusted for what he signed before, either: thieves date back.
    """
    reasons = list(_unfit(certificate, at, usage))
    if certificate in trust.authorities:
        chain: Sequence[x509.Certificate] = (certificate,)
    else:
        try:
            chain = _chain(certificate, trust, at, usage)
        except VerificationError as error:
            return (*reasons, f"no chain to anybody trusted: {_said(error)}")
        except _UNREADABLE as error:  # a certificate that cannot be read to its end
            return (*reasons, f"a certificate that is none: {str(error)[:100]}")
    reasons += _revoked(chain, trust, now or at)
    return tuple(reasons)


def _said(error: VerificationError) -> str:
    text = str(error)
    return text.partition("(encountered processing")[0].strip()[:160] or "it does not verify"


def _chain(
    certificate: x509.Certificate, trust: Trust, at: datetime, usage: str
) -> Sequence[x509.Certificate]:
    authorities = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
    )
    verifier = (
        PolicyBuilder()
        .store(Store(list(trust.authorities)))
        .time(at.astimezone(UTC).replace(tzinfo=None))
        .max_chain_depth(SIGNATURE_BOUNDS.chain)
        .extension_policies(ca_policy=authorities, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    chain = verifier.verify(certificate, list(trust.intermediates)).chain
    for below, one in enumerate(chain[1:]):
        constraint = _extension(one, x509.BasicConstraints)
        if constraint is not None and constraint.path_length is not None and below > constraint.path_length:
            raise VerificationError("a chain longer than an authority allows")
        extended = _extension(one, x509.ExtendedKeyUsage)
        if usage == "sign" and extended is not None and set(extended) <= _NOT_FOR_PICTURES:
            raise VerificationError("an issuer whose extended key usage is for something else")
    return chain


def _is_authority(_policy: Any, _certificate: Any, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("an issuer that is no authority")


def _signs_certificates(_policy: Any, _certificate: Any, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("an issuer that may not sign certificates")


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _unfit(certificate: x509.Certificate, at: datetime, usage: str) -> Iterable[str]:
    """What is wrong with the signer's own certificate."""
    try:
        key_usage = _extension(certificate, x509.KeyUsage)
        extended = _extension(certificate, x509.ExtendedKeyUsage)
        unknown = [
            one.oid.dotted_string
            for one in certificate.extensions
            if one.critical and isinstance(one.value, x509.UnrecognizedExtension)
        ]
        algorithm = certificate.signature_hash_algorithm
    except _UNREADABLE as error:
        yield f"a certificate that cannot be read: {str(error)[:100]}"
        return
    if at < certificate.not_valid_before_utc:
        yield f"the certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} on"
    if at > certificate.not_valid_after_utc:
        yield f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if key_usage is not None and not (key_usage.digital_signature or key_usage.content_commitment):
        yield "the certificate's key usage is not for signatures"
    if usage == "timestamp":
        if extended is None or ExtendedKeyUsageOID.TIME_STAMPING not in extended:
            yield "the certificate is not for timestamps"
    elif extended is not None and set(extended) <= _NOT_FOR_PICTURES:
        yield "the certificate's extended key usage is for something else"
    if unknown:
        yield f"the certificate has a critical extension that nobody here knows: {', '.join(unknown)}"
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        yield f"the certificate is signed with {algorithm.name}"


_OIDS = ExtendedKeyUsageOID
# Alone, these say that the key is for another trade: TLS, time, revocation, programs, logging in.
_NOT_FOR_PICTURES = frozenset(
    {
        _OIDS.SERVER_AUTH, _OIDS.CLIENT_AUTH, _OIDS.TIME_STAMPING, _OIDS.OCSP_SIGNING, _OIDS.CODE_SIGNING,
        _OIDS.SMARTCARD_LOGON, _OIDS.KERBEROS_PKINIT_KDC, _OIDS.IPSEC_IKE, _OIDS.CERTIFICATE_TRANSPARENCY,
    }
)  # fmt: skip


def _revoked(chain: Sequence[x509.Certificate], trust: Trust, at: datetime) -> list[str]:
    """Without any list nothing is asked; with one, each certificate below the authority needs a current list."""
    if not trust.revocations:
        return []
    reasons = []
    if len(chain) == 1:  # trusted for itself: no list is needed, but one that names it counts
        pinned = chain[0]
        named_by = [crl for crl in trust.revocations if crl.issuer == pinned.issuer]
        if any(crl.get_revoked_certificate_by_serial_number(pinned.serial_number) for crl in named_by):
            reasons.append(f"{pinned.subject.rfc4514_string()[:80]} was revoked")
    for one, issuer in pairwise(chain):
        lists = [crl for crl in trust.revocations if crl.issuer == one.issuer and _is_of(crl, issuer)]
        current = [crl for crl in lists if _is_current(crl, at) and _is_about(crl, one)]
        revoked = [
            entry
            for crl in lists
            if (entry := crl.get_revoked_certificate_by_serial_number(one.serial_number))
        ]
        name = one.subject.rfc4514_string()[:80]
        if revoked:
            reasons.append(f"{name} was revoked on {revoked[0].revocation_date_utc:%Y-%m-%d}")
        elif not current:
            reasons.append(f"no current revocation list of who issued {name}")
    return reasons


def _is_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        key: Any = issuer.public_key()
        usage = _extension(issuer, x509.KeyUsage)
        return crl.is_signature_valid(key) and (usage is None or usage.crl_sign)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _is_current(crl: x509.CertificateRevocationList, at: datetime) -> bool:
    after = crl.next_update_utc
    return crl.last_update_utc <= at and (after is None or at <= after)


def _is_about(crl: x509.CertificateRevocationList, one: x509.Certificate) -> bool:
    """Whether a certificate that was revoked would have to stand in this list: no part of one, none for others.

    RFC 5280 sections 5.2.4 (delta lists), 5.2.5 (lists of a part), 5.2 (critical extensions that nobody knows).
    """
    basic = _extension(one, x509.BasicConstraints)
    authority = basic is not None and basic.ca
    for extension in crl.extensions:
        told = extension.value
        if isinstance(told, x509.DeltaCRLIndicator):
            return False
        if isinstance(told, x509.IssuingDistributionPoint):
            others = told.only_contains_ca_certs if not authority else told.only_contains_user_certs
            if others or told.only_contains_attribute_certs or told.only_some_reasons or told.indirect_crl:
                return False
            # Of one of several points: only the certificate can say that it is the one to look at.
            points = _extension(one, x509.CRLDistributionPoints) or ()
            named = {name for point in points for name in point.full_name or ()}
            if told.relative_name or (told.full_name and named.isdisjoint(told.full_name)):
                return False
        elif extension.critical:
            return False
    return True


def key_of(path: Path, password: bytes | None) -> Any:
    """A private key of a PEM or DER file. KeyFileError when it is none, or the password is wrong."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    raw = _read(path)
    load = load_pem_private_key if b"-----BEGIN" in raw else load_der_private_key
    try:
        return load(raw, password)
    except TypeError as error:
        what = "this key needs a password" if password is None else "this key has no password"
        raise KeyFileError(what, str(path), "give its password, or leave it out") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError("no private key, or a wrong password", str(path), "give PEM or DER") from error
