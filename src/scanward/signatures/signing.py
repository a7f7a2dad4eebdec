"""Putting a signature into a file: a digest over slices of it, and two sequences that grow by an item.

Everything else stays byte for byte: nothing is decoded and written again. Of a deflated file the data set is inflated,
spliced and deflated anew.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
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
from scanward.errors import DecodeError, InputError, KeyFileError, SettingsError
from scanward.signatures import macs, pixels
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


def pieces(
    data: bytes | memoryview, signer: Signer, *, at: datetime | None = None
) -> list[bytes | memoryview]:
    """The same in slices of the file and what is new between them, for who writes it at once."""
    parsed = parse(data)
    if wrong := pixels.mislabelled(parsed):
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
    digest = macs.digest(mac)
    for piece in stream(parsed, elements):
        digest.update(piece)
    digest.update(_Writer(Syntax.of(EXPLICIT_LITTLE)).elements(told + ours))
    made = macs.sign(signer.key, mac, digest.digest())
    told += [
        (0x04000115, b"OB", _even(signer.certificate.public_bytes(Encoding.DER), b"\0")),
        (0x04000120, b"OB", _even(made, b"\0")),
    ]
    if signer.timestamps is not None:
        told += [
            (0x04000305, b"CS", b"CMS_TSP "),
            (0x04000310, b"OB", _even(signer.timestamps(made), b"\0")),
        ]
    parameters: list[Plain] = [
        (0x04000005, b"US", number),
        (0x04000010, b"UI", _even(_calculated(parsed.syntax).encode(), b"\0")),
        (0x04000015, b"CS", _even(mac.word.encode(), b" ")),
        (0x04000020, b"AT", [one.tag for one in elements]),
    ]
    spliced = _spliced(
        parsed, [(MAC_PARAMETERS, here.item(parameters)), (DIGITAL_SIGNATURES, here.item(told + ours))], here
    )
    head: list[bytes | memoryview] = [parsed.file[: parsed.offset]]
    if not parsed.syntax.deflated:
        return head + spliced
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(engine.compress(piece) for piece in spliced) + engine.flush()
    return [*head, _even(packed, b"\0")]


def sign_file(path: Path, signer: Signer, out: Path | None = None, *, at: datetime | None = None) -> Path:
    """Sign a file; without ``out`` in place. The new file is whole and on the disk before it takes its name.

    InputError when a file cannot be read or written; else as `sign_bytes`, with the file's name.
    """
    target, data = out or path, whole(path)
    try:
        made = pieces(data, signer, at=at)
    except (DecodeError, SettingsError) as error:
        raise type(error)(error.what, f"{path}: {error.where}", error.todo) from error
    try:
        _replace(target, made, like=path)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(target), "check the folder") from error
    return target


def whole(path: Path) -> bytes:
    """All of a file. InputError when it cannot be read, is too long, or no plain file: a pipe might never end."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream_:
            if not stat.S_ISREG(os.fstat(stream_.fileno()).st_mode):
                raise InputError("no plain file", str(path), "give a file")
            if os.fstat(stream_.fileno()).st_size > SIGNATURE_BOUNDS.file_bytes:
                raise InputError(
                    f"more than {SIGNATURE_BOUNDS.file_bytes} bytes", str(path), "give smaller files"
                )
            return stream_.readall()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check the path") from error


def _replace(target: Path, made: Sequence[bytes | memoryview], like: Path) -> None:
    if target.is_symlink():
        target = target.resolve()
    mode = (target if target.exists() else like).stat().st_mode & 0o7777
    number, name = tempfile.mkstemp(prefix=".signing-", dir=target.parent)
    try:
        with os.fdopen(number, "wb") as stream_:
            stream_.writelines(made)
            stream_.flush()
            os.fsync(stream_.fileno())
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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


def _spliced(parsed: Parsed, added: Sequence[tuple[int, bytes]], here: _Writer) -> list[bytes | memoryview]:
    """The data set with an item more at the end of each of these sequences; ``added`` in the order of tags."""
    out: list[bytes | memoryview] = []
    at, data = 0, parsed.data
    for tag, item in added:
        there = parsed.find(tag)
        if there is None:
            place = next((one.start for one in parsed.elements if one.tag > tag), len(data))
            out += [data[at:place], here.header(tag, b"SQ", len(item)), item]
            at = place
            continue
        if there.items is None or there.vr != b"SQ":
            raise DecodeError("signatures that are no sequence", "data set", "remove them first")
        body = data[there.value : there.value_end]
        if len(body) + len(item) >= UNDEFINED:
            raise DecodeError("signatures longer than a sequence can be", "data set", "remove some")
        out += [data[at : there.start], here.header(tag, b"SQ", len(body) + len(item)), body, item]
        at = there.end
    out.append(data[at:])
    return out
