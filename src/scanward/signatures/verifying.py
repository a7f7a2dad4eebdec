"""What a file's signatures are worth: read strictly, every doubt is told, and none is genuine.

In steps: the file is read as the standard has it; each signature's own data are read; the bytes it is over are gathered
anew and compared; whoever signed is looked up; and what good signatures leave out is named.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import DecodeError, KeyFileError, SettingsError
from scanward.signatures import macs, pixels, readings
from scanward.signatures.certificates import Trust, distrusted, signer_of
from scanward.signatures.elements import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    PIXEL_DATA,
    Element,
    Item,
    Parsed,
    Syntax,
    either_sign,
    find,
    named,
    parse,
)
from scanward.signatures.encoding import (
    DIGITAL_SIGNATURES,
    MAC_PARAMETERS,
    NOT_OF_THE_ITEM,
    may_be,
    signable,
    stream,
)
from scanward.signatures.files import content
from scanward.signatures.profiles import SOP_CLASS, SOP_INSTANCE
from scanward.signatures.report import Fits, Genuineness, Report, Signature
from scanward.signatures.signing import CERTIFICATE_TYPE

_DT: Final = "%Y%m%d%H%M%S"


# PS3.3 table C.12-6 (a signature's item), and what our own signers add.
_OF_AN_ITEM: Final = NOT_OF_THE_ITEM | {
    0x04000005, 0x04000100, 0x04000105, 0x04000110, 0x04000401, pixels.CREATOR, pixels.LENGTHS,
}  # fmt: skip


class _Wrong(Exception):
    """A signature that is not as the standard has it; its text is shown."""


def verify_file(path: Path, trust: Trust, *, at: datetime | None = None) -> Report:
    """As `verify_bytes`. InputError when the file cannot be read."""
    with content(path) as data:
        return verify_bytes(data, trust, at=at)


def verify_bytes(data: bytes | memoryview, trust: Trust, *, at: datetime | None = None) -> Report:
    """What is said of a whole file. Never raises for what the file is.

    Parameters
    ----------
    at : when certificates have to be valid; now, if None
    """
    now = (at or datetime.now(UTC)).astimezone(UTC)
    try:
        parsed = parse(data)
        found = tuple(_signatures(parsed, trust, now))
    except DecodeError as error:
        return Report(Genuineness.MALFORMED, reasons=(f"{error.what} ({error.where})",))
    except _Wrong as error:
        return Report(Genuineness.MALFORMED, unsigned=_main_tags(parsed), reasons=(str(error),))
    return _judged(parsed, found, trust)


def _main_tags(parsed: Parsed) -> tuple[int, ...]:
    return tuple(one.tag for one in parsed.elements if one.tag not in (MAC_PARAMETERS, DIGITAL_SIGNATURES))


def _judged(parsed: Parsed, found: Sequence[Signature], trust: Trust) -> Report:
    main = [one for one in found if not one.where]
    good = [one for one in main if one.good]
    covered = frozenset[int]().union(*(one.covered for one in good))
    unsigned = tuple(tag for tag in _main_tags(parsed) if tag not in covered)
    # One signature has to cover all that is required: pieces of two files, each signed in part, are no whole.
    missing = min((trust.required.missing(parsed, one.covered) for one in good), key=len, default=())
    reasons = [f"{_name(one)}: {reason}" for one in found for reason in one.reasons]
    if any(one.fits is Fits.UNKNOWN for one in found):
        word = Genuineness.MALFORMED
    elif any(one.fits is Fits.NO for one in found):
        word = Genuineness.ALTERED
    elif not main:
        word = Genuineness.UNSIGNED
        reasons.append("no signature over the data set" if found else "no signature")
    elif any(_said_in_meta(parsed, tag) != parsed.text(parsed.find(own)) for tag, own in _NAMES):
        word = Genuineness.ALTERED
        reasons.append("the file meta information names another class or instance than the data set")
    elif wrong := pixels.mislabelled(parsed):
        word = Genuineness.ALTERED
        reasons.append(wrong)
    elif wrong := readings.two_ways(parsed):
        word = Genuineness.MALFORMED
        reasons.append(wrong)
    elif not good:
        word = Genuineness.WEAK if any(one.trusted and one.weak for one in main) else Genuineness.UNTRUSTED
    elif missing:
        word = Genuineness.PARTIAL
        reasons.append(
            f"no trusted signature covers all that is required; missing {' '.join(map(named, missing))}"
        )
    else:
        return Report(Genuineness.GENUINE, tuple(found), unsigned)
    return Report(word, tuple(found), unsigned, missing, tuple(reasons))


# Where a file names its object: in the file meta information, in the data set.
_NAMES: Final = ((0x00020002, SOP_CLASS), (0x00020003, SOP_INSTANCE))


def _said_in_meta(parsed: Parsed, tag: int) -> str:
    return parsed.meta.get(tag, b"").decode("latin-1").strip("\0 ")


def _name(one: Signature) -> str:
    return f"signature {one.uid or '?'}{f' of {one.where}' if one.where else ''}"


# --- reading signatures


def _signatures(parsed: Parsed, trust: Trust, now: datetime) -> Iterator[Signature]:
    left = SIGNATURE_BOUNDS.signatures
    for where, elements in _levels(parsed.elements, ""):
        sequence = find(elements, DIGITAL_SIGNATURES)
        if sequence is None:
            continue
        if sequence.items is None or sequence.vr != b"SQ":
            raise _Wrong("signatures that are no sequence")
        parameters = _parameters(parsed, find(elements, MAC_PARAMETERS))
        for item in sequence.items:
            left -= 1
            if left < 0:
                raise _Wrong(f"more than {SIGNATURE_BOUNDS.signatures} signatures")
            yield _Reading(parsed, where, elements, item, parameters, trust, now).signature()


def _levels(elements: tuple[Element, ...], where: str) -> Iterator[tuple[str, tuple[Element, ...]]]:
    """The main data set and every item in it, each with its place."""
    yield where, elements
    for one in elements:
        if one.tag in (MAC_PARAMETERS, DIGITAL_SIGNATURES) or one.vr == b"UN":
            continue
        for number, item in enumerate(one.items or ()):
            inner = f"{where}{'/' if where else ''}{named(one.tag)}[{number + 1}]"
            yield from _levels(item.elements, inner)


@dataclass(frozen=True, slots=True)
class _Parameters:
    syntax: str
    mac: str
    tags: tuple[int, ...]


def _parameters(parsed: Parsed, sequence: Element | None) -> dict[int, _Parameters]:
    if sequence is None or sequence.items is None:
        raise _Wrong("signatures without MAC parameters")
    found: dict[int, _Parameters] = {}
    for item in sequence.items:
        number = _number(parsed, item)
        if number in found:
            raise _Wrong(f"two MAC parameters with the number {number}")
        tags = _bytes(parsed, item, 0x04000020, b"AT")
        if not tags or len(tags) % 4:
            raise _Wrong("a list of elements signed that is none")
        order = "<" if parsed.syntax.little else ">"
        flat = struct.unpack(f"{order}{len(tags) // 2}H", tags)
        listed = tuple(a << 16 | b for a, b in zip(flat[::2], flat[1::2], strict=True))
        if any(b <= a for a, b in pairwise(listed)):
            raise _Wrong("elements signed that are listed twice or out of order")
        found[number] = _Parameters(
            _text(parsed, item, 0x04000010, b"UI"), _text(parsed, item, 0x04000015, b"CS"), listed
        )
    return found


def _number(parsed: Parsed, item: Item) -> int:
    raw = _bytes(parsed, item, 0x04000005, b"US")
    if len(raw) != 2:
        raise _Wrong("a MAC ID number that is none")
    return int(struct.unpack("<H" if parsed.syntax.little else ">H", raw)[0])


def _bytes(parsed: Parsed, item: Item, tag: int, vr: bytes, *, needed: bool = True) -> bytes:
    one = find(item.elements, tag)
    if one is None:
        if needed:
            raise _Wrong(f"a signature without {named(tag)}")
        return b""
    if one.vr != vr or one.items is not None:
        raise _Wrong(f"{named(tag)} of another VR than {vr.decode()}")
    return bytes(parsed.data[one.value : one.value_end])


def _text(parsed: Parsed, item: Item, tag: int, vr: bytes) -> str:
    return _bytes(parsed, item, tag, vr).decode("latin-1").strip("\0 ")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One item of a Digital Signatures Sequence."""

    parsed: Parsed
    where: str
    elements: tuple[Element, ...]
    item: Item
    parameters: dict[int, _Parameters]
    trust: Trust
    now: datetime

    def signature(self) -> Signature:
        parsed, item = self.parsed, self.item
        if strange := [one.tag for one in item.elements if one.tag & 0xFFFF and one.tag not in _OF_AN_ITEM]:
            raise _Wrong(f"a signature with {named(strange[0])} in it, which is none of its own")
        number = _number(parsed, item)
        asked = self.parameters.get(number)
        if asked is None:
            raise _Wrong(f"a signature with the number {number}, which no MAC parameters have")
        uid = _text(parsed, item, 0x04000100, b"UI")
        made = _text(parsed, item, 0x04000105, b"DT")
        if _bytes(parsed, item, 0x04000110, b"CS").strip(b" \0") != CERTIFICATE_TYPE:
            raise _Wrong("a certificate of another type than X509_1993_SIG")
        value = _bytes(parsed, item, 0x04000120, b"OB")
        certificate = signer_of(_bytes(parsed, item, 0x04000115, b"OB"))
        try:
            key = None if certificate is None else certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if certificate is None or key is None:
            raise _Wrong("a certificate that is none")
        mac = macs.MACS.get(asked.mac)
        reasons: list[str] = []
        if mac is None:
            fits = Fits.UNKNOWN
            reasons.append(f"the MAC algorithm {asked.mac[:20]} is not known")
        else:
            fits = self._fits(asked, mac, key, value, reasons)
        stamped, why = self._stamped(value)
        when = stamped or self.now
        # A timestamp that does not hold is a doubt, even where none was needed.
        distrust = [
            *why, *distrusted(certificate, self.trust, when, now=self.now), *self._dated(made, stamped)
        ]  # fmt: skip
        reasons += distrust
        weakness = [
            text for text in (macs.is_weak(key), "" if mac is None or not mac.weak else asked.mac) if text
        ]
        reasons += [f"{text} proves nothing any more" for text in weakness]
        kind = macs.described(key)
        return Signature(
            uid=uid,
            made=made,
            where=self.where,
            signer=certificate.subject.rfc4514_string(),
            issuer=certificate.issuer.rfc4514_string(),
            serial=f"{certificate.serial_number:x}",
            algorithm=f"{kind} with {asked.mac}",
            in_profile=kind.startswith("RSA") and mac is not None,
            fits=fits,
            trusted=not distrust,
            weak=bool(weakness),
            timestamp=stamped,
            covered=_meant(asked.tags),
            reasons=tuple(reasons),
            purpose=self._purpose(),
        )

    def _purpose(self) -> str:
        codes = find(self.item.elements, 0x04000401)
        if codes is None or not codes.items:
            return ""
        return self.parsed.text(find(codes.items[0].elements, 0x00080104))

    def _fits(
        self, asked: _Parameters, mac: macs.Mac, key: PublicKeyTypes, value: bytes, reasons: list[str]
    ) -> Fits:
        syntax = Syntax.of(asked.syntax)
        own = self.parsed.syntax
        if asked.syntax == IMPLICIT_LITTLE or not asked.syntax:
            reasons.append("it says that it is over implicit VR, which the standard forbids")
            return Fits.UNKNOWN
        if syntax.encapsulated != own.encapsulated or (own.encapsulated and asked.syntax != own.uid):
            reasons.append(f"it was made in the transfer syntax {asked.syntax}, this file is in {own.uid}")
            return Fits.NO
        signed, lacking = [], []
        there = {one.tag: one for one in self.elements}
        for tag in asked.tags:
            one = there.get(tag)
            if one is None:
                lacking.append(tag)
            elif not signable(one):
                reasons.append(f"it is over {named(tag)}, which may not be signed here")
                return Fits.UNKNOWN
            else:
                signed.append(one)
        if lacking:
            reasons.append(f"what it signed is gone: {' '.join(map(named, lacking[:8]))}")
            return Fits.NO
        committed = _bytes(parsed := self.parsed, self.item, pixels.LENGTHS, b"LO", needed=False)
        if committed and committed != pixels.lengths(parsed, signed):
            reasons.append("its pixels are in other fragments than those that were signed")
            return Fits.NO
        try:
            for negative, other in self._vrs(signed):
                digested = self._digest(mac, signed, asked.syntax != EXPLICIT_BIG, other, negative)
                if not macs.verify(key, mac, digested, value):
                    continue
                if doubt := self._doubt(signed, committed, negative):
                    reasons.append(doubt)
                    return Fits.UNKNOWN
                return Fits.YES
        except KeyFileError as error:
            reasons.append(error.what)
            return Fits.UNKNOWN
        reasons.append("it does not fit: something that it signed was changed")
        return Fits.NO

    def _doubt(self, signed: Sequence[Element], committed: bytes, negative: bool | None) -> str:
        """Why a signature that fits can be over something else than is read here; "" when it cannot."""
        if negative is not None and readings.sign_matters(self.parsed, signed, negative):
            return "numbers in it were signed with another sign than they are read with here"
        if not committed and pixels.ambiguous(self.parsed, signed):
            return (
                "its pixels can have been in other fragments when they were signed: a signature does not "
                "cover where fragments end"
            )
        return ""

    def _digest(
        self,
        mac: macs.Mac,
        signed: Sequence[Element],
        little: bool,
        other: Sequence[int],
        negative: bool | None,
    ) -> bytes:
        digest = macs.digest(mac)
        for piece in stream(self.parsed, signed, little, other, negative):
            digest.update(piece)
        own = [one for one in self.item.elements if one.tag not in NOT_OF_THE_ITEM and may_be(one.tag)]
        for piece in stream(self.parsed, own, little):
            digest.update(piece)
        found: bytes = digest.digest()
        return found

    def _vrs(self, signed: Sequence[Element]) -> Iterator[tuple[bool | None, tuple[int, ...]]]:
        """In implicit VR some elements may have had one of two VRs when they were signed: first the usual ones."""
        yield None, ()
        if self.parsed.syntax.explicit:
            return
        numbers = any(either_sign(one.tag) for one in _all(signed))
        pixels = any(one.tag == PIXEL_DATA for one in signed)
        for negative in (None, False, True) if numbers else (None,):
            for other in ((), (PIXEL_DATA,)) if pixels else ((),):
                if negative is not None or other:
                    yield negative, other

    def _stamped(self, value: bytes) -> tuple[datetime | None, tuple[str, ...]]:
        token = _bytes(self.parsed, self.item, 0x04000310, b"OB", needed=False)
        if not token:
            return None, ()
        kind = _bytes(self.parsed, self.item, 0x04000305, b"CS", needed=False).strip(b" \0")
        if kind != b"CMS_TSP" or len(token) > SIGNATURE_BOUNDS.timestamp_bytes:
            return None, ("a timestamp of a kind that nobody here knows",)
        from scanward.signatures.timestamps import seen_at

        try:
            seen, why = seen_at(token, value, self.trust, self.now)
            if seen is None and value[-1:] == b"\0":  # the byte that makes its length even was not stamped
                again, _ = seen_at(token, value[:-1], self.trust, self.now)
                return (again, ()) if again is not None else (None, why)
        except SettingsError as error:
            return None, (error.what,)
        return seen, why

    def _dated(self, made: str, stamped: datetime | None) -> Iterator[str]:
        """The date it gives itself must be one, and not lie ahead. It proves nothing."""
        digits, _, zone = made.replace("-", "+").partition("+")
        try:
            told = datetime.strptime(digits.partition(".")[0], _DT).replace(tzinfo=UTC)
            if len(zone) == 4 and zone.isascii() and zone.isdigit():
                offset = timedelta(hours=int(zone[:2]), minutes=int(zone[2:]))
                told += offset if "-" in made else -offset
        except (ValueError, OverflowError):  # the year 9999, and hours west of it
            yield "a date of signing that is none"
            return
        slack = timedelta(seconds=SIGNATURE_BOUNDS.clock_skew_seconds)
        if told > self.now + slack:
            yield "it says that it was made in the future"
        if stamped is not None and told > stamped + slack:
            yield "it says that it was made after its timestamp"


def _meant(tags: Sequence[int]) -> frozenset[int]:
    """What is covered: a private element only with its creator, for another creator makes it something else."""
    listed = frozenset(tags)
    return frozenset(
        tag
        for tag in tags
        if not tag >> 16 & 1 or tag & 0xFFFF < 0x1000 or (tag & 0xFFFF0000 | tag >> 8 & 0xFF) in listed
    )


def _all(elements: Sequence[Element]) -> Iterator[Element]:
    for one in elements:
        yield one
        for item in one.items or ():
            yield from _all(item.elements)
