"""Checkpoints: one signed line that says how far the log went and what its chain head was.

    scanward-checkpoint-1 log=<32 hex> seq=<n> head=<64 hex> wall=<ns> key=<64 hex> sig=<88 base64>

The signature (Ed25519, RFC 8032) is over everything before `` sig=``. A line and not a structure, so that any
place that keeps text can be a witness: a file on another disk, a syslog server, a printer.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from scanward.errors import DecodeError
from scanward.keys import SigningKey, VerifyKey

_LINE: Final = re.compile(
    r"scanward-checkpoint-1 log=(?P<log>[0-9a-f]{32}) seq=(?P<seq>[0-9]{1,20}) head=(?P<head>[0-9a-f]{64})"
    r" wall=(?P<wall>-?[0-9]{1,20}) key=(?P<key>[0-9a-f]{64}) sig=(?P<sig>[A-Za-z0-9+/]{86}==)"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log ``log_id`` went up to record ``seq``, whose hash is ``head``, at ``wall_ns`` since 1970 UTC."""

    log_id: bytes
    seq: int
    head: bytes
    wall_ns: int
    key: str
    signature: bytes = b""

    def _signed_part(self) -> str:
        return (
            f"scanward-checkpoint-1 log={self.log_id.hex()} seq={self.seq} head={self.head.hex()} "
            f"wall={self.wall_ns} key={self.key}"
        )

    @property
    def line(self) -> str:
        """The line, without its end."""
        return f"{self._signed_part()} sig={base64.b64encode(self.signature).decode('ascii')}"

    @staticmethod
    def sign(key: SigningKey, log_id: bytes, seq: int, head: bytes, wall_ns: int) -> Checkpoint:
        """Make one."""
        bare = Checkpoint(log_id, seq, head, wall_ns, key.fingerprint)
        signature = key.sign(bare._signed_part().encode("ascii"))
        return Checkpoint(log_id, seq, head, wall_ns, key.fingerprint, signature)

    @staticmethod
    def parse(text: str) -> Checkpoint:
        """The checkpoint in a line of text, wherever in it it stands; DecodeError when there is none.

        The signature is not looked at: see `signed_by`.
        """
        found = _LINE.search(text)
        if not found:
            raise DecodeError("no checkpoint", text[:80], "a checkpoint begins with 'scanward-checkpoint-1'")
        try:
            signature = base64.b64decode(found["sig"], validate=True)
        except binascii.Error as error:
            raise DecodeError("a checkpoint without a signature", text[:80], "keep it as evidence") from error
        return Checkpoint(
            bytes.fromhex(found["log"]),
            int(found["seq"]),
            bytes.fromhex(found["head"]),
            int(found["wall"]),
            found["key"],
            signature,
        )

    def signed_by(self, keys: Iterable[VerifyKey]) -> bool:
        """Whether one of ``keys`` made its signature."""
        message = self._signed_part().encode("ascii")
        return any(key.fingerprint == self.key and key.verifies(self.signature, message) for key in keys)
