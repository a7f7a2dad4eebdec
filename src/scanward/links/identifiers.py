"""Identifiers on their way through the guard: a keyed hash inside, the original again towards the gantry.

The hash is that of `scanward.recordings.Pseudonyms`, so that a serial number, an examination or a patient is the
same to a bundle, to a recording and to the log. It is written again here because the relay must not load what
the table readers load; a test holds both to the same results.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from scanward.config import TCP_BOUNDS
from scanward.errors import LinkError

_NO_SITE_KEY: Final = hashlib.blake2b(b"scanward: no site key was given", digest_size=32).digest()


class Identifiers:
    """Hides and reveals. Originals are kept in memory alone, and only the latest ``most``.

    Parameters
    ----------
    site_key : bytes or None
        The site's 32 secret bytes; None for the published default, which hides nothing from whoever can guess.
    """

    def __init__(self, site_key: bytes | None = None, most: int = TCP_BOUNDS.identifiers) -> None:
        self._key = _NO_SITE_KEY if site_key is None else site_key
        self._most = most
        self._originals: OrderedDict[str, str] = OrderedDict()

    def hash(self, text: str) -> str:
        """16 hexadecimal digits standing for ``text``; "" stays ""."""
        text = text.strip()
        if not text:
            return ""
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=8, key=self._key, person=b"scanward").hexdigest()

    def hide(self, text: str) -> str:
        """As `hash`, and remembers the original."""
        hidden = self.hash(text)
        # Without its outer spaces, as it was hashed: a later line must not change what an earlier one reveals.
        self._originals[hidden] = text.strip()
        self._originals.move_to_end(hidden)
        if len(self._originals) > self._most:
            self._originals.popitem(last=False)
        return hidden

    def reveal(self, hidden: str) -> str:
        """The original; LinkError when it is not remembered: a hash must not be taken for an identifier."""
        try:
            return self._originals[hidden]
        except KeyError:
            raise LinkError(
                "an identifier that was not said lately cannot be passed on", hidden, "load it again"
            ) from None
