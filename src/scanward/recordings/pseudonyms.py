"""Identifiers become keyed hashes on the way in; the identifiers themselves are never kept.

BLAKE2b (RFC 7693) keyed with the site key, 8 bytes of digest, written as 16 hexadecimal digits.
With 10**6 examinations the chance of any collision is below 3e-8 (birthday bound on 64 bits).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from scanward.errors import SettingsError

SITE_KEY_BYTES = 32

# A random key per run would give other pseudonyms on every run, and with them other splits and other bundles.
# A published default is deterministic but hides nothing from whoever can guess identifiers, and says the same
# at every site: hence the note that goes with it.
DEFAULT_SITE_KEY = hashlib.blake2b(b"scanward: no site key was given", digest_size=SITE_KEY_BYTES).digest()
NO_SITE_KEY_NOTE = "no site key: hashes are linkable across sites; use --site-key"

_SEPARATOR = "\x1f"  # ASCII unit separator: "a" + "bc" and "ab" + "c" must not meet


class Pseudonyms:
    """Keyed hashes of identifiers.

    Parameters
    ----------
    site_key : bytes or None
        32 secret bytes of the site; None uses a published default (see ``NO_SITE_KEY_NOTE``).

    Raises
    ------
    SettingsError
        When the key does not have 32 bytes.
    """

    def __init__(self, site_key: bytes | None = None) -> None:
        if site_key is not None and len(site_key) != SITE_KEY_BYTES:
            raise SettingsError(
                f"a site key has {SITE_KEY_BYTES} bytes, this one {len(site_key)}",
                "site key",
                "make one with: scanward keys new --site-key",
            )
        self.is_default = site_key is None
        self._key = DEFAULT_SITE_KEY if site_key is None else site_key

    def of(self, *parts: str) -> str:
        """16 hexadecimal digits standing for the stripped ``parts`` of an identifier."""
        text = _SEPARATOR.join(part.strip() for part in parts)
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"),
            digest_size=8,
            key=self._key,
            person=b"scanward",
        ).hexdigest()

    def examination(self, *parts: str) -> str | None:
        """Of a StudyInstanceUID (or the columns that stand for it); None when all of it is empty."""
        return self._unless_empty(parts)

    def event(self, *parts: str) -> str | None:
        """Of an Irradiation Event UID (or the columns that stand for it); None when all of it is empty."""
        return self._unless_empty(parts)

    def device(self, serial: str) -> str:
        """Of a device serial number; the empty text stays empty."""
        return self._unless_empty((serial,)) or ""

    def _unless_empty(self, parts: Sequence[str]) -> str | None:
        return self.of(*parts) if any(part.strip() for part in parts) else None
