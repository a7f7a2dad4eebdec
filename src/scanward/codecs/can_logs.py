"""Logs of CAN frames: candump's (``candump -L``) and Vector's ASC, read and written line by line. Pure text.

Every line is one event of one bus. What is no frame (comments, statistics, bus events) is skipped; a line that begins
like a frame and is none gives our error with its number. FD and error frames are read, so that a replay can refuse
them.

Sources: can-utils ``candump`` and ``log2asc``; the form of ASC is known from the files that tools write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from scanward.config import CAN_BOUNDS, CanBounds
from scanward.errors import DecodeError
from scanward.transport.can_frames import (
    CLASSICAL_BYTES,
    EXTENDED_IDS,
    FD_LENGTHS,
    STANDARD_IDS,
    CanFrame,
)

_ERROR_FLAG = 0x20000000
_BUS_ERROR = 0x00000080  # the class that an error frame of no known class is written with


@dataclass(frozen=True, slots=True)
class Logged:
    """One frame of a log.

    Attributes
    ----------
    time : float
        Seconds: since the epoch in candump's logs, since the start of the measurement in ASC.
    channel : str
        Name (candump) or number from 1 (ASC) of the bus.
    sent : bool
        Sent by whoever kept the log; False when it was received.
    """

    time: float
    channel: str
    frame: CanFrame
    sent: bool = False


# --- candump

_CANDUMP = re.compile(
    r"\((?P<time>\d+\.\d+)\) +(?P<channel>[^ #]{1,32}) +(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})#(?P<data>[^ ]*)"
    r"(?: +(?P<way>[RTrt]))?",
    re.ASCII,
)


def read_candump(lines: Iterable[str], bounds: CanBounds = CAN_BOUNDS) -> Iterator[Logged]:
    """Frames of a ``candump -L`` log, in the order in which they stand.

    Raises
    ------
    DecodeError
        For a line that is neither empty nor a frame, with its number.
    """
    for number, line in _bounded(lines, bounds):
        if not line:
            continue
        found = _CANDUMP.fullmatch(line)
        if found is None:
            raise _error("not a line of candump -L", number)
        identifier = int(found["id"], 16)
        wide = len(found["id"]) == 8
        error = bool(wide and identifier & _ERROR_FLAG)
        if identifier > (STANDARD_IDS if not wide else EXTENDED_IDS | (_ERROR_FLAG if error else 0)):
            raise _error(f"no CAN identifier: {found['id']}", number)
        frame = _candump_frame(identifier & EXTENDED_IDS, wide, error, found["data"], number)
        yield Logged(float(found["time"]), found["channel"], frame, (found["way"] or "R").upper() == "T")


def _candump_frame(identifier: int, wide: bool, error: bool, told: str, number: int) -> CanFrame:
    if error:
        return CanFrame(0, error=True)
    if told[:1] in ("R", "r"):
        if told[1:] not in ("", *(str(n) for n in range(9))):
            raise _error(f"a remote frame {told!r}", number)
        return CanFrame(identifier, b"", True, wide, int(told[1:] or 0))
    fd = told.startswith("#")
    text = told[2:] if fd else told
    if fd and re.fullmatch(r"#[0-9A-Fa-f].*", told, re.ASCII) is None:
        raise _error("an FD frame without flags", number)
    return CanFrame(identifier, _hex(text.replace(".", ""), fd, number), extended=wide, fd=fd)


def _hex(text: str, fd: bool, number: int) -> bytes:
    if re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", text, re.ASCII) is None:
        raise _error("data that are no bytes", number)
    data = bytes.fromhex(text)
    if len(data) > CLASSICAL_BYTES and not (fd and len(data) in FD_LENGTHS):
        raise _error(f"{len(data)} bytes of data", number)
    return data


def candump_line(logged: Logged) -> str:
    """One line, without its line feed; flags of an FD frame are written as 0."""
    way = "T" if logged.sent else "R"
    if logged.frame.error:
        return f"({logged.time:f}) {logged.channel} {_ERROR_FLAG | _BUS_ERROR:08X}#"
    text = str(logged.frame)
    return f"({logged.time:f}) {logged.channel} {text} {way}"


# --- ASC

_ASC_FRAME = re.compile(r"(?P<time>\d+\.\d+)\s+(?P<channel>\d{1,3}|CANFD)\s+(?P<rest>.+)", re.ASCII)
_ASC_BASE = re.compile(
    r"base\s+(?P<base>hex|dec)\s+timestamps\s+(?P<times>absolute|relative)", re.ASCII | re.I
)
_ASC_OTHER = re.compile(
    r"(?:\w+:|Statistic|Status|Chip|Start of|Log trigger|CAN |TFS|SV|J1939)", re.I | re.ASCII
)


def read_asc(lines: Iterable[str], bounds: CanBounds = CAN_BOUNDS) -> Iterator[Logged]:
    """Frames of a Vector ASC log; times as the file has them, made absolute where it says "relative".

    Raises
    ------
    DecodeError
        For a line that begins like a frame and is none, with its number.
    """
    base, relative, now = 16, False, 0.0
    for number, line in _bounded(lines, bounds):
        if (header := _ASC_BASE.match(line)) is not None:
            base = 16 if header["base"].lower() == "hex" else 10
            relative = header["times"].lower() == "relative"
            continue
        found = _ASC_FRAME.fullmatch(line)
        if found is None or _ASC_OTHER.match(found["rest"]):
            continue
        time = float(found["time"])
        now = now + time if relative else time
        words = found["rest"].split()
        if found["channel"] == "CANFD":
            yield _asc_fd(words, now, base, number)
        else:
            logged = _asc_classical(words, now, found["channel"], base, number)
            if logged is not None:
                yield logged


def _asc_classical(words: list[str], now: float, channel: str, base: int, number: int) -> Logged | None:
    if words[0].lower() == "errorframe":
        return Logged(now, channel, CanFrame(0, error=True))
    if len(words) < 3 or words[1].lower() not in ("rx", "tx"):
        return None  # another kind of event
    identifier, wide = _asc_id(words[0], base, number)
    sent, kind = words[1].lower() == "tx", words[2].lower()
    length = _asc_number(words[3], base, number) if len(words) > 3 and words[3].isalnum() else 0
    if kind == "d" and CLASSICAL_BYTES < length <= 15:
        length = CLASSICAL_BYTES  # a length code of 9 to 15 is 8 bytes (ISO 11898-1, 10.4.2.4)
    if kind == "r":
        if length > CLASSICAL_BYTES:
            raise _error(f"a remote frame of {length} bytes", number)
        return Logged(now, channel, CanFrame(identifier, b"", True, wide, length), sent)
    if kind != "d" or length > CLASSICAL_BYTES or len(words) < 4 + length:
        raise _error("a frame without its data", number)
    data = bytes(_asc_byte(word, base, number) for word in words[4 : 4 + length])
    return Logged(now, channel, CanFrame(identifier, data, extended=wide), sent)


def _asc_fd(words: list[str], now: float, base: int, number: int) -> Logged:
    """``channel Rx|Tx id [name] brs esi dlc length bytes ...``"""
    try:
        channel, way, identifier = words[:3]
        at = 3 if words[3] in ("0", "1") else 4
        length = int(words[at + 3])
        data = bytes(_asc_byte(word, base, number) for word in words[at + 4 : at + 4 + length])
    except (ValueError, IndexError):
        raise _error("an FD frame that is none", number) from None
    if len(data) != length or length not in FD_LENGTHS:
        raise _error("an FD frame without its data", number)
    name, wide = _asc_id(identifier, base, number)
    return Logged(now, channel, CanFrame(name, data, extended=wide, fd=True), way.lower() == "tx")


def _asc_id(word: str, base: int, number: int) -> tuple[int, bool]:
    wide = word.endswith(("x", "X"))
    found = _asc_number(word[:-1] if wide else word, base, number)
    if found > (EXTENDED_IDS if wide else STANDARD_IDS):
        raise _error(f"no CAN identifier: {word}", number)
    return found, wide


def _asc_byte(word: str, base: int, number: int) -> int:
    found = _asc_number(word, base, number)
    if found > 0xFF:
        raise _error(f"{word} is no byte", number)
    return found


def _asc_number(word: str, base: int, number: int) -> int:
    digits = r"[0-9A-Fa-f]{1,8}" if base == 16 else r"[0-9]{1,10}"
    if re.fullmatch(digits, word, re.ASCII) is None:
        raise _error(f"{word[:20]!r} is no number", number)
    return int(word, base)


def asc_header(began: float) -> str:
    """The lines before the first frame; ``began`` in seconds since the epoch (UTC is written)."""
    date = datetime.fromtimestamp(began, UTC)
    day = f"{_DAYS[date.weekday()]} {_MONTHS[date.month - 1]} {date:%d}"
    half = "am" if date.hour < 12 else "pm"
    text = f"{day} {date.hour % 12 or 12:02d}:{date:%M:%S}.{date.microsecond // 1000:03d} {half} {date:%Y}"
    return (
        f"date {text}\nbase hex  timestamps absolute\ninternal events logged\n"
        f"Begin Triggerblock {text}\n 0.000000 Start of measurement\n"
    )


def asc_line(logged: Logged) -> str:
    """One line, without its line feed; ``time`` is seconds since the start, ``channel`` a number from 1."""
    frame = logged.frame
    start = f"{logged.time: 9.6f}"
    if frame.error:
        return f"{start} {logged.channel}  ErrorFrame"
    way = "Tx" if logged.sent else "Rx"
    name = f"{frame.id:X}{'x' if frame.extended else ''}"
    data = frame.data.hex(" ").upper()
    if frame.fd:
        code = sorted(FD_LENGTHS).index(len(frame.data))
        return f"{start} CANFD {logged.channel:>3} {way:<4} {name:>8} {'':>32} 0 0 {code:x} {len(frame.data):>2} {data}"
    kind = f"r {frame.dlc:x}" if frame.remote else f"d {len(frame.data):x} {data}"
    return f"{start} {logged.channel}  {name:<15} {way:<4} {kind}".rstrip()


ASC_END = "End TriggerBlock\n"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _bounded(lines: Iterable[str], bounds: CanBounds) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if number > bounds.log_lines:
            raise _error(f"more than {bounds.log_lines} lines", number)
        if len(line) > bounds.log_line_chars:
            raise _error(f"a line of more than {bounds.log_line_chars} characters", number)
        yield number, line.strip()


def _error(what: str, number: int) -> DecodeError:
    return DecodeError(what, f"line {number} of a CAN log", "give a log of candump -L or an ASC file")
