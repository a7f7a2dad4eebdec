"""What is said of a file and of each of its signatures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from scanward.signatures.elements import named


class Genuineness(StrEnum):
    """Of a file. Everything but ``genuine`` is a doubt."""

    GENUINE = "genuine"  # a trusted signature over everything required holds, and none is broken
    ALTERED = "altered"  # a signature that is there does not fit what is there
    UNSIGNED = "unsigned"
    UNTRUSTED = "untrusted"  # all fits, by somebody who is not trusted (or not any more, or not yet)
    PARTIAL = "partial"  # trusted and unbroken, and leaves out something that is required
    WEAK = "weak"  # trusted and unbroken, by an algorithm or key that proves nothing any more
    MALFORMED = "malformed"  # not a file, or not signatures, as the standard has them


class Fits(StrEnum):
    """Whether a signature fits the bytes."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # it cannot be worked out: see the reasons


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: what it says of itself, and what was found.

    Attributes
    ----------
    uid, made : Digital Signature UID; Digital Signature DateTime as it stands
    where : "" for the main data set, else the item that it signs
    signer, issuer, serial : of the certificate, as RFC 4514 writes names
    algorithm : of key and MAC
    in_profile : whether the algorithms are those of PS3.15 annex C
    fits, trusted, weak : what was found
    timestamp : when a trusted timestamp authority has seen it; None without one
    covered : tags of the main data set (or the item) that it signs
    reasons : everything that speaks against it, in words
    purpose : Digital Signature Purpose Code, as it stands
    """

    uid: str
    made: str
    where: str
    signer: str
    issuer: str
    serial: str
    algorithm: str
    in_profile: bool
    fits: Fits
    trusted: bool
    weak: bool
    timestamp: datetime | None
    covered: frozenset[int] = field(repr=False)
    reasons: tuple[str, ...]
    purpose: str = ""

    @property
    def good(self) -> bool:
        """Fits, by somebody trusted, and not weak."""
        return self.fits is Fits.YES and self.trusted and not self.weak

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "uid": self.uid,
            "made": self.made,
            "where": self.where,
            "signer": self.signer,
            "issuer": self.issuer,
            "serial": self.serial,
            "algorithm": self.algorithm,
            "in_profile": self.in_profile,
            "fits": self.fits.value,
            "trusted": self.trusted,
            "weak": self.weak,
            "timestamp": None if self.timestamp is None else self.timestamp.isoformat(),
            "purpose": self.purpose,
            "covered": [named(tag) for tag in sorted(self.covered)],
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What is said of a file.

    Attributes
    ----------
    unsigned : tags of the main data set that no good signature covers
    missing : those of them that had to be
    reasons : why it is not genuine, in words; empty when it is
    """

    genuineness: Genuineness
    signatures: tuple[Signature, ...] = ()
    unsigned: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "genuineness": self.genuineness.value,
            "reasons": list(self.reasons),
            "missing": [named(tag) for tag in self.missing],
            "unsigned": [named(tag) for tag in self.unsigned],
            "signatures": [one.as_json() for one in self.signatures],
        }
