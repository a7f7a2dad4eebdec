"""Putting a signature into a file: a digest over slices of it, and two sequences that grow by an item.

Everything else stays byte for byte: nothing is decoded and written again. Of a deflated file the data set is inflated,
spliced and deflated anew.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import DecodeError, KeyFileError, SettingsError
from scanward.signatures import macs, pixels, readings
from scanward.signatures.certificates import certificates_in, key_of
from scanward.signatures.elements import (
    EXPLICIT_LITTLE,
    LONG,
    UNDEFINED,
    Parsed,
    Syntax,
    find,
    parse,
)
from scanward.signatures.encoding import DIGITAL_SIGNATURES, MAC_PARAMETERS, stream
from scanward.signatures.files import Piece
from scanward.signatures.profiles import PROFILES, chosen

CERTIFICATE_TYPE: Final = b"X509_1993_SIG"
_MOST_TAGS: Final = 0xFFFE // 4  # an AT value is at most so long in explicit VR
Stamp = Callable[[bytes], bytes]  # a signature -> a timestamp token of RFC 3161


@dataclass(frozen=True)
class Signer:
    """Whose signature it is, and over what. Made by `load`."""

    key: Any = field(repr=False)
    certificate: x509.Certificate
    profile: str = "base"
    mac: str = "SHA256"
    timestamps: Stamp | None = None

    @classmethod
    def load(
        cls,
        key: Path,
        certificate: Path,
        *,
        password: bytes | None = None,
        profile: str = "base",
        mac: str = "SHA256",
        timestamps: Stamp | None = None,
    ) -> Signer:
        """From PEM or DER files.

        Raises
        ------
        KeyFileError
            For what is no key, or one that does not belong to the certificate.
        InputError, SettingsError
            For what is no certificate; for a profile or MAC that is not there.
        """
        if profile not in PROFILES:
            raise SettingsError(f"no profile '{profile}'", "--profile", f"give one of {', '.join(PROFILES)}")
        if mac not in macs.MAKING:
            raise SettingsError(
                f"signatures are not made with '{mac}'", "--mac", f"give one of {', '.join(macs.MAKING)}"
            )
        own, private = certificates_in(certificate)[0], key_of(key, password)
        public = private.public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if public.public_bytes(*form) != own.public_key().public_bytes(*form):
            raise KeyFileError(
                "the key does not belong to the certificate", str(key), "give the one that does"
            )
        macs.sign(private, macs.MACS[mac], macs.digest(macs.MACS[mac]).digest())  # that it can
        return cls(private, own, profile, mac, timestamps)


def sign_bytes(data: bytes | memoryview, signer: Signer, *, at: datetime | None = None) -> bytes:
    """A whole file with a signature more.

    Parameters
    ----------
    at : when it is said to be signed; now, if None

    Raises
    ------
    DecodeError
        When it is no DICOM file, or one that breaks the standard: nobody could verify it.
    SettingsError
        When it has nothing that the profile signs.
    KeyFileError
        For a key that makes no signatures.
    """
    return b"".join(pieces(data, signer, at=at))


def pieces(data: bytes | memoryview, signer: Signer, *, at: datetime | None = None) -> list[Piece]:
    """The same in slices of the file and what is new between them, for who writes it at once."""
    first, rest = begun(data, signer, at)
    return first + rest()


def begun(
    data: bytes | memoryview, signer: Signer, at: datetime | None
) -> tuple[list[Piece], Callable[[], list[Piece]]]:
    """What stands before the signatures, and who signs and gives the rest: it can be written before it is hashed."""
    parsed = parse(data)
    if wrong := pixels.mislabelled(parsed) or readings.two_ways(parsed):
        raise DecodeError(wrong, "pixel data", "nobody could verify it: write it anew")
    elements = chosen(signer.profile, parsed)
    if len(elements) > _MOST_TAGS:
        raise SettingsError(f"more than {_MOST_TAGS} elements to sign", "data set", "take a smaller profile")
    here = _Writer(parsed.syntax)
    number = _free(parsed)
    when = (at or datetime.now(UTC)).astimezone(UTC)
    told = _item(number, when)
    ours: list[Plain] = []  # signed as well, and last in the order of tags
    if pixels.ambiguous(parsed, elements):
        ours = [
            (pixels.CREATOR, b"LO", _even(pixels.CREATOR_NAME, b" ")),
            (pixels.LENGTHS, b"LO", pixels.lengths(parsed, elements)),
        ]
    mac = macs.MACS[signer.mac]
    parameters = here.item(
        [
            (0x04000005, b"US", number),
            (0x04000010, b"UI", _even(_calculated(parsed.syntax).encode(), b"\0")),
            (0x04000015, b"CS", _even(mac.word.encode(), b" ")),
            (0x04000020, b"AT", [one.tag for one in elements]),
        ]
    )
    whole, before, after = (
        parsed.data,
        _Place.of(parsed, MAC_PARAMETERS),
        _Place.of(parsed, DIGITAL_SIGNATURES),
    )
    first: list[Piece] = [
        whole[: before.start], *before.grown(parameters, here), whole[before.end : after.start]
    ]  # fmt: skip

    def rest() -> list[Piece]:
        digest = macs.digest(mac)
        for piece in stream(parsed, elements):
            digest.update(piece)
        digest.update(_Writer(Syntax.of(EXPLICIT_LITTLE)).elements(told + ours))
        made = here.item(told + _proof(signer, mac, digest.digest()) + ours)
        return [*after.grown(made, here), whole[after.end :]]

    head: Piece = parsed.file[: parsed.offset]
    if parsed.syntax.deflated:
        return [head], lambda: [_deflated(first + rest())]
    return [head, *first], rest


def _proof(signer: Signer, mac: macs.Mac, digested: bytes) -> list[Plain]:
    """Certificate and signature, and a timestamp of who has an authority for it."""
    made = macs.sign(signer.key, mac, digested)
    told: list[Plain] = [
        (0x04000115, b"OB", _even(signer.certificate.public_bytes(Encoding.DER), b"\0")),
        (0x04000120, b"OB", _even(made, b"\0")),
    ]
    if signer.timestamps is not None:
        told += [
            (0x04000305, b"CS", b"CMS_TSP "),
            (0x04000310, b"OB", _even(signer.timestamps(made), b"\0")),
        ]
    return told


def _deflated(spliced: Sequence[Piece]) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return _even(b"".join(engine.compress(piece) for piece in spliced) + engine.flush(), b"\0")


# --- what is new

Plain = tuple[int, bytes, Any]  # tag, VR, value: bytes, a number for US, tags for AT


def _item(number: int, when: datetime) -> list[Plain]:
    return [
        (0x04000005, b"US", number),
        (0x04000100, b"UI", _even(f"2.25.{uuid.uuid4().int}".encode(), b"\0")),
        (0x04000105, b"DT", _even(f"{when:%Y%m%d%H%M%S}.{when.microsecond:06d}+0000".encode(), b" ")),
        (0x04000110, b"CS", _even(CERTIFICATE_TYPE, b" ")),
    ]


def _calculated(syntax: Syntax) -> str:
    """The MAC calculation transfer syntax: never implicit, never big endian here (PS3.3 table C.12-6)."""
    return syntax.uid if syntax.encapsulated or syntax.deflated else EXPLICIT_LITTLE


def _even(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value


def _free(parsed: Parsed) -> int:
    """A MAC ID number that no item has yet."""
    used = set()
    sequence = parsed.find(MAC_PARAMETERS)
    for item in (sequence.items or ()) if sequence is not None else ():
        one = find(item.elements, 0x04000005)
        if one is not None and one.value_end - one.value == 2:
            used.add(struct.unpack_from("<H" if parsed.syntax.little else ">H", parsed.data, one.value)[0])
    if len(used) >= SIGNATURE_BOUNDS.signatures:
        raise SettingsError("it has as many signatures as anybody verifies", "data set", "remove some")
    return next(number for number in range(0x10000) if number not in used)


class _Writer:
    """Writes elements as a data set of this transfer syntax has them."""

    def __init__(self, syntax: Syntax) -> None:
        self._explicit, self._order = syntax.explicit, "<" if syntax.little else ">"

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        head = struct.pack(self._order + "HH", tag >> 16, tag & 0xFFFF)
        if not self._explicit:
            return head + struct.pack(self._order + "I", length)
        if vr in LONG:
            return head + vr + b"\0\0" + struct.pack(self._order + "I", length)
        return head + vr + struct.pack(self._order + "H", length)

    def elements(self, plain: Sequence[Plain]) -> bytes:
        out = []
        for tag, vr, value in plain:
            if vr == b"US":
                value = struct.pack(self._order + "H", value)
            elif vr == b"AT":
                value = b"".join(struct.pack(self._order + "HH", t >> 16, t & 0xFFFF) for t in value)
            out.append(self.header(tag, vr, len(value)) + value)
        return b"".join(out)

    def item(self, plain: Sequence[Plain]) -> bytes:
        inner = self.elements(plain)
        return struct.pack(self._order + "HHI", 0xFFFE, 0xE000, len(inner)) + inner


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a sequence of signatures stands, data[start:end], or is to stand: then start is end."""

    tag: int
    start: int
    body: memoryview
    end: int

    @classmethod
    def of(cls, parsed: Parsed, tag: int) -> _Place:
        there = parsed.find(tag)
        if there is None:
            at = next((one.start for one in parsed.elements if one.tag > tag), len(parsed.data))
            return cls(tag, at, parsed.data[:0], at)
        if there.items is None or there.vr != b"SQ":
            raise DecodeError("signatures that are no sequence", "data set", "remove them first")
        return cls(tag, there.start, parsed.data[there.value : there.value_end], there.end)

    def grown(self, item: bytes, here: _Writer) -> list[Piece]:
        """The sequence with an item more at its end."""
        length = len(self.body) + len(item)
        if length >= UNDEFINED:
            raise DecodeError("signatures longer than a sequence can be", "data set", "remove some")
        return [here.header(self.tag, b"SQ", length), self.body, item]
