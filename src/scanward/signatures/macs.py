"""Digests, and signatures over them: PS3.3 C.12.1.1.3.1.2 (MAC algorithms), PS3.15 annex C (what the profiles allow).

The Annex C profiles know RSA alone, as of PKCS#1 version 1.5 (RFC 8017 section 8.2). ECDSA is in the standard's data
model and in no profile: it is made and verified, and labelled.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from scanward.errors import KeyFileError

LEAST_RSA_BITS: Final = 2048  # NIST SP 800-57 part 1, to 2030


@dataclass(frozen=True, slots=True)
class Mac:
    """A MAC algorithm: the standard's word, hashlib's, cryptography's, and its DigestInfo up to the digest."""

    word: str
    hashlib: str
    hash: hashes.HashAlgorithm | None
    info: bytes
    weak: bool


def _mac(word: str, name: str, algorithm: hashes.HashAlgorithm | None, info: str, weak: bool = False) -> Mac:
    return Mac(word, name, algorithm, bytes.fromhex(info), weak)


MACS: Final = {
    mac.word: mac
    for mac in (
        _mac("SHA256", "sha256", hashes.SHA256(), "3031300d060960864801650304020105000420"),
        _mac("SHA384", "sha384", hashes.SHA384(), "3041300d060960864801650304020205000430"),
        _mac("SHA512", "sha512", hashes.SHA512(), "3051300d060960864801650304020305000440"),
        _mac("SHA1", "sha1", hashes.SHA1(), "3021300906052b0e03021a05000414", True),  # noqa: S303 - to verify
        _mac("MD5", "md5", hashes.MD5(), "3020300c06082a864886f70d020505000410", True),  # noqa: S303 - to verify
        _mac("RIPEMD160", "ripemd160", None, "3021300906052b2403020105000414", True),
    )
}
MAKING: Final = ("SHA256", "SHA384", "SHA512")  # those that signatures are made with


def digest(mac: Mac) -> Any:
    """A running digest: hashlib's. KeyFileError where this machine's library has none (RIPEMD-160 on some)."""
    try:
        return hashlib.new(mac.hashlib, usedforsecurity=not mac.weak)
    except ValueError as error:
        raise KeyFileError(
            f"this machine's OpenSSL has no {mac.word}", "MAC algorithm", "verify it on another"
        ) from error


def sign(key: Any, mac: Mac, digested: bytes) -> bytes:
    """The signature over a digest. KeyFileError for a key of another kind, or too short."""
    assert mac.hash is not None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < LEAST_RSA_BITS:
            raise KeyFileError(f"RSA of {key.key_size} bits", "--key", f"take {LEAST_RSA_BITS} bits or more")
        return key.sign(digested, padding.PKCS1v15(), utils.Prehashed(mac.hash))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digested, ec.ECDSA(utils.Prehashed(mac.hash)))
    raise KeyFileError("neither RSA nor an elliptic curve for ECDSA", "--key", "take an RSA key")


def verify(key: PublicKeyTypes, mac: Mac, digested: bytes, signature: bytes) -> bool:
    """Whether the signature is of this digest by this key."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            return _rsa(key, mac, digested, signature)
        if mac.hash is None:
            return False
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_der(signature), digested, ec.ECDSA(utils.Prehashed(mac.hash)))
            return True
        if isinstance(key, dsa.DSAPublicKey):
            key.verify(_der(signature), digested, utils.Prehashed(mac.hash))
            return True
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return False


def _rsa(key: rsa.RSAPublicKey, mac: Mac, digested: bytes, signature: bytes) -> bool:
    length = (key.key_size + 7) // 8
    if len(signature) - length not in (0, 1) or any(signature[length:]):  # padded to an even length
        return False
    if mac.hash is not None:
        key.verify(signature[:length], digested, padding.PKCS1v15(), utils.Prehashed(mac.hash))
        return True
    found = key.recover_data_from_signature(signature[:length], padding.PKCS1v15(), None)
    return found == mac.info + digested


def _der(signature: bytes) -> bytes:
    """A DER value without the byte that makes its length even."""
    if len(signature) > 2 and signature[0] == 0x30 and signature[1] < 0x80:
        length = 2 + signature[1]
    elif len(signature) > 3 and signature[0] == 0x30 and signature[1] == 0x81:
        length = 3 + signature[2]
    else:
        return signature
    return signature[:length] if signature[length:] in (b"", b"\0") else signature


def described(key: PublicKeyTypes) -> str:
    """RSA 2048, ECDSA secp256r1 ..."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return "DSA" if isinstance(key, dsa.DSAPublicKey) else type(key).__name__


def is_weak(key: PublicKeyTypes) -> str:
    """Why a key proves nothing any more; "" when it does."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA of {key.key_size} bits" if key.key_size < LEAST_RSA_BITS else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"{key.curve.name} is too short" if key.curve.key_size < 224 else ""
    return "DSA" if isinstance(key, dsa.DSAPublicKey) else "a key of an unknown kind"
