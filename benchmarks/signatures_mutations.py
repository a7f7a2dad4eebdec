"""Random single changes of signed files, and who says whether one changed anything signed: pydicom, not our reader."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence as Items

IMPLICIT: Final = "1.2.840.10008.1.2"
BIG: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
LONG: Final = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
VRS: Final = (b"LO", b"SH", b"US", b"SS", b"OW", b"OB", b"UN", b"SQ", b"UT", b"PN", b"UI", b"AT", b"ZZ")
SYNTAXES: Final = (
    IMPLICIT, "1.2.840.10008.1.2.1", BIG, DEFLATED, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.98", "1.2.3",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A signed file: its head up to the data set, the data set (inflated), where its elements lie."""

    name: str
    file: bytes = field(repr=False)
    head: bytes = field(repr=False)
    data: bytes = field(repr=False)
    spans: tuple[tuple[int, int, int], ...] = field(repr=False)  # start, value, end
    deflated: bool
    little: bool
    explicit: bool

    @classmethod
    def of(cls, name: str, file: bytes) -> Subject:
        """Take a good file apart."""
        size = struct.unpack_from("<I", file, 140)[0]
        head, data = file[: 144 + size], file[144 + size :]
        uid = str(_meta(file).TransferSyntaxUID)
        if uid == DEFLATED:
            data = zlib.decompressobj(-15).decompress(data)
        little, explicit = uid != BIG, uid != IMPLICIT
        return cls(
            name,
            file,
            head,
            data,
            tuple(_spans(data, little, explicit)),
            uid == DEFLATED,
            little,
            explicit,
        )

    def whole(self, data: bytes) -> bytes:
        """A file again."""
        if not self.deflated:
            return self.head + data
        engine = zlib.compressobj(1, zlib.DEFLATED, -15)
        packed = engine.compress(data) + engine.flush()
        return self.head + packed + b"\0" * (len(packed) % 2)


def _meta(file: bytes) -> Any:
    return pydicom.dcmread(BytesIO(file), stop_before_pixels=True).file_meta


def _spans(data: bytes, little: bool, explicit: bool) -> list[tuple[int, int, int]]:
    found, at, order = [], 0, "<" if little else ">"
    while at < len(data):
        start = at
        if not explicit or data[at + 4 : at + 6] in LONG:
            value = at + (12 if explicit else 8)
            length = struct.unpack_from(f"{order}I", data, value - 4)[0]
        else:
            value, length = at + 8, struct.unpack_from(f"{order}H", data, at + 6)[0]
        at = data.index(b"\xfe\xff\xdd\xe0", value) + 8 if length == 0xFFFFFFFF else value + length
        found.append((start, value, at))
    return found


# --- the changes: of a subject and a source of chance, another file


def _of_bytes(
    change: Callable[[bytearray, random.Random], None],
) -> Callable[[Subject, random.Random], bytes]:
    def made(subject: Subject, chance: random.Random) -> bytes:
        if subject.deflated and chance.random() < 0.7:
            raw = bytearray(subject.data)
            change(raw, chance)
            return subject.whole(bytes(raw))
        raw = bytearray(subject.file)
        change(raw, chance)
        return bytes(raw)

    return made


def _flip(raw: bytearray, chance: random.Random) -> None:
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)


def _set(raw: bytearray, chance: random.Random) -> None:
    raw[chance.randrange(len(raw))] = chance.choice((0, 0xFF, 0xFE, 0x20, chance.randrange(256)))


def _delete(raw: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(raw))
    del raw[at : at + chance.choice((1, 2, 4, 8, chance.randrange(1, 64)))]


def _insert(raw: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(raw) + 1)
    marks = (
        b"\xfe\xff\x00\xe0",
        b"\xfe\xff\x00\xe0\0\0\0\0",
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\xfe\xff\xdd\xe0\0\0\0\0",
    )
    raw[at:at] = chance.choice((*marks, bytes(2), chance.randbytes(chance.choice((1, 2, 4, 8, 12)))))


def _repeat(raw: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(raw)), chance.choice((2, 4, 8, 16, 48))
    raw[at:at] = raw[at : at + size]


def _exchange(raw: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8, 16))
    a, b = (chance.randrange(len(raw) - size) for _ in range(2))
    if abs(a - b) >= size:
        raw[a : a + size], raw[b : b + size] = raw[b : b + size], raw[a : a + size]


def _cut(raw: bytearray, chance: random.Random) -> None:
    del raw[chance.randrange(len(raw)) :]


def _elements(
    change: Callable[[list[bytes], Subject, random.Random], None],
) -> Callable[[Subject, random.Random], bytes]:
    def made(subject: Subject, chance: random.Random) -> bytes:
        parts = [subject.data[start:end] for start, _, end in subject.spans]
        change(parts, subject, chance)
        return subject.whole(b"".join(parts))

    return made


def _drop_element(parts: list[bytes], _: Subject, chance: random.Random) -> None:
    del parts[chance.randrange(len(parts))]


def _double_element(parts: list[bytes], _: Subject, chance: random.Random) -> None:
    at = chance.randrange(len(parts))
    parts.insert(chance.choice((at, chance.randrange(len(parts) + 1))), parts[at])


def _swap_elements(parts: list[bytes], _: Subject, chance: random.Random) -> None:
    a, b = (chance.randrange(len(parts)) for _ in range(2))
    parts[a], parts[b] = parts[b], parts[a]


def _header(tag: tuple[int, int], vr: bytes, length: int, subject: Subject) -> bytes:
    order = "<" if subject.little else ">"
    head = struct.pack(f"{order}HH", *tag)
    if not subject.explicit:
        return head + struct.pack(f"{order}I", length)
    if vr in LONG:
        return head + vr + bytes(2) + struct.pack(f"{order}I", length)
    return head + vr + struct.pack(f"{order}H", length & 0xFFFF)


def _add_element(parts: list[bytes], subject: Subject, chance: random.Random) -> None:
    group = chance.choice((0x0008, 0x0009, 0x0010, 0x0018, 0x0020, 0x0028, 0x0400, 0x2050, 0x6000, 0x7FE1))
    vr, value = chance.choice(VRS), chance.randbytes(2 * chance.randrange(8))
    new = _header((group, chance.randrange(0x10000)), vr, len(value), subject) + value
    order = "<HH" if subject.little else ">HH"
    key = struct.unpack(order, new[:4])
    place = next((n for n, part in enumerate(parts) if struct.unpack(order, part[:4]) > key), len(parts))
    parts.insert(place, new)


def _new_value(parts: list[bytes], subject: Subject, chance: random.Random) -> None:
    at = chance.randrange(len(parts))
    start, value, end = subject.spans[at]
    if value < end:
        raw = bytearray(parts[at])
        raw[chance.randrange(value - start, end - start)] = chance.randrange(256)
        parts[at] = bytes(raw)


def _new_length(parts: list[bytes], subject: Subject, chance: random.Random) -> None:
    at = chance.randrange(len(parts))
    start, value, _ = subject.spans[at]
    body = parts[at][value - start :]
    longer = body + bytes(2) if chance.random() < 0.5 else body[:-2]
    tag = struct.unpack("<HH" if subject.little else ">HH", parts[at][:4])
    told = chance.choice((len(longer), len(body), len(longer) + 2, 0xFFFFFFFF))
    parts[at] = _header(tag, parts[at][4:6], told, subject) + chance.choice((body, longer))


def _new_vr(parts: list[bytes], subject: Subject, chance: random.Random) -> None:
    at = chance.randrange(len(parts))
    start, value, _ = subject.spans[at]
    body = parts[at][value - start :]
    tag = struct.unpack("<HH" if subject.little else ">HH", parts[at][:4])
    parts[at] = _header(tag, chance.choice(VRS), len(body), subject) + body


def _anothers_value(parts: list[bytes], subject: Subject, chance: random.Random) -> None:
    at, of = (chance.randrange(len(parts)) for _ in range(2))
    body = parts[of][subject.spans[of][1] - subject.spans[of][0] :]
    tag = struct.unpack("<HH" if subject.little else ">HH", parts[at][:4])
    parts[at] = _header(tag, parts[at][4:6], len(body), subject) + body


def _other_syntax(subject: Subject, chance: random.Random) -> bytes:
    """In the file meta information, and half the time in the MAC parameters too: no signature covers either."""
    meta = _meta(subject.file)
    was = str(meta.TransferSyntaxUID)
    uid = chance.choice([one for one in SYNTAXES if one != was])
    meta.TransferSyntaxUID = uid
    out = BytesIO()
    pydicom.filewriter.write_file_meta_info(out, meta)
    data, old = subject.data, was.encode() + b"\0" * (len(was) % 2)
    new = uid.encode() + b"\0" * (len(uid) % 2)
    if chance.random() < 0.7 and len(new) <= len(old):
        data = data.replace(old, new.ljust(len(old), b"\0"))
    return bytes(128) + b"DICM" + out.getvalue() + data


CHANGES: Final[dict[str, Callable[[Subject, random.Random], bytes]]] = {
    "bit flipped": _of_bytes(_flip),
    "byte set": _of_bytes(_set),
    "bytes deleted": _of_bytes(_delete),
    "bytes inserted": _of_bytes(_insert),
    "bytes repeated": _of_bytes(_repeat),
    "bytes exchanged": _of_bytes(_exchange),
    "cut off": _of_bytes(_cut),
    "element removed": _elements(_drop_element),
    "element repeated": _elements(_double_element),
    "elements exchanged": _elements(_swap_elements),
    "element added": _elements(_add_element),
    "value changed": _elements(_new_value),
    "length changed": _elements(_new_length),
    "VR changed": _elements(_new_vr),
    "another's value": _elements(_anothers_value),
    "transfer syntax changed": _other_syntax,
}


# --- who says what changed


def told(file: bytes, tags: Collection[int]) -> Any:
    """What pydicom reads in these elements: VR and bytes, sequences item by item; None when it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(BytesIO(file))
            uid = str(data.file_meta.TransferSyntaxUID)  # deflated or not, it is the same data set
            return uid.replace(DEFLATED, DEFLATED[:-3]), [(tag, _told(data, tag)) for tag in sorted(tags)]
        except Exception:  # noqa: BLE001 - of hostile bytes pydicom raises whatever comes
            return None


def _told(data: Any, tag: int) -> Any:
    raw = data.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.VR != "SQ" and raw.value is not None:
        # In implicit VR there is none in the file; a private creator is in no dictionary.
        known = raw.VR or ("LO" if tag >> 16 & 1 else pydicom.datadict.dictionary_VR(tag))
        if known != "SQ":
            return raw.VR, bytes(raw.value)
    one = data[tag]
    if isinstance(one.value, Items):
        return "SQ", [[(int(e.tag), _told(item, e.tag)) for e in item if e.tag.element] for item in one.value]
    return str(one.VR), repr(one.value)


@dataclass
class Tally:
    """What came of changes: verdicts by kind of change, and files called genuine with something signed changed."""

    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[tuple[str, str, bytes]] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    same: int = 0  # changes that gave the same file

    def change(
        self,
        subject: Subject,
        kind: str,
        chance: random.Random,
        verify: Callable[[bytes], Any],
        covered: Collection[int],
    ) -> None:
        """One more."""
        changed = CHANGES[kind](subject, chance)
        if changed == subject.file:
            self.same += 1
            return
        word = str(verify(changed).genuineness)
        self.verdicts.setdefault(kind, Counter())[word] += 1
        if word != "genuine":
            return
        if subject.name not in self.before:
            self.before[subject.name] = told(subject.file, covered)
        before = self.before[subject.name]
        if before is None:
            raise ValueError(f"pydicom cannot read {subject.name}: nobody can say what changes")
        if told(changed, covered) != before:
            self.wrong.append((subject.name, kind, changed))
