"""Passwords: made, checked, hashed with argon2id, and made anew when the parameters of hashing change.

A generated passphrase is five *proquints* (Wilkerson, arXiv 0901.4016): each is five letters, consonants and vowels in
turn, and holds 16 bits, so ``lusab-babad-gutih-tugad-mudof`` holds **80 bits**. It can be read aloud over a telephone
in most languages and needs no list of words. With the file of hashes in hand and a million guesses a second, half of
all would take 19 thousand million years.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final

import argon2

from scanward.config import WEB_BOUNDS
from scanward.errors import InputError

_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"


def generate(groups: int = WEB_BOUNDS.passphrase_groups) -> str:
    """A passphrase of ``groups`` proquints, 16 bits each, from the system's source of randomness."""
    return "-".join(proquint(secrets.randbits(16)) for _ in range(groups))


def proquint(value: int) -> str:
    """Five letters for the 16 bits of ``value``: 4 + 2 + 4 + 2 + 4."""
    return (
        _CONSONANTS[value >> 12 & 15]
        + _VOWELS[value >> 10 & 3]
        + _CONSONANTS[value >> 6 & 15]
        + _VOWELS[value >> 4 & 3]
        + _CONSONANTS[value & 15]
    )


def normal(password: str) -> bytes:
    """What is hashed: NFKC (NIST SP 800-63B-4, 3.1.1.2), so that one keyboard's ``é`` is another's, in UTF-8."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", errors="surrogatepass")


def refuse_weak(password: str, name: str) -> None:
    """InputError for a chosen password that is too short, too long, or holds nothing but the obvious."""
    where = f"the password of {name}"
    if len(unicodedata.normalize("NFKC", password)) < WEB_BOUNDS.password_chars:
        raise InputError(
            f"shorter than {WEB_BOUNDS.password_chars} characters",
            where,
            "choose a longer one, or have one made",
        )
    if len(normal(password)) > WEB_BOUNDS.password_bytes:
        raise InputError(f"longer than {WEB_BOUNDS.password_bytes} bytes", where, "choose a shorter one")
    rest = password.casefold()
    for obvious in (name.casefold(), "password", "passphrase", "scanward", "qwerty"):
        rest = rest.replace(obvious, "")
    if len(set(rest)) < 6:
        raise InputError(
            "fewer than six different characters beside the obvious",
            where,
            "choose another, or have one made",
        )


@dataclass(frozen=True, slots=True)
class Hashing:
    """argon2id with stated parameters; memory in KiB. The defaults are RFC 9106's second recommended choice."""

    kib: int = WEB_BOUNDS.argon2_kib
    passes: int = WEB_BOUNDS.argon2_passes
    lanes: int = WEB_BOUNDS.argon2_lanes

    def _hasher(self) -> argon2.PasswordHasher:
        return argon2.PasswordHasher(
            time_cost=self.passes, memory_cost=self.kib, parallelism=self.lanes, type=argon2.Type.ID
        )

    def hash(self, password: str) -> str:
        """A salted hash, with its parameters, in the PHC string format."""
        return self._hasher().hash(normal(password))

    def fits(self, hashed: str, password: str) -> bool:
        """Whether the password is the hashed one. Takes as long when it is not."""
        data = normal(password)
        if len(data) > WEB_BOUNDS.password_bytes:
            data = b""  # no password is empty: hashed all the same, and wrong
        try:
            return self._hasher().verify(hashed, data)
        except argon2.exceptions.VerifyMismatchError:
            return False
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as error:
            raise InputError(
                "a stored hash cannot be used", "the file of accounts", "give the account a new password"
            ) from error

    def outdated(self, hashed: str) -> bool:
        """Whether a hash was made with other parameters than these."""
        return self._hasher().check_needs_rehash(hashed)
