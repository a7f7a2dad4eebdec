"""Certified timestamps (RFC 3161) over the signature value, as PS3.3 C.12.1.1.3 has them: type CMS_TSP.

Who has one shows that the signature was there at a time, whatever became of the certificate afterwards. Needs the
library rfc3161-client (``scanward[signatures]``).
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import LinkError, SettingsError
from scanward.signatures.certificates import Trust, distrusted

_TYPE = {"Content-Type": "application/timestamp-query"}
# PKIStatusInfo "granted": a file holds the token alone, the library wants the whole response (RFC 3161 section 2.4.2).
_GRANTED = bytes.fromhex("3003020100")


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise SettingsError(
            "timestamps need the library rfc3161-client", "timestamp", "pip install 'scanward[signatures]'"
        ) from error
    return rfc3161_client


class TimestampAuthority:
    """An authority that is asked over HTTP; call it with a signature."""

    def __init__(self, url: str, seconds: float = 30.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise SettingsError(
                "no address of a timestamp authority", "--timestamp", "give an http or https address"
            )
        self._url, self._seconds, self._library = url, seconds, _library()

    def __call__(self, signature: bytes) -> bytes:
        """The token for a signature. LinkError when none comes, or one for something else."""
        request = self._library.TimestampRequestBuilder().data(signature).build()
        asked = urllib.request.Request(self._url, request.as_bytes(), _TYPE)  # noqa: S310 - http(s) alone
        try:
            with urllib.request.urlopen(asked, timeout=self._seconds) as answer:  # noqa: S310
                raw = answer.read(SIGNATURE_BOUNDS.timestamp_bytes + 1)
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise LinkError(f"no timestamp: {error}", self._url, "is it a timestamp authority?") from error
        try:
            response = self._library.decode_timestamp_response(raw)
            imprint = response.tst_info.message_imprint.message
        except ValueError as error:
            raise LinkError("no timestamp response", self._url, "is it a timestamp authority?") from error
        if imprint != request.message_imprint.message or response.tst_info.nonce != request.nonce:
            raise LinkError("a timestamp of something else", self._url, "take another authority")
        return _token(raw)


def _token(response: bytes) -> bytes:
    """The second part of a TimeStampResp: SEQUENCE { status, token }."""
    inner, _ = _value(response, 0)
    _, after = _value(response, inner)
    return response[after:]


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Where a DER value begins and ends."""
    first = der[at + 1]
    if first < 0x80:
        return at + 2, at + 2 + first
    size = first & 0x7F
    return at + 2 + size, at + 2 + size + int.from_bytes(der[at + 2 : at + 2 + size], "big")


def _wrapped(token: bytes) -> bytes:
    body = _GRANTED + token
    length = len(body).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    return b"\x30" + (bytes([len(body)]) if len(body) < 0x80 else bytes([0x80 | len(length)]) + length) + body


def seen_at(
    token: bytes, signature: bytes, trust: Trust, now: datetime
) -> tuple[datetime | None, tuple[str, ...]]:
    """When an authority that is trusted saw this signature; else None, and why not."""
    library = _library()
    raw = token
    try:
        end = _value(token, 0)[1]
        raw = token[:end] if token[end:] in (b"", b"\0") else token
        response = library.decode_timestamp_response(_wrapped(raw))
        told = response.tst_info.gen_time.astimezone(UTC)
        found = [x509.load_der_x509_certificate(one) for one in response.signed_data.certificates]
    except (ValueError, IndexError, TypeError) as error:
        return None, (f"a timestamp that is none: {str(error)[:100]}",)
    if told > now:
        return None, ("a timestamp from the future",)
    builder = library.VerifierBuilder()
    for one in dict.fromkeys(trust.authorities):
        builder = builder.add_root_certificate(one)
    for one in dict.fromkeys(trust.intermediates):
        builder = builder.add_intermediate_certificate(one)
    try:
        builder.build().verify_message(response, signature)
    except (library.VerificationError, ValueError) as error:
        return None, (f"the timestamp does not hold: {str(error)[:120]}",)
    try:
        authority = _authority(response, found)
    except ValueError as error:  # certificates beside the signer's are in no signature
        return None, (f"a timestamp with a certificate that is none: {str(error)[:100]}",)
    if authority is None:
        return None, ("a timestamp by nobody",)
    # The authority must have been trusted when it said so, and not have been revoked since.
    why = distrusted(authority, trust, told, "timestamp", now)
    return (None, tuple(f"timestamp authority: {reason}" for reason in why)) if why else (told, ())


def _authority(response: Any, found: Sequence[x509.Certificate]) -> x509.Certificate | None:
    infos = list(response.signed_data.signer_infos)
    if len(infos) != 1:  # RFC 3161 section 2.4.2: of the authority alone
        return None
    for info in infos:
        for one in found:
            if one.issuer == info.issuer and one.serial_number == info.serial_number:
                return one
    return None
