"""Chance that its owner can repeat and nobody else can foresee: HMAC-SHA256 in counter mode over a secret.

Who reads a study knows its design and could have its pictures; with a plain seed he could draw the plan again and read
the truth out of it. So chance comes out of 32 secret bytes, which stand in ``key.json`` beside the truth itself: who
has the one has the other. Each use has a stream of its own, named by what it is for, so that a reader more changes
nothing for the others.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

SECRET_BYTES = 32  # as many as SHA-256 has
_TOKEN_BYTES = 16  # 128 bits: not to be guessed, and two never the same


def new_secret() -> bytes:
    """A secret from the operating system."""
    return secrets.token_bytes(SECRET_BYTES)


class Chance:
    """One stream of chance. Blocks are ``HMAC(secret, purpose || counter)``; the same names give the same stream."""

    def __init__(self, secret: bytes, *purpose: str) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes")
        # each part with its length, so that ("a", "bc") and ("ab", "c") differ
        named = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in purpose)
        self._secret = secret
        self._named = named
        self._counter = 0
        self._left = b""

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        while len(self._left) < count:
            block = self._named + self._counter.to_bytes(8, "big")
            self._left += hmac.digest(self._secret, block, hashlib.sha256)
            self._counter += 1
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1, all equally likely (what does not fit evenly is drawn again)."""
        if not 0 < limit <= 1 << 32:
            raise ValueError(f"limit {limit}")
        most = (1 << 64) - (1 << 64) % limit
        while (number := int.from_bytes(self.take(8), "big")) >= most:
            pass
        return number % limit

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in random order (Fisher-Yates, all orders equally likely)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def token(self) -> str:
        """128 bits as 32 hexadecimal digits."""
        return self.take(_TOKEN_BYTES).hex()
